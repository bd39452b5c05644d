"""Telling a connection's task, from outside, that its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Cancellation:
    """Ends what runs in its context when it is told to, before or while it runs."""

    __slots__ = ("_timeout", "_told")

    def __init__(self) -> None:
        self._told = False
        self._timeout: asyncio.Timeout | None = None

    def tell(self) -> None:
        """Let what runs end, without an error; harmless when it has ended."""
        self._told = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[None]:
        """Run what is to be ended."""
        timeout = asyncio.timeout(0 if self._told else None)
        try:
            async with timeout:
                self._timeout = timeout
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
        finally:
            self._timeout = None
