"""The table of the unlogged state, as the jobs of the commit queue see it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from memx_server.storage.base import GroupFull

_BUCKETS = "buckets\0"
"""Begins the group of a bucket, which is no record of its group."""


class StateTable:
    """Reads and writes the records; every call happens inside the transaction of a commit queue's job.

    A record whose time has come is gone for every reader at once: each query compares its expiry
    with the clock. ``CommitWriter.purge`` removes the rows later.

    Args:
        connection: The one connection that writes.
        clock: Returns microseconds since the epoch.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = clock

    def put(
        self, group: str, name: str, value: bytes, ttl_ms: int, most: int | None = None
    ) -> None:
        """Set a record, unless it would be a new one in a full group."""
        if most is not None and self._get(group, name) is None and self._count(group) >= most:
            raise GroupFull
        self._connection.execute(
            'INSERT OR REPLACE INTO state ("group", name, value, expires_at) VALUES (?, ?, ?, ?)',
            (group, name, value, self._now_ms() + ttl_ms),
        )

    def take(self, group: str, name: str) -> bytes | None:
        """Read and remove a record."""
        value = self._get(group, name)
        self.remove(group, name)
        return value

    def take_tokens(
        self, group: str, name: str, count: int, interval_us: int, burst: int
    ) -> tuple[int, int]:
        """Take tokens out of a bucket.

        The generic cell rate algorithm (ITU-T I.371): of a bucket only the moment is kept at which it
        will be full again. Each token that is taken moves that moment by an interval; it never lies
        further ahead than a whole burst.
        """
        now = self._clock()
        limit = now + burst * interval_us
        held = self._get(_BUCKETS + group, name)
        # The clock may have been set back: a bucket is empty at the worst.
        full_at = min(max(now, int(held or 0)), limit)
        taken = min(count, (limit - full_at) // interval_us)
        if taken:
            full_at += taken * interval_us
            ttl_ms = (full_at - now) // 1000 + 1
            self.put(_BUCKETS + group, name, b"%d" % full_at, ttl_ms)
        return taken, 0 if taken == count else full_at + interval_us - limit

    def compare_and_put(
        self,
        group: str,
        name: str,
        expected: bytes | None,
        value: bytes,
        ttl_ms: int,
        most: int | None = None,
    ) -> bool:
        """Set a record if it holds ``expected``, unless it would be a new one in a full group."""
        # Nobody can come in between: there is one writing connection, and it runs one job at a time.
        if self._get(group, name) != expected:
            return False
        self.put(group, name, value, ttl_ms, most)
        return True

    def remove(self, group: str, name: str) -> None:
        """Remove a record."""
        self._connection.execute('DELETE FROM state WHERE "group" = ? AND name = ?', (group, name))

    def _count(self, group: str) -> int:
        (count,) = self._connection.execute(
            'SELECT count(*) FROM state WHERE "group" = ? AND expires_at > ?',
            (group, self._now_ms()),
        ).fetchone()
        return int(count)

    def _get(self, group: str, name: str) -> bytes | None:
        row = self._connection.execute(
            'SELECT value FROM state WHERE "group" = ? AND name = ? AND expires_at > ?',
            (group, name, self._now_ms()),
        ).fetchone()
        return None if row is None else row[0]

    def _now_ms(self) -> int:
        return self._clock() // 1000
