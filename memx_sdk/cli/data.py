"""``memx get|set|delete|keys|history|changes|presence|whoami``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import typer

from memx_sdk.cli.completion import complete_key
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.session import Session, connected
from memx_sdk.cli.values import printable, read_value
from memx_sdk.core.reads import Filter, Order
from memx_sdk.display import name as shown_name
from memx_sdk.display import quoted
from memx_sdk.protocol.keys import is_pattern

KeyArgument = Annotated[
    str, typer.Argument(help="The key.", show_default=False, autocompletion=complete_key)
]
IfRevisionOption = Annotated[
    int | None,
    typer.Option(
        min=0, help="Only if the entry still has this revision; 0: only if there is none."
    ),
]
ReasonOption = Annotated[str | None, typer.Option(help="Why; kept in the history.")]

_SHORT_REVISION = 12
"""Digits up to which a number is taken for the end of a revision."""
_HISTORY_SEARCHED = 100


@connected
async def get(
    session: Session,
    key: KeyArgument,
    at: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="As it was then; the last digits are enough."),
    ] = None,
) -> None:
    """Print the value of a key. Exit code 3 where there is none."""
    revision = None if at is None else await _revision(session, key, at)
    # As raw text, so that the value is printed byte for byte as it is stored.
    entry = await session.memory.get(key, at=revision, model=msgspec.Raw)
    if entry is None:
        raise _missing(session, key, revision)
    session.output.entry(entry)


@connected
async def set_(
    session: Session,
    key: KeyArgument,
    value: Annotated[
        str,
        typer.Argument(help="JSON; [bold]-[/] reads it from stdin, [bold]@FILE[/] from a file."),
    ],
    string: Annotated[bool, typer.Option("--string", help="VALUE is a text, not JSON.")] = False,
    if_revision: IfRevisionOption = None,
    ttl: Annotated[float | None, typer.Option(help="Seconds until it expires.")] = None,
    reason: ReasonOption = None,
    history: Annotated[
        bool, typer.Option("--history/--no-history", help="Keep the value in the history.")
    ] = True,
    logged: Annotated[
        bool | None,
        typer.Option(
            "--logged/--unlogged",
            help="Whether the log is to tell of a new key; an unlogged one nobody can watch.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a value. Exit code 4 where another write came first, 5 where a schema refuses it."""
    written = await session.memory.set(
        key,
        read_value(value, as_string=string),
        if_revision=if_revision,
        ttl=ttl,
        reason=reason,
        history=history,
        logged=logged,
    )
    if session.output.as_json:
        session.output.document(written)
    else:
        session.output.note(
            f"set {shown_name(key)}: revision {written.revision}, version {written.version}"
        )


@connected
async def delete(
    session: Session,
    key: Annotated[str, typer.Argument(help="The key; with --all a pattern.", show_default=False)],
    if_revision: IfRevisionOption = None,
    reason: ReasonOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="KEY is a pattern: remove all keys that match it.")
    ] = False,
) -> None:
    """Remove a key. Exit code 3 where there is none, 4 where another write came first."""
    if every:
        await _delete_all(session, key, if_revision, reason)
        return
    if is_pattern(key):
        raise typer.BadParameter(f"{key} is a pattern; --all removes all keys that match it")
    gone = await session.memory.delete(key, if_revision=if_revision, reason=reason)
    if session.output.as_json:
        session.output.document(gone)
    elif gone.deleted:
        session.output.note(f"deleted {shown_name(key)}: revision {gone.revision}")
    # After the document: a script gets the answer and the exit code.
    if not gone.deleted:
        raise _missing(session, key)


async def _delete_all(
    session: Session, pattern: str, if_revision: int | None, reason: str | None
) -> None:
    if if_revision is not None:
        raise typer.BadParameter("--if-revision is about one key, and does not go with --all")
    number = await session.memory.delete_pattern(pattern, reason=reason)
    if session.output.as_json:
        session.output.document({"ok": True, "deleted": number, "pattern": pattern})
    else:
        session.output.note(f"deleted {number} keys")
    if not number:
        raise typer.Exit(ExitCode.NOT_FOUND)


