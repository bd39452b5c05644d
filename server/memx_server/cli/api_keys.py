"""``memx api-keys create|list|revoke``: the API keys of a server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.values import printable
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_pattern
from memx_server.auth.grants import Grant
from memx_server.auth.key_store import (
    KeyStore,
    KeyStoreUnavailable,
    StoredKey,
    find_keys,
    new_key,
    parse_expiry,
    stored_form,
)
from memx_server.domain.access import DEFAULT_SPACE

_PANEL = "Server"

AclOption = Annotated[
    Path | None,
    typer.Option(
        "--acl", metavar="FILE", envvar="MEMX_ACL_FILE", help="The file. Default: config/acl.json."
    ),
]
SupabaseOption = Annotated[
    bool,
    typer.Option(
        "--supabase", help="In the table of SUPABASE_URL and SUPABASE_SERVICE_KEY, not in a file."
    ),
]
PatternOption = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="May be given more than once.")
]


def add_to(app: typer.Typer) -> None:
    """Add the group ``api-keys`` to the application."""
    group = typer.Typer(no_args_is_help=True, help="The API keys of a server.")
    group.command("create")(create)
    group.command("list")(list_)
    group.command("revoke")(revoke)
    app.add_typer(group, name="api-keys", rich_help_panel=_PANEL)


def create(
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="What its writes are attributed to.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="The space that it opens; with --supabase a user's id.")
    ] = None,
    read: PatternOption = None,
    write: PatternOption = None,
    admin: PatternOption = None,
    no_admin: Annotated[
        bool, typer.Option("--no-admin", help="No schemas; else --write stands for --admin.")
    ] = False,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="12h, 30d, or a time in ISO 8601.")
    ] = None,
    acl: AclOption = None,
    supabase: SupabaseOption = False,
) -> None:
    """Make an API key. It is shown once; what is kept is its SHA-256."""
    with _reported_errors():
        grant = Grant(
            agent=agent,
            space=_space(space, supabase),
            read=_patterns(read),
            write=_patterns(write),
            admin=() if no_admin else (_patterns(admin) or None),
            expires_at=parse_expiry(expires) if expires else None,
        ).check()
        if not (grant.read or grant.write or grant.admin):
            raise ValueError("it would open nothing: give --read, --write or --admin")
        # Only its digest is stored: this process is the last that knows the key.
        key = new_key()
        _key_store(acl, supabase).add(stored_form(key), grant)
    typer.echo(key)
    typer.echo("Keep it now: it cannot be shown again.", err=True)


def list_(
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one line for each.")] = False,
    acl: AclOption = None,
    supabase: SupabaseOption = False,
) -> None:
    """List the API keys by their labels; the keys themselves are never shown."""
    with _reported_errors():
        keys = _key_store(acl, supabase).keys()
    if as_json:
        for each in keys:
            typer.echo(json.dumps(_described(each)))
        return
    table = Table("label", "agent", "space", "read", "write", "admin", "expires", "state")
    for each in keys:
        members = _described(each).values()
        table.add_row(*(Text(printable(_cell(member)), overflow="fold") for member in members))
    Console().print(table)


def revoke(
    name: Annotated[
        str,
        typer.Argument(help="Its label, its agent's name, or - to read the key from the input."),
    ],
    acl: AclOption = None,
    supabase: SupabaseOption = False,
) -> None:
    """Let an API key open nothing any more; its open connections end within seconds."""
    with _reported_errors():
        store = _key_store(acl, supabase)
        # An argument would show a leaked key in the list of processes and in the shell's history.
        wanted = sys.stdin.readline().strip() if name == "-" else name
        found = [each for each in find_keys(store.keys(), wanted) if each.active]
        about = "this key" if name == "-" else repr(name)
        if not found:
            _fail(f"there is no active API key for {about}", ExitCode.NOT_FOUND)
        # Revoking all of them, or any one, would be a guess.
        if len(found) > 1:
            labels = ", ".join(each.label for each in found)
            raise ValueError(f"{about} names {len(found)} API keys; choose one: {labels}")
        store.revoke(found[0].stored)
    typer.echo(f"{found[0].label} is revoked.")


def _key_store(acl: Path | None, supabase: bool) -> KeyStore:
    from memx_server.settings import DEFAULT_ACL_FILE, SupabaseSettings

    if not supabase:
        from memx_server.auth.acl_file import AclKeyStore

        return AclKeyStore(acl or DEFAULT_ACL_FILE)
    settings = SupabaseSettings.from_env(os.environ)
    if settings is None:
        raise ValueError("--supabase needs SUPABASE_URL and SUPABASE_SERVICE_KEY")
    # It imports Supabase's client, which takes half a second.
    from memx_server.auth.supabase import SupabaseKeyStore

    return SupabaseKeyStore(settings.url, settings.service_key)


def _space(space: str | None, supabase: bool) -> str:
    if space is None:
        return DEFAULT_SPACE
    if not supabase:
        return space
    # The column is a UUID, and each spelling of one must name the same space.
    try:
        return str(UUID(space))
    except ValueError:
        raise ValueError(f"--space: {space!r} is no user's id (a UUID)") from None


def _patterns(given: list[str] | None) -> tuple[str, ...]:
    return tuple(validate_pattern(pattern) for pattern in given or ())


def _described(key: StoredKey) -> dict[str, str | list[str] | None]:
    grant = key.grant
    admin = grant.write if grant.admin is None else grant.admin
    return {
        "label": key.label,
        "agent": grant.agent,
        "space": None if grant.space == DEFAULT_SPACE else grant.space,
        "read": list(grant.read),
        "write": list(grant.write),
        "admin": list(admin),
        "expires_at": grant.expiry.isoformat(timespec="seconds") if grant.expiry else None,
        "state": key.state,
    }


def _cell(member: str | list[str] | None) -> str:
    return " ".join(member) if isinstance(member, list) else member or ""


@contextmanager
def _reported_errors() -> Iterator[None]:
    """End the command with one sentence where the key store or an argument is at fault."""
    try:
        yield
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    except ProtocolError as error:
        _fail(error.detail)
    except KeyStoreUnavailable as error:
        _fail(str(error), ExitCode.UNREACHABLE)
    except ValueError as error:
        _fail(str(error))


def _fail(why: str, code: ExitCode = ExitCode.ERROR) -> None:
    message = Text.assemble(("error: ", "bold red"), printable(why))
    Console(stderr=True, highlight=False).print(message, soft_wrap=True)
    raise typer.Exit(code)
