-- The table from which a memX server reads its API keys, when SUPABASE_URL and SUPABASE_SERVICE_KEY are set.
-- Run it in the SQL editor of the Supabase project: once for a new table, and again after an update of memX or over a
-- table that the first memX made. It keeps all rows. The tests run it on PostgreSQL (tests/access/test_supabase_sql.py).

create table if not exists public.api_keys (
    -- Names a row where its key must not appear: `memx api-keys revoke` selects the row by it in a URL.
    id         uuid not null default gen_random_uuid(),
    -- 'sha256:' and the SHA-256 of the API key in hexadecimal. `memx api-keys create --supabase` writes this form and shows
    -- the key itself once. Rows that hold the key in plain text are read only where MEMX_SUPABASE_PLAIN_KEYS=1.
    key        text primary key check (length(key) between 8 and 512),
    active     boolean not null default true,
    -- {"read": ["pattern", ...], "write": [...], "admin": [...]}; without "admin", "write" stands for it.
    scopes     jsonb not null default '{"read": [], "write": []}'::jsonb,
    -- Names the space whose keys it sees; without one it is 'default'.
    user_id    uuid,
    -- What writes are attributed to; without one, the first characters of the hash.
    agent      text,
    expires_at timestamptz,
    created_at timestamptz not null default now()
);

-- Columns that older tables lack.
alter table public.api_keys add column if not exists id uuid not null default gen_random_uuid();
alter table public.api_keys add column if not exists agent text;
alter table public.api_keys add column if not exists expires_at timestamptz;

-- The server refuses a row whose agent could pass for something else: a slash separates a principal from its agent, and
-- control characters are obeyed by terminals. 'not valid' leaves rows alone that an older table holds already.
alter table public.api_keys drop constraint if exists api_keys_agent_check;
alter table public.api_keys add constraint api_keys_agent_check
    check (length(agent) between 1 and 128 and agent !~ '[/[:cntrl:]]') not valid;

create index if not exists api_keys_user_id on public.api_keys (user_id);

-- The server uses the service key, which row level security does not hold back. Everybody else sees their own rows only,
-- and never writes one: a row says what its key may do.
alter table public.api_keys enable row level security;

-- Supabase grants every privilege on a new table to anon and authenticated. Row level security holds back neither
-- TRUNCATE nor REFERENCES nor TRIGGER, so the privileges are taken away, those on single columns included.
revoke all on table public.api_keys from public, anon, authenticated;
grant select, delete on table public.api_keys to authenticated;
grant select, insert, update, delete on table public.api_keys to service_role;

-- Permissive policies add up: one that an older table has would open it beside those below. Restrictive ones stay.
do $$
declare
    found name;
begin
    for found in
        select policyname from pg_catalog.pg_policies
        where schemaname = 'public' and tablename = 'api_keys' and permissive = 'PERMISSIVE'
    loop
        execute format('drop policy %I on public.api_keys', found);
    end loop;
end
$$;

-- Compared as texts: the first memX's tables may hold the user's id as one.
create policy "see your own keys" on public.api_keys
    for select to authenticated using (user_id::text = auth.uid()::text);

create policy "withdraw your own keys" on public.api_keys
    for delete to authenticated using (user_id::text = auth.uid()::text);
