"""The unlogged state beside the log: small records that expire, in the same file and the same commits."""

from __future__ import annotations

from collections.abc import Callable

from memx_server.storage.base import StateStore
from memx_server.storage.sqlite.database import faults_as_unavailable
from memx_server.storage.sqlite.open_database import OpenDatabase


class SqliteState(StateStore):
    """The unlogged state of a ``SqliteStore``.

    Writes go through the commit queue like every other write, so a record is on the disk when its
    call returns. Reads go straight to the reading connection.

    Args:
        database: Returns the open database, or raises StoreUnavailable.
    """

    def __init__(self, database: Callable[[], OpenDatabase]) -> None:
        self._database = database

    async def put(
        self, group: str, name: str, value: bytes, ttl_ms: int, *, most: int | None = None
    ) -> None:
        """Set a record, replacing what it held; raises ``GroupFull``."""
        database = self._database()
        await database.queue.submit(lambda: database.state.put(group, name, value, ttl_ms, most))

    async def get(self, group: str, name: str) -> bytes | None:
        """Read a record."""
        with faults_as_unavailable():
            return self._database().reads.state(group, name)

    async def take(self, group: str, name: str) -> bytes | None:
        """Read and remove a record; of several takers one gets it."""
        database = self._database()
        return await database.queue.submit(
            lambda: database.state.take(group, name), although_full=True
        )

    async def take_tokens(
        self, group: str, name: str, count: int, *, interval_us: int, burst: int
    ) -> tuple[int, int]:
        """Take tokens out of a bucket; return how many, and the microseconds until the next one."""
        database = self._database()
        return await database.queue.submit(
            lambda: database.state.take_tokens(group, name, count, interval_us, burst),
            although_full=True,  # else no delete would get past the rate limit
        )

    async def compare_and_put(
        self,
        group: str,
        name: str,
        expected: bytes | None,
        value: bytes,
        ttl_ms: int,
        *,
        most: int | None = None,
    ) -> bool:
        """Set a record if it holds ``expected`` (None: if there is none); raises ``GroupFull``.

        Returns:
            Whether it was set.
        """
        database = self._database()
        return await database.queue.submit(
            lambda: database.state.compare_and_put(group, name, expected, value, ttl_ms, most)
        )

    async def remove(self, group: str, name: str) -> None:
        """Remove a record."""
        database = self._database()
        await database.queue.submit(lambda: database.state.remove(group, name), although_full=True)

    async def list(self, group: str) -> dict[str, bytes]:
        """Read every live record of a group."""
        with faults_as_unavailable():
            return self._database().reads.state_group(group)
