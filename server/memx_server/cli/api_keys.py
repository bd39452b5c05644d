"""``memx keys create|list|revoke``: the API keys of a server."""

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
from memx_server.auth.issuing import (
    KeptKey,
    KeyGrant,
    KeyKeeper,
    find_kept,
    moment,
    new_key,
    stored_form,
)

_PANEL = "API keys"

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
    """Add the commands to the group ``keys``."""
    app.command("create", rich_help_panel=_PANEL)(create)
    app.command("list", rich_help_panel=_PANEL)(list_)
    app.command("revoke", rich_help_panel=_PANEL)(revoke)


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
    with _failing():
        grant = KeyGrant(
            agent,
            _space(space, supabase),
            _patterns(read),
            _patterns(write),
            [] if no_admin else (_patterns(admin) or None),
            moment(expires) if expires else None,
        )
        if not (grant.read or grant.write or grant.admin):
            raise ValueError("it would open nothing: give --read, --write or --admin")
        key = new_key()
        _keeper(acl, supabase).add(stored_form(key), grant)
    typer.echo(key)
    typer.echo("Keep it now: it cannot be shown again.", err=True)


def list_(
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one line for each.")] = False,
    acl: AclOption = None,
    supabase: SupabaseOption = False,
) -> None:
    """List the API keys by their labels; the keys themselves are never shown."""
    with _failing():
        kept = _keeper(acl, supabase).kept()
    if as_json:
        for each in kept:
            typer.echo(json.dumps(_described(each)))
        return
    table = Table("label", "agent", "space", "read", "write", "admin", "expires", "state")
    for each in kept:
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
    with _failing():
        keeper = _keeper(acl, supabase)
        wanted = sys.stdin.readline().strip() if name == "-" else name
        found = [each for each in find_kept(keeper.kept(), wanted) if each.active]
        about = "this key" if name == "-" else repr(name)
        if not found:
            _fail(f"there is no active API key for {about}", ExitCode.NOT_FOUND)
        if len(found) > 1:
            labels = ", ".join(each.label for each in found)
            raise ValueError(f"{about} names {len(found)} API keys; choose one: {labels}")
        keeper.revoke(found[0].stored)
    typer.echo(f"{found[0].label} is revoked.")


def _keeper(acl: Path | None, supabase: bool) -> KeyKeeper:
    from memx_server.settings import DEFAULT_ACL_FILE, SupabaseSettings

    if not supabase:
        from memx_server.auth.acl_keeper import AclKeeper

        return AclKeeper(acl or DEFAULT_ACL_FILE)
    settings = SupabaseSettings.from_env(os.environ)
    if settings is None:
        raise ValueError("--supabase needs SUPABASE_URL and SUPABASE_SERVICE_KEY")
    from memx_server.auth.supabase_keeper import SupabaseKeeper

    return SupabaseKeeper(settings.url, settings.service_key)


def _space(space: str | None, supabase: bool) -> str | None:
    if space is None or not supabase:
        return space
    try:
        return str(UUID(space))
    except ValueError:
        raise ValueError(f"--space: {space!r} is no user's id (a UUID)") from None


def _patterns(given: list[str] | None) -> list[str]:
    return [validate_pattern(pattern) for pattern in given or ()]


def _described(kept: KeptKey) -> dict[str, str | list[str] | None]:
    grant = kept.grant
    admin = grant.write if grant.admin is None else grant.admin
    return {
        "label": kept.label,
        "agent": grant.agent,
        "space": grant.space,
        "read": list(grant.read),
        "write": list(grant.write),
        "admin": list(admin),
        "expires_at": grant.expires_at.isoformat(timespec="seconds") if grant.expires_at else None,
        "state": kept.state,
    }


def _cell(member: str | list[str] | None) -> str:
    return " ".join(member) if isinstance(member, list) else member or ""


@contextmanager
def _failing() -> Iterator[None]:
    """Turn what goes wrong into a sentence."""
    from memx_server.auth.supabase_table import TableUnavailable

    try:
        yield
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    except ProtocolError as error:
        _fail(error.detail)
    except TableUnavailable as error:
        _fail(str(error), ExitCode.UNREACHABLE)
    except ValueError as error:
        _fail(str(error))


def _fail(why: str, code: ExitCode = ExitCode.ERROR) -> None:
    message = Text.assemble(("error: ", "bold red"), printable(why))
    Console(stderr=True, highlight=False).print(message, soft_wrap=True)
    raise typer.Exit(code)
