"""The quotas of a space: its keys, the results it keeps for idempotency tokens, its schemas."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from memx_server.storage.base import (
    Delete,
    DeleteSchema,
    Put,
    PutSchema,
    QuotaExceeded,
    SpaceQuotas,
    Transaction,
    schema_size,
)
from memx_server.storage.sqlite.row_writes import PresentEntry
from memx_server.storage.sqlite.spaces import Space

_COUNT_ALL = "SELECT count(*) FROM entries WHERE space = ?"
_COUNT_EXPIRED = "SELECT count(*) FROM entries WHERE space = ? AND expires_at <= ?"


class QuotaChecks:
    """Checks of a transaction against what its space may hold.

    Each of them refuses only what adds to the quota, so that a space that is above one (it was lowered,
    perhaps) can still be cleared.

    Args:
        connection: The one connection that writes.
        quotas: The most that a space may hold.
    """

    def __init__(self, connection: sqlite3.Connection, quotas: SpaceQuotas) -> None:
        self._connection = connection
        self._quotas = quotas

    def has_room_for_result(self, space: Space, size: int) -> bool:
        """Return whether a result of ``size`` bytes may be kept."""
        bound = self._quotas.result_bytes
        return not bound or not size or space.result_bytes + size <= bound

    def result_refusal(self) -> QuotaExceeded:
        """Make the outcome of a transaction whose result may not be kept."""
        return self._quotas.exceeded("result_bytes")

    def exceeded(
        self,
        space: Space,
        transaction: Transaction,
        present: Mapping[str, PresentEntry],
        now_ms: int,
    ) -> QuotaExceeded | None:
        """Return the quota that ``transaction`` would exceed by its keys or schemas, if it does.

        Args:
            space: The space that it is for.
            transaction: What is to be committed.
            present: What its keys hold, without those that have expired.
            now_ms: Milliseconds since the epoch.
        """
        if self._quotas.keys and not self._allows_keys(space, transaction, present, now_ms):
            return self._quotas.exceeded("keys")
        bound = self._quotas.schema_bytes
        if bound:
            added = self.schema_bytes_added(space, transaction)
            if added > 0 and space.schema_bytes + added > bound:
                return self._quotas.exceeded("schema_bytes")
        return None

    def schema_bytes_added(self, space: Space, transaction: Transaction) -> int:
        """Return how many more bytes of schemas the space would hold after ``transaction``."""
        added = 0
        for write in transaction.writes:
            if not isinstance(write, PutSchema | DeleteSchema):
                continue
            row = self._connection.execute(
                "SELECT schema FROM schemas WHERE space = ? AND pattern = ?", (space.id, write.key)
            ).fetchone()
            if row is not None:
                added -= schema_size(write.key, row[0])
            if isinstance(write, PutSchema):
                added += schema_size(write.key, write.schema)
        return added

    def _allows_keys(
        self,
        space: Space,
        transaction: Transaction,
        present: Mapping[str, PresentEntry],
        now_ms: int,
    ) -> bool:
        added = _keys_added(transaction, present)
        if added <= 0:
            return True
        # The keys are counted once, at the first transaction that adds some; from then on
        # `ChangeDraft.count_keys` keeps the number right, and a rollback forgets it.
        if space.keys is None:
            space.keys = self._count(_COUNT_ALL, space.id)
        kept = space.keys + added
        if kept <= self._quotas.keys:
            return True
        # Rows of entries that have expired may still be there. They cost another count, which only
        # a space at its cap pays.
        return kept - self._count(_COUNT_EXPIRED, space.id, now_ms) <= self._quotas.keys

    def _count(self, query: str, *values: int) -> int:
        (count,) = self._connection.execute(query, values).fetchone()
        return int(count)


def _keys_added(transaction: Transaction, present: Mapping[str, PresentEntry]) -> int:
    """How many more keys a transaction creates than it deletes."""
    writes = transaction.writes
    created = sum(isinstance(write, Put) and write.key not in present for write in writes)
    deleted = sum(isinstance(write, Delete) and write.key in present for write in writes)
    return created - deleted
