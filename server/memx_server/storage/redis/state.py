"""The state store on Redis: small records that expire, beside the log."""

from __future__ import annotations

from typing import Any

from memx_server.storage.redis.keyspace import Keyspaces
from memx_server.storage.redis.network.scripts import Script
from memx_server.storage.redis.network.topology import Topology


class RedisState:
    """The state store: each record a key of its own, each group an index of its names."""

    def __init__(self, topology: Topology, keyspaces: Keyspaces) -> None:
        self._topology = topology
        self._keyspaces = keyspaces
        self._script = Script("state")

    async def put(self, group: str, name: str, value: bytes, ttl_ms: int) -> None:
        """Set a record, replacing what it held."""
        await self._change(group, name, "put", ttl_ms, value)

    async def get(self, group: str, name: str) -> bytes | None:
        """Read a record."""
        space = self._keyspaces.group(group)
        found: bytes | None = await self._topology.call(space.slot, b"GET", space.record(name))
        return found

    async def take(self, group: str, name: str) -> bytes | None:
        """Read and remove a record; of several takers one gets it."""
        found: bytes | None = await self._change(group, name, "take")
        return found

    async def increment(self, group: str, name: str, ttl_ms: int, by: int = 1) -> int:
        """Add to a counter and return it; ``ttl_ms`` counts from its first increment."""
        count: int = await self._change(group, name, "increment", ttl_ms, by)
        return count

    async def compare_and_put(
        self, group: str, name: str, expected: bytes | None, value: bytes, ttl_ms: int
    ) -> bool:
        """Set a record if it holds ``expected`` (None: if there is none); tell whether it did."""
        before = () if expected is None else (expected,)
        return bool(await self._change(group, name, "compare_and_put", ttl_ms, value, *before))

    async def remove(self, group: str, name: str) -> None:
        """Remove a record."""
        await self._change(group, name, "remove")

    async def list(self, group: str) -> dict[str, bytes]:
        """Read every live record of a group."""
        space = self._keyspaces.group(group)
        names = await self._topology.call(space.slot, b"ZRANGE", space.index, 0, -1)
        if not names:
            return {}
        records = [space.record(name.decode()) for name in names]
        values = await self._topology.call(space.slot, b"MGET", *records)
        return {
            name.decode(): value
            for name, value in zip(names, values, strict=True)
            if value is not None
        }

    async def _change(self, group: str, name: str, action: str, *arguments: bytes | int) -> Any:
        space = self._keyspaces.group(group)
        keys = [space.record(name), space.index]
        return await self._script.run(self._topology, space.slot, keys, [action, name, *arguments])
