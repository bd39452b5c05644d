"""A watch on a server's event loop: the longest stretch of processor time between two of its turns."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.server.conftest import client
from tests.support.memx_server import Served

TICK = 0.001
LONGEST = 0.1
"""Seconds of processor time for which an attack may hold the event loop at once; a machine's noise does not
count, since the thread does no work meanwhile."""


class LoopWatch:
    """Ticks on a server's event loop.

    Attributes:
        longest: Processor time between two ticks at the most, in seconds, so far.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def tick(self) -> None:
        """Tick until cancelled."""
        last = time.thread_time()
        while True:
            await asyncio.sleep(TICK)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now


@contextmanager
def watched_loop(served: Served, longest: float = LONGEST) -> Iterator[LoopWatch]:
    """Assert that nothing holds the event loop of ``served`` for longer than ``longest`` within the block."""
    loop = loop_of(served)
    watch = LoopWatch()
    # As a server sets the collector. In a test's large process a collection takes longer than an attack may.
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    ticking = asyncio.run_coroutine_threadsafe(watch.tick(), loop)
    try:
        yield watch
    finally:
        ticking.cancel()
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    assert watch.longest < longest, (
        f"the event loop was held for {watch.longest * 1e3:.0f} ms at once"
    )


def loop_of(served: Served) -> asyncio.AbstractEventLoop:
    """Find the loop by the first call that comes to the authenticator on it."""
    found: list[asyncio.AbstractEventLoop] = []
    authenticate = served.keys.authenticate

    async def note(credential: str | None) -> object:
        found.append(asyncio.get_running_loop())
        return await authenticate(credential)

    served.keys.authenticate = note  # type: ignore[method-assign,assignment]  # for one call
    try:
        with client(served, served.api_key) as api:
            api.get("/whoami")
    finally:
        del served.keys.authenticate  # the class's own is found again
    return found[0]
