"""``server/supabase/api_keys.sql`` on a real PostgreSQL with Supabase's roles and default privileges."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import postgres_server
from tests.support.postgres_server import PostgresServer, SqlError, SqlProject

SCRIPT = (Path(__file__).resolve().parents[2] / "server/supabase/api_keys.sql").read_text()
ANN, BOB = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
OURS = {"see your own keys", "withdraw your own keys"}
PRIVILEGES = ("select", "insert", "update", "delete", "truncate", "references", "trigger")

OLDER_TABLE = """
    create table public.api_keys (
        key text primary key, active boolean not null default true, scopes jsonb, user_id {type},
        created_at timestamptz not null default now()
    );
    alter table public.api_keys enable row level security;
    create policy "anyone reads" on public.api_keys for select using (true);
    create policy "Users can insert their own keys" on public.api_keys for insert to authenticated with check (true);
    create policy "Users can update their own keys" on public.api_keys for update to authenticated using (true);
    create policy "see your own keys" on public.api_keys for all to authenticated using (true);
    grant all on public.api_keys to public;
    grant update (scopes), references (key) on public.api_keys to authenticated;
    insert into public.api_keys (key, user_id) values ('older-plain-key', '11111111-1111-4111-8111-111111111111');
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresServer]:
    if not postgres_server.is_found():
        if postgres_server.is_required():
            pytest.fail(postgres_server.HOW_TO_INSTALL)
        pytest.skip(postgres_server.HOW_TO_INSTALL)
    with PostgresServer() as server:
        yield server


@pytest.fixture
def project(cluster: PostgresServer) -> SqlProject:
    return cluster.project(f"project-{secrets.token_hex(4)}")


@pytest.fixture(params=["new", "older", "older, with text ids"])
def table(request: pytest.FixtureRequest, project: SqlProject) -> SqlProject:
    """A project in which the script has been run, once over nothing and once over each older table."""
    if request.param != "new":
        project.sql(OLDER_TABLE.format(type="text" if "text" in request.param else "uuid"))
    project.sql(SCRIPT)
    project.sql(
        f"insert into api_keys (key, user_id, agent) values ('key-of-ann', '{ANN}', 'ann'), "
        f"('key-of-bob', '{BOB}', 'bob')"
    )
    return project


def privileges(project: SqlProject, role: str) -> set[str]:
    """What a role may do with the table or with any of its columns."""
    columns = (
        "select bool_or(has_column_privilege('{}', 'api_keys', attname, '{}')) from pg_attribute "
        "where attrelid = 'api_keys'::regclass and attnum > 0 and not attisdropped"
    )
    found = set()
    for privilege in PRIVILEGES:
        questions = [f"select has_table_privilege('{role}', 'api_keys', '{privilege}')"]
        if privilege in ("select", "insert", "update", "references"):
            questions.append(columns.format(role, privilege))
        if any(project.sql(each) == "t" for each in questions):
            found.add(privilege)
    return found


def refuse(project: SqlProject, role: str, statement: str) -> None:
    with pytest.raises(SqlError, match="permission denied"):
        project.sql_as(role, statement, user=ANN)


def test_users_may_read_and_delete_and_nothing_else(table: SqlProject) -> None:
    held = {role: privileges(table, role) for role in ("anon", "authenticated", "service_role")}
    assert held["anon"] == set()
    assert held["authenticated"] == {"select", "delete"}
    assert held["service_role"] >= {"select", "insert", "update", "delete"}


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_nobody_but_the_server_writes_a_row(table: SqlProject, role: str) -> None:
    insert = f"insert into api_keys (key, user_id, scopes) values ('made-up-key', '{ANN}', '{{}}')"
    update = 'update api_keys set scopes = \'{"read": ["*"]}\', active = true'
    for statement in (insert, update, "truncate api_keys", "truncate api_keys cascade"):
        refuse(table, role, statement)
    assert int(table.sql("select count(*) from api_keys")) >= 2


def test_a_user_sees_and_withdraws_their_own_keys_only(table: SqlProject) -> None:
    assert "key-of-bob" not in table.sql_as("authenticated", "select key from api_keys", user=ANN)
    assert "key-of-ann" in table.sql_as("authenticated", "select key from api_keys", user=ANN)
    assert table.sql_as("authenticated", "select key from api_keys") == ""  # a token of no user
    refuse(table, "anon", "select key from api_keys")
    table.sql_as("authenticated", "delete from api_keys", user=ANN)
    left = table.sql("select key from api_keys").split()
    assert left == ["key-of-bob"]


def test_no_older_policy_stands(table: SqlProject) -> None:
    policies = table.sql("select policyname from pg_policies where tablename = 'api_keys'")
    assert set(policies.splitlines()) == OURS
    commands = table.sql("select cmd from pg_policies where tablename = 'api_keys' order by 1")
    assert commands.split() == ["DELETE", "SELECT"]


def test_a_policy_that_restricts_further_is_left(project: SqlProject) -> None:
    project.sql(OLDER_TABLE.format(type="uuid"))
    project.sql(
        "create policy mine on public.api_keys as restrictive for select to authenticated using (active)"
    )
    project.sql(SCRIPT)
    policies = project.sql("select policyname from pg_policies where tablename = 'api_keys'")
    assert set(policies.splitlines()) == {*OURS, "mine"}


def test_it_may_be_run_again_and_keeps_the_rows(table: SqlProject) -> None:
    rows = table.sql("select * from api_keys order by key")
    table.sql(SCRIPT)
    assert table.sql("select * from api_keys order by key") == rows
    assert "key-of-ann" in rows


def test_the_server_writes_what_its_command_makes(table: SqlProject) -> None:
    table.sql_as(
        "service_role",
        "insert into api_keys (key, active, scopes, user_id, agent, expires_at) values ('sha256:aa', true, "
        f"'{{\"read\": [\"plan:*\"]}}', '{ANN}', 'critic', '2030-01-01T00:00:00+00:00')",
    )
    table.sql_as("service_role", "update api_keys set active = false where key = 'sha256:aa'")
    assert (
        table.sql_as("service_role", "select active from api_keys where key = 'sha256:aa'") == "f"
    )


@pytest.mark.parametrize("agent", ["a/b", "a\nb", "a\x1b[2Jb", "", "x" * 129])
def test_an_agent_that_could_pass_for_something_else_is_refused(
    table: SqlProject, agent: str
) -> None:
    with pytest.raises(SqlError, match="agent"):
        table.sql(f"insert into api_keys (key, agent) values ('sha256:bb', '{agent}')")
