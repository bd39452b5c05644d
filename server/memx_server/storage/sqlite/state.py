"""``StateStore`` on SQLite."""

from __future__ import annotations

from collections.abc import Callable

from memx_server.storage.base import StateStore
from memx_server.storage.sqlite.database import faults_as_unavailable
from memx_server.storage.sqlite.open_database import OpenDatabase


class SqliteState(StateStore):
    """The small state of a ``SqliteStore``.

    Args:
        session: Gives the open session, or raises StoreUnavailable.
    """

    def __init__(self, session: Callable[[], OpenDatabase]) -> None:
        self._session = session

    async def put(self, group: str, name: str, value: bytes, ttl_ms: int) -> None:
        """Set a record, replacing what it held."""
        session = self._session()
        await session.writer.submit(lambda: session.state.put(group, name, value, ttl_ms))

    async def get(self, group: str, name: str) -> bytes | None:
        """Read a record."""
        with faults_as_unavailable():
            return self._session().reads.state(group, name)

    async def take(self, group: str, name: str) -> bytes | None:
        """Read and remove a record; of several takers one gets it."""
        session = self._session()
        return await session.writer.submit(lambda: session.state.take(group, name))

    async def increment(self, group: str, name: str, ttl_ms: int, by: int = 1) -> int:
        """Add to a counter and return it; ``ttl_ms`` counts from its first increment."""
        session = self._session()
        return await session.writer.submit(lambda: session.state.increment(group, name, ttl_ms, by))

    async def compare_and_put(
        self, group: str, name: str, expected: bytes | None, value: bytes, ttl_ms: int
    ) -> bool:
        """Set a record if it holds ``expected`` (None: if there is none); tell whether it did."""
        session = self._session()
        return await session.writer.submit(
            lambda: session.state.compare_and_put(group, name, expected, value, ttl_ms)
        )

    async def remove(self, group: str, name: str) -> None:
        """Remove a record."""
        session = self._session()
        await session.writer.submit(lambda: session.state.remove(group, name))

    async def list(self, group: str) -> dict[str, bytes]:
        """Read every live record of a group."""
        with faults_as_unavailable():
            return self._session().reads.state_group(group)
