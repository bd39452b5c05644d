"""The cancellation of a connection's task from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Cancellation:
    """Ends what runs in its context when it is cancelled, before or while that runs."""

    __slots__ = ("_cancelled", "_timeout")

    def __init__(self) -> None:
        self._cancelled = False
        self._timeout: asyncio.Timeout | None = None

    def cancel(self) -> None:
        """Let what runs end, without an error; harmless when it has ended."""
        self._cancelled = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[None]:
        """Run what is to be ended."""
        timeout = asyncio.timeout(0 if self._cancelled else None)
        try:
            async with timeout:
                self._timeout = timeout
                yield
        except TimeoutError:
            # Only this timeout is the cancellation; another's error is passed on.
            if not timeout.expired():
                raise
        finally:
            self._timeout = None
