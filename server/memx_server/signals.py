"""Signal handlers that end a process: at SIGTERM and SIGINT, and when its parent is gone."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def on_shutdown_signal(end: Callable[[], object]) -> Iterator[None]:
    """Call ``end`` on the event loop as soon as SIGTERM or SIGINT arrives, for the length of the context.

    uvicorn waits for open responses before it ends the application. A response that streams for ever
    must therefore be ended at the signal itself. The handlers that were there before, uvicorn's, run
    after ``end`` has been scheduled.

    Args:
        end: Called without arguments; it must not block.
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
            previous(number, frame)

        return handle

    chained = {number: chain(previous) for number, previous in before.items() if callable(previous)}
    for number, handler in chained.items():
        signal.signal(number, handler)
    try:
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
