"""langchain-core's key-value store over memX."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from langchain_core.stores import ByteStore

from langchain_memx._async.byte_values import AsyncByteValues
from langchain_memx._sync.byte_values import ByteValues
from langchain_memx.connection import MemxConnection


class MemxByteStore(ByteStore):
    """Bytes under any name, for caches such as ``CacheBackedEmbeddings``.

    Values are kept as base64 text, so one holds up to about 780,000 bytes. Under the default prefix agents' tools do
    not see them; what a cache returns is what its reader believes, so keep other API keys out, too.

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
        self._connection = MemxConnection.of(connection)
        self._prefix = f"{prefix}:"
        self._ttl = ttl

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read values; None for each name that is not there."""
        return self._values.mget(keys)

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The same without blocking the event loop."""
        return await self._async_values.mget(keys)

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Set values."""
        self._values.mset(key_value_pairs)

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """The same without blocking the event loop."""
        await self._async_values.mset(key_value_pairs)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Delete names; missing ones are no error."""
        self._values.mdelete(keys)

    async def amdelete(self, keys: Sequence[str]) -> None:
        """The same without blocking the event loop."""
        await self._async_values.mdelete(keys)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Iterate over the names that start with ``prefix``."""
        yield from self._values.names(prefix)

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """The same without blocking the event loop."""
        for name in await self._async_values.names(prefix):
            yield name

    @property
    def _values(self) -> ByteValues:
        return ByteValues(self._connection.context, self._prefix, self._ttl)

    @property
    def _async_values(self) -> AsyncByteValues:
        return AsyncByteValues(self._connection.async_context, self._prefix, self._ttl)
