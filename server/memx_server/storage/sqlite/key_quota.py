"""The cap on the keys of a space."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from memx_server.storage.base import Delete, Put, Transaction
from memx_server.storage.sqlite.row_writes import PresentEntry
from memx_server.storage.sqlite.spaces import Space

_COUNT_ALL = "SELECT count(*) FROM entries WHERE space = ?"
_COUNT_EXPIRED = "SELECT count(*) FROM entries WHERE space = ? AND expires_at <= ?"


class KeyQuota:
    """The number of keys that a space may hold, and whether a transaction would exceed it.

    Args:
        connection: The one connection that writes.
        max_keys: Keys that a space may hold; 0 for no cap.
    """

    def __init__(self, connection: sqlite3.Connection, max_keys: int) -> None:
        self._connection = connection
        self.max_keys = max_keys

    def allows(
        self,
        space: Space,
        transaction: Transaction,
        present: Mapping[str, PresentEntry],
        now_ms: int,
    ) -> bool:
        """Return whether the cap holds after ``transaction``, or it adds no keys on balance.

        Args:
            space: The space that it is for.
            transaction: What is to be committed.
            present: What its keys hold, without those that have expired.
            now_ms: Milliseconds since the epoch.
        """
        if not self.max_keys:
            return True
        added = _added(transaction, present)
        if added <= 0:
            return True
        # The keys are counted once, at the first transaction that adds some; from then on
        # `ChangeDraft.count_keys` keeps the number right, and a rollback forgets it.
        if space.keys is None:
            space.keys = self._count(_COUNT_ALL, space.id)
        kept = space.keys + added
        if kept <= self.max_keys:
            return True
        # Rows of entries that have expired may still be there. They cost another count, which only
        # a space at its cap pays.
        return kept - self._count(_COUNT_EXPIRED, space.id, now_ms) <= self.max_keys

    def _count(self, query: str, *values: int) -> int:
        (count,) = self._connection.execute(query, values).fetchone()
        return int(count)


def _added(transaction: Transaction, present: Mapping[str, PresentEntry]) -> int:
    """How many more keys a transaction creates than it deletes."""
    writes = transaction.writes
    created = sum(isinstance(write, Put) and write.key not in present for write in writes)
    deleted = sum(isinstance(write, Delete) and write.key in present for write in writes)
    return created - deleted