@connected
async def keys(
    session: Session,
    pattern: Annotated[str, typer.Argument(help="A key or a pattern with * ? [...].")] = "*",
    values: Annotated[bool, typer.Option("--values", help="With their values.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    newest: Annotated[
        bool, typer.Option("--newest", help="Those that were written last first.")
    ] = False,
    filter: Annotated[
        str | None,
        typer.Option(help='Only values with such members: \'{"score": {"$gte": 1}}\'.'),
    ] = None,
) -> None:
    """List the keys that match a pattern, in order. For API keys: `memx api-keys`."""
    wanted = _read_filter(filter)
    order: Order = "newest" if newest else "key"
    if values:
        entries = await session.memory.entries(pattern, limit=limit, order=order, filter=wanted)
        session.output.entries(entries)
        return
    for key in await session.memory.keys(pattern, limit=limit, order=order, filter=wanted):
        if session.output.as_json:
            session.output.document(key)
        else:
            session.output.line(printable(key))


@connected
async def history(
    session: Session,
    key: KeyArgument,
    limit: Annotated[int, typer.Option(min=1, help="At most so many changes.")] = 20,
) -> None:
    """Show who changed a key, newest first. Exit code 3 where it has no history."""
    changes = await session.memory.history(key, limit)
    session.output.history(changes)
    if not changes:
        raise _missing(session, key)


@connected
async def changes(
    session: Session,
    pattern: Annotated[str, typer.Argument(help="A key or a pattern with * ? [...].")] = "*",
    since: Annotated[
        str | None,
        typer.Option(metavar="CURSOR", help="What came after it. Default: all that is kept."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many changes.")] = 100,
    event: Annotated[
        Literal["value", "schema", "all"], typer.Option(help="What to list.")
    ] = "value",
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for one where there is none yet.")
    ] = 0.0,
) -> None:
    """List what has changed, oldest first, and the cursor to go on from. `memx watch` follows."""
    page = await session.memory.changes(pattern, since=since, limit=limit, event=event, wait=wait)
    if session.output.as_json:
        session.output.document(page)
        return
    for change in page.changes:
        session.output.change(change)
    more = ", and there is more" if page.more else ""
    session.output.note(f"go on with --since {page.cursor}{more}")


@connected
async def presence(session: Session) -> None:
    """Show who is subscribed, or was active lately."""
    found = await session.memory.presence()
    if session.output.as_json:
        session.output.document(found)
    else:
        session.output.presence(found["present"])


@connected
async def whoami(session: Session) -> None:
    """Show who the API key is and what it may do."""
    me = await session.memory.whoami()
    if session.output.as_json:
        session.output.document(me)
        return
    scopes = me["scopes"]
    session.output.line(f"writer  {printable(me['writer'])}")
    session.output.line(f"space   {printable(me['space'])}")
    for verb in ("read", "write", "admin"):
        session.output.line(f"{verb:<7} {printable(' '.join(scopes[verb])) or '(nothing)'}")
    session.output.line(f"server  memX {me['server']['version']}")


async def _revision(session: Session, key: str, at: str) -> int:
    """Read a revision; its last digits, which a narrow table shows, stand for the whole.

    Raises:
        typer.BadParameter: It is none, or none of the key's.
    """
    digits = at.removeprefix("…")
    # A revision is below 2^53. The characters that only look like digits are none here.
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 2**53):
        raise typer.BadParameter(
            f"--at takes a revision, a whole number that `memx history` shows; not {at!r}"
        )
    # Revisions begin at the Unix time in microseconds, so that a short number is never a whole one.
    if at == digits and len(digits) > _SHORT_REVISION:
        return int(digits)
    changes = await session.memory.history(key, _HISTORY_SEARCHED)
    found = {each.revision for each in changes if str(each.revision).endswith(digits)}
    if len(found) == 1:
        return found.pop()
    count = "several revisions" if found else "no revision"
    raise typer.BadParameter(
        f"{count} of {quoted(key)} in its history ends with {digits}; "
        "`memx history KEY --json` shows them whole"
    )


def _read_filter(text: str | None) -> Filter | None:
    if text is None:
        return None
    try:
        # Checked here for its form alone: each part goes to the server as it was typed.
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        raise typer.BadParameter(
            'a filter is a JSON object like {"status": "open", "score": {"$gte": 1}}',
            param_hint="--filter",
        ) from None


def _missing(session: Session, key: str, at: int | None = None) -> typer.Exit:
    then = "" if at is None else f" at revision {at}"
    if session.output.as_json:
        # The standard error, so that a pipe gets values alone.
        detail = f"there {'was' if then else 'is'} no such key{then}"
        session.output.notes.file.write(f'{{"error":"not_found","detail":"{detail}"}}\n')
    else:
        verb = "was" if then else "is"
        session.output.note(f"there {verb} no key {quoted(key)}{then}", style="red")
    return typer.Exit(ExitCode.NOT_FOUND)
