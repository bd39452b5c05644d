"""The garbage collector of a server's process: rare pauses, and yet an end for what closed sockets leave."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLDS = (50_000, 50, 100)
"""Collections by allocations are this rare: each is a pause, and their pauses make the p99."""

_LEAST_ENDED = 256
"""Sockets that must have ended before their garbage is collected; it is some 6 MB."""


class SocketGarbage:
    """Collects what ended sockets leave behind, in proportion to those that are open.

    A socket is a web of objects that refer to each other (its protocol, its transport, its queues), some 130
    of them and 25 KB. Most sockets live so long that they reach the oldest generation, which with these
    thresholds is as good as never collected: a server whose clients come and go grew by megabytes an hour.

    A collection looks at everything that lives, so it may take longer the more sockets are open. Hence the
    proportion: its cost for each ended socket stays the same, and the garbage stays below half of what lives.
    """

    def __init__(self) -> None:
        self._is_on = False
        self._open = 0
        self._ended = 0

    def take_over(self) -> None:
        """Exempt what lives as long as the process from collection, and collect rarely from now on.

        Only for a process that is the server's alone.
        """
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)
        self._is_on = True

    @contextmanager
    def socket(self) -> Iterator[None]:
        """Count a socket for the length of the context."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._ended += 1
            if self._is_on and self._ended >= max(_LEAST_ENDED, self._open // 2):
                self._ended = 0
                # In a turn of its own: this socket is still in use up the stack.
                asyncio.get_running_loop().call_soon(gc.collect)
