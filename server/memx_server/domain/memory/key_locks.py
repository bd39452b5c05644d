"""One queue per key inside the process.

Contention then costs a wait, and not a storm of lost races. What an update left is remembered a while: the
next one starts from it without reading the store. Where somebody else has written since, its commit
finds that out and brings what is there, which is no more to and fro than to read first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_REMEMBERED = 1024
"""Keys whose entries are remembered while nobody updates them."""

_REMEMBERED_BYTES = 4096
"""The longest entry that is remembered so."""


class KeyLock:
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

    def read(self, entry: bytes | None) -> None:
        """Note what the store says that the key holds."""
        self.entry, self.is_known, self.is_fresh = entry, True, True

    def left(self, entry: bytes) -> None:
        """Note what this turn leaves for the next."""
        self.entry, self.is_known, self.is_fresh = entry, True, False

    def forget(self) -> None:
        """Make whoever comes next read the store."""
        self.entry, self.is_known, self.is_fresh = None, False, False


class KeyLocks:
    """The queues of all keys that are being updated at the moment, and what the last ones left."""

    def __init__(self) -> None:
        self._turns: dict[tuple[str, str], KeyLock] = {}
        self._left: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    @asynccontextmanager
    async def turn(self, space: str, key: str, patience: float) -> AsyncIterator[KeyLock]:
        """Wait for the turn of ``key``.

        Args:
            space: The key's space.
            key: The key.
            patience: Seconds to wait at the most.

        Raises:
            TimeoutError: Too many were before, or too slow.
        """
        name = (space, key)
        turn = self._turns.get(name) or self._first_turn(name)
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

    def _first_turn(self, name: tuple[str, str]) -> KeyLock:
        turn = self._turns[name] = KeyLock()
        entry = self._left.pop(name, None)
        if entry is not None:
            turn.left(entry)
        return turn

    def _leave(self, name: tuple[str, str], turn: KeyLock) -> None:
        turn.users -= 1
        if turn.users:
            return
        del self._turns[name]
        if turn.entry is not None and len(turn.entry) <= _REMEMBERED_BYTES:
            self._left[name] = turn.entry
            if len(self._left) > _REMEMBERED:
                self._left.popitem(last=False)
