"""The table of the unlogged state, as the jobs of the commit queue see it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable


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

    def put(self, group: str, name: str, value: bytes, ttl_ms: int) -> None:
        """Set a record."""
        self._connection.execute(
            'INSERT OR REPLACE INTO state ("group", name, value, expires_at) VALUES (?, ?, ?, ?)',
            (group, name, value, self._now_ms() + ttl_ms),
        )

    def take(self, group: str, name: str) -> bytes | None:
        """Read and remove a record."""
        value = self._get(group, name)
        self.remove(group, name)
        return value

    def increment(self, group: str, name: str, ttl_ms: int, by: int) -> int:
        """Add to a counter, which begins at 0."""
        value = self._get(group, name)
        if value is None:
            self.put(group, name, b"%d" % by, ttl_ms)
            return by
        # The expiry stays as it is: the time of a counter begins with its first increment.
        count = int(value) + by
        self._connection.execute(
            'UPDATE state SET value = ? WHERE "group" = ? AND name = ?',
            (b"%d" % count, group, name),
        )
        return count

    def compare_and_put(
        self, group: str, name: str, expected: bytes | None, value: bytes, ttl_ms: int
    ) -> bool:
        """Set a record if it holds ``expected``."""
        # Nobody can come in between: there is one writing connection, and it runs one job at a time.
        if self._get(group, name) != expected:
            return False
        self.put(group, name, value, ttl_ms)
        return True

    def remove(self, group: str, name: str) -> None:
        """Remove a record."""
        self._connection.execute('DELETE FROM state WHERE "group" = ? AND name = ?', (group, name))

    def _get(self, group: str, name: str) -> bytes | None:
        row = self._connection.execute(
            'SELECT value FROM state WHERE "group" = ? AND name = ? AND expires_at > ?',
            (group, name, self._now_ms()),
        ).fetchone()
        return None if row is None else row[0]

    def _now_ms(self) -> int:
        return self._clock() // 1000
