"""A real PostgreSQL cluster for tests, with the roles, privileges and functions of a Supabase project."""

from __future__ import annotations

import functools
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

HOW_TO_INSTALL = "no PostgreSQL found, or no account to run it (Debian: apt-get install postgresql)"
REQUIRED_VARIABLE = "MEMX_TEST_POSTGRES"
"""Set where the tests on PostgreSQL must not be skipped."""

_START_TIMEOUT = 60.0

_ROLES = """
    create role anon nologin noinherit;
    create role authenticated nologin noinherit;
    create role service_role nologin noinherit bypassrls;
"""
_PROJECT = """
    grant usage on schema public to anon, authenticated, service_role;
    alter default privileges in schema public grant all on tables to postgres, anon, authenticated, service_role;
    alter default privileges in schema public grant all on functions to postgres, anon, authenticated, service_role;
    alter default privileges in schema public grant all on sequences to postgres, anon, authenticated, service_role;
    create schema auth;
    grant usage on schema auth to anon, authenticated, service_role;
    create function auth.uid() returns uuid language sql stable as $$
        select (nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub')::uuid
    $$;
"""


class SqlError(Exception):
    """PostgreSQL refused a statement; the text is its message."""


class PostgresServer:
    """One cluster in a folder of its own, reached by a Unix socket there and by nothing else.

    PostgreSQL refuses to run as root, so a test run by root starts it as the account ``postgres``.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="memx-pg-"))
        self._data = self._folder / "data"
        self._account = "postgres" if os.getuid() == 0 else None

    def __enter__(self) -> Self:
        if self._account:
            entry = pwd.getpwnam(self._account)
            os.chown(self._folder, entry.pw_uid, entry.pw_gid)
        self._run(
            "initdb", "--auth=trust", "--username=postgres", "--no-sync", "-D", str(self._data)
        )
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off"
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "--wait", "-D", str(self._data), "-o", options, "-l", log)
        self.psql("postgres", _ROLES)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate", "-D", str(self._data))
        shutil.rmtree(self._folder)

    def project(self, name: str) -> SqlProject:
        """Make a database as a new Supabase project has it."""
        self.psql("postgres", f'create database "{name}"')
        project = SqlProject(self, name)
        project.sql(_PROJECT)
        return project

    def psql(self, database: str, text: str) -> str:
        """Run SQL as the superuser; return the rows, unaligned.

        Raises:
            SqlError: A statement was refused; none after it has run.
        """
        command = (_binary("psql"), "-h", str(self._folder), "-U", "postgres", "-d", database)
        options = (
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-v",
            "VERBOSITY=terse",
            "-f",
            "-",
        )
        done = subprocess.run(
            [*command, *options],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise SqlError(done.stderr.strip())
        return done.stdout.strip()

    def _run(self, program: str, *arguments: str) -> None:
        # `pg_ctl start` hands its output on to the server, so a pipe would never end.
        with (self._folder / f"{program}.log").open("ab") as output:
            done = subprocess.run(
                [_binary(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self._account,
                group=self._account,
                extra_groups=[] if self._account else None,
                cwd=self._folder,
                timeout=_START_TIMEOUT,
                check=False,
            )
        if done.returncode:
            raise RuntimeError((self._folder / f"{program}.log").read_text(errors="replace"))


class SqlProject:
    """A database of a cluster, as a Supabase project."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self._server = server
        self._name = name

    def sql(self, text: str) -> str:
        """Run SQL as the owner of the project."""
        return self._server.psql(self._name, text)

    def sql_as(self, role: str, text: str, user: str | None = None) -> str:
        """Run SQL in a transaction as PostgREST does: with the role and the claims of a token.

        Raises:
            SqlError: A statement was refused.
        """
        claims = json.dumps({"sub": user} if user else {})
        return self.sql(
            f"begin; set local role {role}; "
            f"do $$ begin perform set_config('request.jwt.claims', '{claims}', true); end $$; {text}; commit"
        )


def is_required() -> bool:
    """Whether this run must cover PostgreSQL."""
    return os.environ.get(REQUIRED_VARIABLE, "") not in ("", "0")


def is_found() -> bool:
    """Whether PostgreSQL is here, and an account that may run it."""
    try:
        _binary("initdb")
        _binary("psql")
    except FileNotFoundError:
        return False
    if os.getuid() != 0:
        return True
    return any(entry.pw_name == "postgres" for entry in pwd.getpwall())


@functools.cache
def _binary(program: str) -> str:
    """Find a program of PostgreSQL; Debian keeps those of the server out of PATH."""
    found = shutil.which(program)
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=_version)
    if not found and not places:
        raise FileNotFoundError(program)
    return found or str(places[-1])


def _version(path: Path) -> int:
    name = path.parent.parent.name
    return int(name) if name.isdigit() else 0
