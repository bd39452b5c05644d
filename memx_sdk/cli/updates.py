"""``memx merge|patch|increment|append|touch|txn``: writes that others' writes cannot undo."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import msgspec
import typer

from memx_sdk.cli.data import IfRevisionOption, KeyArgument, ReasonOption
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.session import Session, connected
from memx_sdk.cli.values import NEGATIVE_NUMBERS, compact, read_text, read_value
from memx_sdk.display import name as shown_name
from memx_sdk.models import Entry, TxnResult

_PANEL = "Memory"

TtlOption = Annotated[
    float | None, typer.Option(help="Seconds until it expires. Default: as it was.")
]
HistoryOption = Annotated[
    bool, typer.Option("--history/--no-history", help="Keep the value in the history.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    # A number, or an item of a list, may begin with a minus.
    for command in (merge, patch, increment, append, touch):
        app.command(rich_help_panel=_PANEL, context_settings=NEGATIVE_NUMBERS)(command)
    app.command(rich_help_panel=_PANEL)(txn)


@connected
async def merge(
    session: Session,
    key: KeyArgument,
    members: Annotated[
        str,
        typer.Argument(help="A JSON object; null removes a member. [bold]-[/], [bold]@FILE[/]."),
    ],
    if_revision: IfRevisionOption = None,
    ttl: TtlOption = None,
    reason: ReasonOption = None,
    history: HistoryOption = True,
) -> None:
    """Merge members into an object (RFC 7396); a missing key starts empty."""
    patch = read_value(members, name="MEMBERS")
    _show(
        session,
        await session.memory.merge(
            key, patch, if_revision=if_revision, ttl=ttl, reason=reason, history=history
        ),
    )


@connected
async def patch(
    session: Session,
    key: KeyArgument,
    operations: Annotated[
        str, typer.Argument(help="A JSON list of operations. [bold]-[/], [bold]@FILE[/].")
    ],
    if_revision: IfRevisionOption = None,
    ttl: TtlOption = None,
    reason: ReasonOption = None,
    history: HistoryOption = True,
) -> None:
    """Apply JSON Patch operations (RFC 6902)."""
    steps = _items(operations, "OPERATIONS")
    _show(
        session,
        await session.memory.patch(
            key, steps, if_revision=if_revision, ttl=ttl, reason=reason, history=history
        ),
    )


@connected
async def increment(
    session: Session,
    key: KeyArgument,
    by: Annotated[str, typer.Argument(help="A number; negative to count down.")] = "1",
    minimum: Annotated[str | None, typer.Option("--min", help="Not below this number.")] = None,
    maximum: Annotated[str | None, typer.Option("--max", help="Not above this number.")] = None,
    if_revision: IfRevisionOption = None,
    ttl: TtlOption = None,
    reason: ReasonOption = None,
    history: HistoryOption = True,
) -> None:
    """Add to a number, exactly; a missing key counts from 0. Exit code 5 where a bound forbids it."""
    _show(
        session,
        await session.memory.increment(
            key,
            _number(by, "BY"),
            minimum=None if minimum is None else _number(minimum, "--min"),
            maximum=None if maximum is None else _number(maximum, "--max"),
            if_revision=if_revision,
            ttl=ttl,
            reason=reason,
            history=history,
        ),
    )


@connected
async def append(
    session: Session,
    key: KeyArgument,
    items: Annotated[
        list[str], typer.Argument(help="JSON values, one or more. [bold]-[/], [bold]@FILE[/].")
    ],
    string: Annotated[
        bool, typer.Option("--string", help="Each item is a text, not JSON.")
    ] = False,
    cap: Annotated[int | None, typer.Option(min=1, help="Keep only so many of the last.")] = None,
    if_revision: IfRevisionOption = None,
    ttl: TtlOption = None,
    reason: ReasonOption = None,
    history: HistoryOption = True,
) -> None:
    """Append items to a list; a missing key starts empty."""
    values = [read_value(item, as_string=string, name="ITEM") for item in items]
    _show(
        session,
        await session.memory.append(
            key, values, cap=cap, if_revision=if_revision, ttl=ttl, reason=reason, history=history
        ),
    )


@connected
async def touch(
    session: Session,
    key: KeyArgument,
    seconds: Annotated[str, typer.Argument(help="Seconds from now, or [bold]never[/].")],
    if_revision: IfRevisionOption = None,
) -> None:
    """Move only when a key expires; the value, the revision and the history stay."""
    ttl = None if seconds == "never" else float(_number(seconds, "SECONDS"))
    entry = await session.memory.touch(key, ttl, if_revision=if_revision)
    if session.output.as_json:
        session.output.document(entry)
    else:
        when = "never expires" if ttl is None else f"expires in {ttl:g} s"
        session.output.note(f"{shown_name(key)} {when}")


@connected
async def txn(
    session: Session,
    transaction: Annotated[
        str,
        typer.Argument(
            help="A JSON object with [bold]then[/], and perhaps [bold]if[/] and [bold]else[/]. "
            "[bold]-[/], [bold]@FILE[/]."
        ),
    ],
    reason: ReasonOption = None,
) -> None:
    """Compare, then run one of two lists of operations, all or nothing.

    Exit code 4 where a compare does not hold and there is no else.
    """
    parts = _transaction(read_text(transaction, name="TRANSACTION"))
    done = await session.memory.txn(
        if_=parts.get("if", ()),
        then=parts.get("then", ()),
        else_=parts.get("else", ()),
        reason=reason,
    )
    _show_txn(session, done)
    if not done.succeeded and not parts.get("else"):
        raise typer.Exit(ExitCode.CONFLICT)


def _show(session: Session, entry: Entry[Any]) -> None:
    """Print the entry that an update made; on a terminal its place in the history beside it."""
    if session.output.as_json:
        session.output.document(entry)
        return
    session.output.note(
        f"{shown_name(entry.key)}: revision {entry.revision}, version {entry.version}"
    )
    # The computed value is what the command was run for, so a script gets it alone.
    session.output.line(compact(entry.value))


def _show_txn(session: Session, done: TxnResult) -> None:
    if session.output.as_json:
        session.output.document(done)
        return
    session.output.note(f"ran {done.branch}: revision {done.revision}")
    for result in done.results:
        session.output.line(compact(result))


def _transaction(text: str) -> dict[str, list[Any]]:
    """Read a transaction; each operation stays the text that it is, so that no number is rounded.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        parts = msgspec.json.decode(text, type=dict[str, list[msgspec.Raw]])
    except ValueError as error:
        raise typer.BadParameter(
            f"TRANSACTION is no JSON object of lists ({error}); as in "
            '\'{"if": [{"key": "a", "exists": false}], "then": [{"op": "set", "key": "a", "value": 1}]}\''
        ) from None
    if unknown := parts.keys() - {"if", "then", "else"}:
        raise typer.BadParameter(
            f"TRANSACTION has {min(unknown)!r}; it takes 'if', 'then' and 'else'"
        )
    return dict(parts)


def _items(argument: str, name: str) -> list[Any]:
    text = bytes(read_value(argument, name=name))
    try:
        return list(msgspec.json.decode(text, type=list[msgspec.Raw]))
    except ValueError:
        raise typer.BadParameter(f"{name} is no JSON list") from None


def _number(text: str, name: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise typer.BadParameter(f"{name} must be a number, not {text!r}")
    return number
