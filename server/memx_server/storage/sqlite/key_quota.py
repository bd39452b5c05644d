"""The cap on the keys of a space."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from memx_server.storage.base import Delete, Put, Transaction
from memx_server.storage.sqlite.row_writes import Standing
from memx_server.storage.sqlite.spaces import Space

_ALL = "SELECT count(*) FROM entries WHERE space = ?"
_EXPIRED = "SELECT count(*) FROM entries WHERE space = ? AND expires_at <= ?"


class KeyQuota:
    """Tells whether a space has room for what a transaction adds.

    Args:
        connection: The one connection that writes.
        max_keys: Keys that a space may hold; 0 for no cap.
    """

    def __init__(self, connection: sqlite3.Connection, max_keys: int) -> None:
        self._connection = connection
        self.max_keys = max_keys

    def is_left(
        self, space: Space, transaction: Transaction, standings: Mapping[str, Standing], now_ms: int
    ) -> bool:
        """Tell whether the cap holds after ``transaction``, or it adds no keys on balance.

        Args:
            space: The space that it is for.
            transaction: What is to be committed.
            standings: What its keys hold, without those that have expired.
            now_ms: Milliseconds since the epoch.
        """
        if not self.max_keys:
            return True
        added = _added(transaction, standings)
        if added <= 0:
            return True
        if space.keys is None:
            space.keys = self._count(_ALL, space.id)  # from here on Draft.count keeps it right
        kept = space.keys + added
        return (
            kept <= self.max_keys or kept - self._count(_EXPIRED, space.id, now_ms) <= self.max_keys
        )

    def _count(self, query: str, *values: int) -> int:
        (count,) = self._connection.execute(query, values).fetchone()
        return int(count)


def _added(transaction: Transaction, standings: Mapping[str, Standing]) -> int:
    """How many more keys a transaction creates than it deletes."""
    writes = transaction.writes
    created = sum(isinstance(write, Put) and write.key not in standings for write in writes)
    deleted = sum(isinstance(write, Delete) and write.key in standings for write in writes)
    return created - deleted
