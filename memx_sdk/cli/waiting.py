"""``memx wait|lock``: scripts that wait for others, and keep others waiting."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import typer

from memx_sdk.cli.data import KeyArgument
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.session import Session, connected
from memx_sdk.cli.values import NEGATIVE_NUMBERS, read_value
from memx_sdk.core.values import decode, encode
from memx_sdk.display import name as shown_name
from memx_sdk.errors import LockLostError, MemxTimeout
from memx_sdk.models import Entry

_PANEL = "Memory"
_GRACE = 5.0
"""Seconds that a command gets to end once its lock is lost, before it is killed."""

WithinOption = Annotated[
    float | None,
    typer.Option(min=0, metavar="SECONDS", help="Give up after so long. Default: never."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("wait", rich_help_panel=_PANEL, context_settings=NEGATIVE_NUMBERS)(wait)
    app.command("lock", rich_help_panel=_PANEL)(lock)


@connected
async def wait(
    session: Session,
    key: KeyArgument,
    value: Annotated[
        str | None, typer.Argument(help="The JSON value to wait for. Default: any.")
    ] = None,
    pointer: Annotated[
        str,
        typer.Option(
            metavar="POINTER", help="Look at this place in the value (RFC 6901), as /status."
        ),
    ] = "",
    gone: Annotated[bool, typer.Option("--gone", help="Wait until there is no such key.")] = False,
    within: WithinOption = None,
) -> None:
    """Wait until a key exists, holds a value, or is gone, and print it.

    Exit code 8 where that did not happen in time.
    """
    if pointer and not pointer.startswith("/"):
        raise typer.BadParameter(f"--pointer begins with a slash, as /status; not {pointer!r}")
    if gone and (value is not None or pointer):
        raise typer.BadParameter("--gone waits for no value")
    wanted = None if value is None else decode(bytes(read_value(value)))
    try:
        if gone:
            await _until_gone(session, key, within)
            return
        entry = await session.memory.wait_for(
            key, _predicate(pointer, value is not None, wanted), timeout=within
        )
    except MemxTimeout as error:
        session.output.failure(error)
        raise typer.Exit(ExitCode.TIMED_OUT) from None
    # Numbers keep the digits with which they were written; see `keep_digits`.
    session.output.entry(Entry({**entry, "value": msgspec.Raw(encode(entry.value))}))


@connected
async def lock(
    session: Session,
    key: KeyArgument,
    command: Annotated[
        list[str], typer.Argument(help="What to run, behind [bold]--[/].", show_default=False)
    ],
    ttl: Annotated[
        float,
        typer.Option(min=1, help="Seconds until the lock of a holder that fell silent is free."),
    ] = 30.0,
    within: WithinOption = None,
) -> None:
    """Run a command while holding a lock that agents on all machines share.

    The command finds the fencing token in MEMX_LOCK_TOKEN, and is ended where the lock is lost. The exit code is its
    own; 8 where the lock was not free in time.
    """
    held = session.memory.lock(key, ttl, timeout=within)
    try:
        await held.acquire(within)
    except MemxTimeout as error:
        session.output.failure(error)
        raise typer.Exit(ExitCode.TIMED_OUT) from None
    code: int = ExitCode.CONFLICT
    try:
        code = await _run_held(command, held.token, held.wait_lost)
    except OSError as error:
        raise typer.BadParameter(f"cannot run {command[0]!r}: {error.strerror}") from None
    finally:
        try:
            await held.release()
        except LockLostError:
            # Whatever the command has done, another may have done at the same time.
            session.output.note(f"the lock {shown_name(key)} was lost while the command ran", "red")
            code = ExitCode.CONFLICT
    raise typer.Exit(code)


async def _run_held(command: list[str], token: int, wait_lost: Callable[[], Any]) -> int:
    """Run the command until it ends or its lock is lost, and return its exit code."""
    environ = {**os.environ, "MEMX_LOCK_TOKEN": str(token)}
    process = await asyncio.create_subprocess_exec(*command, env=environ)
    ended = asyncio.ensure_future(process.wait())
    lost = asyncio.ensure_future(wait_lost())
    try:
        await asyncio.wait({ended, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            return ExitCode.CONFLICT
        code = ended.result()
        # A command that a signal has ended is reported as shells do.
        return code if code >= 0 else 128 - code
    finally:
        lost.cancel()
        # Also where Ctrl-C or an error goes through: the command does not outlive its lock.
        if not ended.done():
            await _end(process)


async def _end(process: Process) -> None:
    try:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_GRACE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except ProcessLookupError:
        pass  # it has ended by itself meanwhile


async def _until_gone(session: Session, key: str, within: float | None) -> None:
    # Read once the subscription stands: a deletion before is seen by the read, and one after it is a
    # change, at which the key is read again.
    try:
        async with asyncio.timeout(within), session.memory.subscribe(key) as changes:
            await changes.ready()
            while await session.memory.get(key) is not None:
                await changes.next()
    except TimeoutError:
        raise MemxTimeout("timeout", f"{key!r} was still there after {within:g} s") from None


def _predicate(pointer: str, compares: bool, wanted: Any) -> Callable[[Any], bool] | None:
    if not compares and not pointer:
        return None
    steps = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]

    def holds(value: Any) -> bool:
        for step in steps:
            try:
                value = value[int(step)] if isinstance(value, list) else value[step]
            except (LookupError, TypeError, ValueError):
                return False
        return bool(not compares or _equal(value, wanted))

    return holds


def _equal(one: Any, other: Any) -> bool:
    """Compare as JSON does, in which true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
