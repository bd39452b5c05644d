"""langchain-core's key-value store over memX."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.stores import ByteStore

from langchain_memx.connection import Connected, Flows, MemxConnection
from memx_sdk.collections import AsyncRecords, BytesForm, Record, Records


class MemxByteStore(Connected, ByteStore):
    """Bytes under any name and of any size, for caches such as ``CacheBackedEmbeddings``.

    Under the default prefix agents' tools do not see them; what a cache returns is what its reader believes, so keep
    other API keys out, too.

    Args:
        connection: Where memX is; by default what the environment says.
        prefix: What the keys start with.
        ttl: Seconds after which a value expires.
    """

    def __init__(
        self,
        connection: MemxConnection | None = None,
        *,
        prefix: str = "memx:bytes",
        ttl: float | None = None,
    ) -> None:
        super().__init__(connection)
        self._ttl = ttl
        options: dict[str, Any] = {
            "form": BytesForm(),
            "plain": True,
            "logged": False,
            "noun": "bytes",
        }
        self._flows: Flows[Records[bytes], AsyncRecords[bytes]] = Flows(
            self._connection,
            lambda context: Records(context, prefix, **options),
            lambda context: AsyncRecords(context, prefix, **options),
        )

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read values; None for each name that is not there."""
        return _in_order(keys, self._flows.here.get_many(keys))

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The same without blocking the event loop."""
        return _in_order(keys, await self._flows.of_loop.get_many(keys))

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Set values."""
        self._flows.here.put_many(dict(key_value_pairs), ttl=self._ttl)

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """The same without blocking the event loop."""
        await self._flows.of_loop.put_many(dict(key_value_pairs), ttl=self._ttl)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Delete names; missing ones are no error."""
        self._flows.here.delete_many(keys)

    async def amdelete(self, keys: Sequence[str]) -> None:
        """The same without blocking the event loop."""
        await self._flows.of_loop.delete_many(keys)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Iterate over the names that start with ``prefix``."""
        yield from self._flows.here.names(prefix or "")

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """The same without blocking the event loop."""
        for name in await self._flows.of_loop.names(prefix or ""):
            yield name


def _in_order(
    names: Sequence[str], found: Mapping[str, Record[bytes] | None]
) -> list[bytes | None]:
    """The values of names, in their order; None for each that is not there."""
    records = (found[name] for name in names)
    return [None if record is None else record.value for record in records]
