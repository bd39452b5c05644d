"""The state store on Redis: small records that expire, beside the log."""

from __future__ import annotations

from typing import Any

from memx_server.storage.base import GroupFull
from memx_server.storage.redis.keyspace import Keyspaces
from memx_server.storage.redis.network.topology import Script, Topology

_FULL = -1
"""What the script returns where it made no record, since the group is full."""


class RedisState:
    """The state store: each record a key of its own, each group an index of its names."""

    def __init__(self, topology: Topology, keyspaces: Keyspaces) -> None:
        self._topology = topology
        self._keyspaces = keyspaces
        self._script = Script("state")

    async def put(
        self, group: str, name: str, value: bytes, ttl_ms: int, *, most: int | None = None
    ) -> None:
        """Set a record, replacing what it held; raises ``GroupFull``."""
        if await self._change(group, name, "put", ttl_ms, value, most or 0) == _FULL:
            raise GroupFull

    async def get(self, group: str, name: str) -> bytes | None:
        """Read a record."""
        space = self._keyspaces.group(group)
        found: bytes | None = await self._topology.call(space.slot, b"GET", space.record(name))
        return found

    async def take(self, group: str, name: str) -> bytes | None:
        """Read and remove a record; of several takers one gets it."""
        found: bytes | None = await self._change(group, name, "take")
        return found

    async def take_tokens(
        self, group: str, name: str, count: int, *, interval_us: int, burst: int
    ) -> tuple[int, int]:
        """Take tokens out of a bucket; return how many, and the microseconds until the next one."""
        taken, wait_us = await self._change(
            group, name, "take_tokens", interval_us, count, 0, burst
        )
        return taken, wait_us

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
        before = () if expected is None else (expected,)
        outcome = await self._change(
            group, name, "compare_and_put", ttl_ms, value, most or 0, *before
        )
        if outcome == _FULL:
            raise GroupFull
        return bool(outcome)

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
