-- The table from which a memX server reads its API keys, when SUPABASE_URL and SUPABASE_SERVICE_KEY are set.
-- Run it once in the SQL editor of the Supabase project. It may be run again.

create table if not exists public.api_keys (
    -- Names a row where its key must not appear: `memx keys revoke` asks for it by URL.
    id         uuid not null default gen_random_uuid(),
    -- 'sha256:' and the SHA-256 of the API key in hexadecimal. `memx keys create --supabase` writes this form and shows
    -- the key itself once. Rows that hold the key in plain text are read only where MEMX_SUPABASE_PLAIN_KEYS=1.
    key        text primary key check (length(key) between 8 and 512),
    active     boolean not null default true,
    -- {"read": ["pattern", ...], "write": [...], "admin": [...]}; without "admin", "write" stands for it.
    scopes     jsonb not null default '{"read": [], "write": []}'::jsonb,
    -- Names the space whose keys it sees; without one it is 'default'.
    user_id    uuid,
    -- What writes are attributed to; without one, the first characters of the hash.
    agent      text check (length(agent) between 1 and 128),
    expires_at timestamptz,
    created_at timestamptz not null default now()
);

alter table public.api_keys add column if not exists id uuid not null default gen_random_uuid();
alter table public.api_keys add column if not exists agent text;
alter table public.api_keys add column if not exists expires_at timestamptz;

create index if not exists api_keys_user_id on public.api_keys (user_id);

-- The server uses the service key, which row level security does not hold back. Everybody else sees their own rows only,
-- and never writes one: a row says what its key may do.
alter table public.api_keys enable row level security;

drop policy if exists "see your own keys" on public.api_keys;
create policy "see your own keys" on public.api_keys
    for select to authenticated using (user_id = auth.uid());

drop policy if exists "withdraw your own keys" on public.api_keys;
create policy "withdraw your own keys" on public.api_keys
    for delete to authenticated using (user_id = auth.uid());
