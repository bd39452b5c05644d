"""One queue per key inside the process.

Contention then costs a wait, and not a storm of lost races.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turn:
    """Who holds the turn of a key, and what the one before left for it.

    Attributes:
        entry: What the key holds (JSON text), as far as is known here.
        is_known: Whether ``entry`` says anything.
        is_fresh: Whether ``entry`` was read from the store in this turn.
        lock: Held by whose turn it is.
        users: How many hold or wait for it.
    """

    __slots__ = ("entry", "is_fresh", "is_known", "lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.entry: bytes | None = None
        self.is_known = False
        self.is_fresh = False

    @property
    def is_last(self) -> bool:
        """Whether nobody waits behind this one."""
        return self.users == 1

    def read(self, entry: bytes | None) -> None:
        """Note what the store says that the key holds."""
        self.entry, self.is_known, self.is_fresh = entry, True, True

    def left(self, entry: bytes) -> None:
        """Note what this turn leaves for the next."""
        self.entry, self.is_known, self.is_fresh = entry, True, False

    def forget(self) -> None:
        """Make whoever comes next read the store."""
        self.entry, self.is_known, self.is_fresh = None, False, False


class KeyQueues:
    """The queues of all keys that are being updated at the moment."""

    def __init__(self) -> None:
        self._turns: dict[tuple[str, str], Turn] = {}

    @asynccontextmanager
    async def turn(self, space: str, key: str, patience: float) -> AsyncIterator[Turn]:
        """Wait for the turn of ``key``.

        Args:
            space: The key's space.
            key: The key.
            patience: Seconds to wait at the most.

        Raises:
            TimeoutError: Too many were before, or too slow.
        """
        name = (space, key)
        turn = self._turns.setdefault(name, Turn())
        turn.users += 1
        try:
            async with asyncio.timeout(patience):
                await turn.lock.acquire()
        except BaseException:
            self._leave(name, turn)
            raise
        try:
            turn.is_fresh = False
            yield turn
        except BaseException:
            turn.forget()
            raise
        finally:
            turn.lock.release()
            self._leave(name, turn)

    def _leave(self, name: tuple[str, str], turn: Turn) -> None:
        turn.users -= 1
        if turn.users == 0:
            del self._turns[name]
