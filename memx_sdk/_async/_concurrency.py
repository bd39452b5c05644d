"""Waiting and background work for coroutines; the twin in ``_sync`` is for threads."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from memx_sdk.core.transport import AsyncTransport, TransportFactory, TransportOptions

P = ParamSpec("P")
T = TypeVar("T")

Lock = asyncio.Lock
Condition = asyncio.Condition


async def sleep(seconds: float) -> None:
    """Let ``seconds`` pass."""
    await asyncio.sleep(seconds)


def current_loop() -> object | None:
    """Return what connections are bound to: the running event loop; None for threads."""
    return asyncio.get_running_loop()


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a user's function, and await it if it is a coroutine function."""
    # The result is looked at, not the function: a lambda, a partial or an object with a coroutine
    # as its ``__call__`` is not recognisable before the call.
    result = function(*args)
    return await result if inspect.isawaitable(result) else result


async def next_message(websocket: Any, timeout: float | None) -> bytes:
    """Receive from a connection of the websockets library; raises TimeoutError."""
    async with asyncio.timeout(timeout):
        # Bytes, although the server sends text: the decoder of JSON takes them as they are, so the
        # library need not make a string of each message first.
        message: bytes = await websocket.recv(decode=False)
        return message


def adopt(factory: TransportFactory, options: TransportOptions) -> AsyncTransport:
    """Open an asynchronous transport for use here: as it is, or for threads behind a bridge."""
    return factory(options)


def close_when_collected(owner: object, close: Callable[[], object]) -> None:
    """Call ``close`` when ``owner`` is collected; not for coroutines, whose loop may be gone."""


def abandon(connection: object) -> None:
    """Let go of a parent process's connection in a forked child, without a word to the other side.

    It is kept alive: what would collect it takes it off the event loop, which the parent shares.
    """
    # Dropping the last reference would run the destructor of the transport, which takes the file
    # descriptor out of the selector. On Linux parent and child share that selector's kernel object,
    # so the parent would stop hearing of its own socket.
    _abandoned.append(connection)


_abandoned: list[object] = []


class Event:
    """A flag that can be waited for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._event.is_set()

    def set(self) -> None:
        """Set it and wake everyone who waits."""
        self._event.set()

    def clear(self) -> None:
        """Reset it."""
        self._event.clear()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; tell whether it was within ``timeout`` seconds."""
        # The flag decides, not the way in which the wait ended: it may be set at the very moment at
        # which the time runs out, and that counts as set.
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._event.wait()
        return self._event.is_set()


class Worker:
    """Something that runs in the background: a task, or a daemon thread.

    What it runs should look at an `Event` and end by itself: a thread cannot be cancelled.
    """

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def done(self) -> bool:
        """Tell whether it has ended."""
        return self._task.done()

    def is_current(self) -> bool:
        """Tell whether the caller runs inside it (and so must not join it)."""
        return asyncio.current_task() is self._task

    def cancel(self) -> None:
        """Cancel a task at its next await; does nothing to a thread."""
        self._task.cancel()

    async def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; tell whether it did within ``timeout`` seconds."""
        # ``wait`` instead of awaiting the task itself: a timeout must not cancel the task, and what
        # it ended with must not be raised in whoever joins it.
        await asyncio.wait({self._task}, timeout=timeout)
        return self._task.done()


def spawn(
    name: str, run: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs
) -> Worker:
    """Run ``run(*args, **kwargs)`` in the background.

    Args:
        name: Shows in debuggers.
        run: Must handle its own exceptions.
        *args: For ``run``.
        **kwargs: For ``run``.
    """

    async def body() -> None:
        await run(*args, **kwargs)

    # The `Worker` is what keeps the task alive: an event loop holds tasks only weakly. Where the
    # caller drops it, what the task waits for must hold it.
    return Worker(asyncio.create_task(body(), name=name))
