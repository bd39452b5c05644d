"""How a process learns that it is to end."""

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
def on_ending(end: Callable[[], object]) -> Iterator[None]:
    """Call ``end`` on the event loop as soon as a signal tells the process to end.

    A server lets open responses finish before it ends the application, so one that streams for ever
    must hear of it before. Handlers that were there before, the server's, still run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def chain(known: Callable[[int, FrameType | None], Any]) -> Callable[..., None]:
        def handle(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(end)
            known(number, frame)

        return handle

    chained = {number: chain(known) for number, known in before.items() if callable(known)}
    for number, handler in chained.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in chained.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, before[number])


def end_with_parent() -> None:
    """End this process as SIGTERM does when the one that started it is gone, however it ended.

    A worker that outlives its supervisor would hold the port, and nothing would stop or replace it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="memx-parent", daemon=True).start()
