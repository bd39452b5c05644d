"""``memx watch``."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from memx_sdk import AsyncSubscription, Reset
from memx_sdk.cli.output import Output
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
    async with subscription as changes:
        # A server that is away now is a mistake to tell; one that goes away later comes back.
        with first_attempt():
            await changes.ready(session.connection.timeout)
        if session.output.is_terminal:
            session.output.note(f"watching {printable(pattern)}; Ctrl-C ends it")
        with until_unread():
            await _show(session.output, changes, count)


async def _show(output: Output, changes: AsyncSubscription, count: int | None) -> None:
    seen = 0
    async for change in changes:
        if isinstance(change, Reset):
            output.reset(change)
            continue
        output.change(change)
        seen += 1
        if seen == count:
            return


@contextmanager
def until_unread() -> Iterator[None]:
    """Leave the block when the program at the other end of a pipe has ended, as with ``memx watch | head -1``.

    The next line would fail, but on a quiet feed it may never come.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    try:
        number = sys.stdout.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
    except (OSError, ValueError):  # a standard output that is closed, or that is no file
        is_pipe = False
    # Only event loops on selectors can wait for it, so that on Windows the next line ends the command.
    if not is_pipe or task is None or sys.platform == "win32":
        yield
        return
    unread = False

    def leave() -> None:
        nonlocal unread
        unread = True
        loop.remove_reader(number)
        task.cancel()

    # Nothing ever comes to the writing end of a pipe, so that it becomes readable by the end of its reader alone.
    loop.add_reader(number, leave)
    try:
        yield
    except asyncio.CancelledError:
        if not unread:
            raise
        task.uncancel()
    finally:
        loop.remove_reader(number)


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
