"""Waiting and background work for threads; the twin in ``_async`` is for coroutines."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from memx_sdk.bridge import BridgedTransport
from memx_sdk.transport import Transport, TransportFactory, TransportOptions

P = ParamSpec("P")
T = TypeVar("T")

Lock = threading.Lock
Condition = threading.Condition


def sleep(seconds: float) -> None:
    """Let ``seconds`` pass."""
    time.sleep(seconds)


def current_loop() -> object | None:
    """Return what connections are bound to: the running event loop; None for threads."""
    return None


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a user's function."""
    return function(*args)


def next_message(websocket: Any, timeout: float | None) -> bytes:
    """Receive from a connection of the websockets library; raises TimeoutError."""
    message: bytes = websocket.recv(timeout, decode=False)
    return message


def adopt(factory: TransportFactory, options: TransportOptions) -> Transport:
    """Open an asynchronous transport for use here: as it is, or for threads behind a bridge."""
    return BridgedTransport(factory, options)


def close_when_collected(owner: object, close: Callable[[], object]) -> None:
    """Call ``close`` when ``owner``, which it must not hold, is collected.

    Not when the program ends: by then no new thread can be had, and the system closes what is open.
    """
    weakref.finalize(owner, close).atexit = False


def abandon(connection: Any) -> None:
    """Let go of a parent process's connection in a forked child, without a word to the other side."""
    if (socket := getattr(connection, "socket", None)) is not None:
        socket.close()  # this process's copy only: the connection stays open in the parent


class Event:
    """A flag that can be waited for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._event.is_set()

    def set(self) -> None:
        """Set it and wake everyone who waits."""
        self._event.set()

    def clear(self) -> None:
        """Reset it."""
        self._event.clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; tell whether it was within ``timeout`` seconds."""
        return self._event.wait(timeout)


class Worker:
    """Something that runs in the background: a task, or a daemon thread.

    What it runs should look at an `Event` and end by itself: a thread cannot be cancelled.
    """

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def done(self) -> bool:
        """Tell whether it has ended."""
        return not self._thread.is_alive()

    def is_current(self) -> bool:
        """Tell whether the caller runs inside it (and so must not join it)."""
        return threading.current_thread() is self._thread

    def cancel(self) -> None:
        """Cancel a task at its next await; does nothing to a thread."""

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; tell whether it did within ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()


def spawn(name: str, run: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> Worker:
    """Run ``run(*args, **kwargs)`` in the background.

    Args:
        name: Shows in debuggers.
        run: Must handle its own exceptions.
        *args: For ``run``.
        **kwargs: For ``run``.
    """
    thread = threading.Thread(target=run, args=args, kwargs=kwargs, name=name, daemon=True)
    thread.start()
    return Worker(thread)
