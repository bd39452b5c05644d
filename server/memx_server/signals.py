"""Signal handlers that end a process: at SIGTERM and SIGINT, and when its parent is gone."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from queue import SimpleQueue
from types import FrameType
from typing import Any

from memx_server import watchdog

_log = logging.getLogger("memx_server")

_ANSWER_SECONDS = 5.0
"""How long after a signal an event loop may take to begin with its shutdown."""
_SHUTDOWN_SECONDS = 20.0
"""How long the shutdown may take from then on."""


class StuckProcessWatch:
    """A thread that ends the process where its event loop does not obey a signal.

    A handler of Python's own runs in the main thread, between two instructions. It does so too while
    that thread is busy with something else than the event loop, and then nothing else would end the
    process: the shutdown waits for the loop. (Within one call into C that keeps the interpreter's lock
    no handler and no thread runs; then the process of ``watchdog.py`` ends this one.)
    """

    def __init__(self) -> None:
        # Unlike a lock or an event, it may be used in a signal handler: it never waits for itself.
        self._signals: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._is_over = threading.Event()
        threading.Thread(target=self._watch, name="memx-signals", daemon=True).start()

    def arm(self, is_answered: threading.Event) -> None:
        """A signal has come; the loop sets ``is_answered`` when it turns next."""
        self._signals.put(is_answered)

    def close(self) -> None:
        """The shutdown is over."""
        self._is_over.set()
        self._signals.put(None)

    def _watch(self) -> None:
        is_answered = self._signals.get()
        if is_answered is None:
            return
        if not is_answered.wait(_ANSWER_SECONDS):
            _log.critical(
                "the event loop has not answered a signal for %.0f s; ending the process",
                _ANSWER_SECONDS,
            )
        elif not self._is_over.wait(_SHUTDOWN_SECONDS):
            _log.critical(
                "the shutdown takes longer than %.0f s; ending the process", _SHUTDOWN_SECONDS
            )
        else:
            return
        os._exit(1)


@contextmanager
def watched_from_outside(signals: Iterable[int]) -> Iterator[None]:
    """Have another process kill this one where it does not end after one of ``signals``.

    To be entered when the handlers of these signals are set: one that is set later takes the place of what notices.
    """
    if sys.platform == "win32":  # there, faulthandler registers no signals
        yield
        return
    command = [sys.executable, "-I", "-S", watchdog.__file__, str(os.getpid())]
    command.append(str(watchdog.KILL_SECONDS))
    # A group of its own: a Ctrl-C of the terminal must not reach it before it has said that it ignores those.
    with subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0) as process:  # noqa: S603 - all of it is our own
        assert process.stdin is not None
        # A pipe that is full must not hold up the server: what does not fit in is not needed.
        os.set_blocking(process.stdin.fileno(), False)
        numbers = list(signals)
        for number in numbers:
            faulthandler.register(number, process.stdin.fileno(), all_threads=True, chain=True)
        try:
            yield
        finally:
            for number in numbers:
                faulthandler.unregister(number)
            # It ends when its input does. A shutdown that gets stuck from here on is for the watch inside.


@contextmanager
def on_shutdown_signal(
    end: Callable[[], object], watch: StuckProcessWatch | None = None, *, is_alone: bool = False
) -> Iterator[None]:
    """Call ``end`` on the event loop as soon as SIGTERM or SIGINT arrives, for the length of the context.

    uvicorn waits for open responses before it ends the application. A response that streams for ever
    must therefore be ended at the signal itself. The handlers that were there before, uvicorn's, run
    after ``end`` has been scheduled.

    Args:
        end: Called without arguments; it must not block.
        watch: Ends the process where the loop does not obey; None where the process is somebody else's.
        is_alone: Whether no supervisor kills the process where it does not end.
    """
    # Only the main thread may set handlers. A server in another thread is ended by its own handle.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def chain(previous: Callable[[int, FrameType | None], Any]) -> Callable[..., None]:
        def handle(number: int, frame: FrameType | None) -> None:
            # A handler runs between two instructions of the loop's own code, so it may only schedule.
            loop.call_soon_threadsafe(end)
            if watch is not None:
                is_answered = threading.Event()
                loop.call_soon_threadsafe(is_answered.set)
                watch.arm(is_answered)
            previous(number, frame)

        return handle

    chained = {number: chain(previous) for number, previous in before.items() if callable(previous)}
    for number, handler in chained.items():
        signal.signal(number, handler)
    try:
        with watched_from_outside(chained) if watch and is_alone else nullcontext():
            yield
    finally:
        for number, handler in chained.items():
            # Whoever has set another handler meanwhile keeps it.
            if signal.getsignal(number) is handler:
                signal.signal(number, before[number])


def end_with_parent() -> None:
    """Send this process SIGTERM when the process that started it is gone, however that ended.

    A worker that outlives its supervisor would hold the port, and nothing would stop or replace it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="memx-parent", daemon=True).start()
