"""``memx watch``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from memx_sdk import Reset
from memx_sdk.cli.session import Session, connected
from memx_sdk.cli.values import printable


@connected
async def watch(
    session: Session,
    pattern: Annotated[str, typer.Argument(help="A key or a pattern with * ? [...].")] = "*",
    since: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="First what changed after this cursor.")
    ] = None,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="First the present entries.")
    ] = False,
    conflate: Annotated[
        bool, typer.Option("--conflate", help="When behind, only the newest value of each key.")
    ] = False,
    event: Annotated[
        Literal["value", "schema", "all"], typer.Option(help="What to watch.")
    ] = "value",
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after so many changes.")
    ] = None,
) -> None:
    """Show changes as they happen, across restarts of the server, until Ctrl-C."""
    subscription = session.memory.subscribe(
        pattern, event=event, since=since, snapshot=snapshot, conflate=conflate
    )
    seen = 0
    async with subscription as changes:
        # A server that is away now is a mistake to tell; one that goes away later comes back.
        with first_attempt():
            await changes.ready(session.connection.timeout)
        if session.output.is_terminal:
            session.output.note(f"watching {printable(pattern)}; Ctrl-C ends it")
        async for change in changes:
            if isinstance(change, Reset):
                session.output.reset(change)
                continue
            session.output.change(change)
            seen += 1
            if seen == count:
                return


@contextmanager
def first_attempt() -> Iterator[None]:
    """Keep quiet about what is tried again: where it fails for good, the error says all."""
    log = logging.getLogger("memx_sdk")
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        # From here on each outage is worth a line, since the command goes on through it.
        log.setLevel(logging.NOTSET)
