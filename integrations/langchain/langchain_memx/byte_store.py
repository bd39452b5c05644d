"""langchain-core's key-value store over memX."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator, Sequence
from urllib.parse import quote, unquote

from langchain_core.stores import ByteStore

from langchain_memx.connection import Flow, MemxConnection, do

_ONE_READ = 50


class MemxByteStore(ByteStore):
    """Bytes under any name, for caches such as ``CacheBackedEmbeddings``.

    Values are kept as base64 text, so one holds up to about 780,000 bytes.

    Args:
        connection: Where memX is; by default what the environment says.
        prefix: What the keys start with.
        ttl: Seconds after which a value expires.
    """

    def __init__(
        self,
        connection: MemxConnection | None = None,
        *,
        prefix: str = "bytes",
        ttl: float | None = None,
    ) -> None:
        self._connection = connection or MemxConnection()
        self._prefix = f"{prefix}:"
        self._ttl = ttl

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read values; None for each name that is not there."""
        return self._connection.run(self._mget(keys))

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The same without blocking the event loop."""
        return await self._connection.arun(self._mget(keys))

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Set values."""
        self._connection.run(self._mset(key_value_pairs))

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """The same without blocking the event loop."""
        await self._connection.arun(self._mset(key_value_pairs))

    def mdelete(self, keys: Sequence[str]) -> None:
        """Delete names; missing ones are no error."""
        self._connection.run(self._mdelete(keys))

    async def amdelete(self, keys: Sequence[str]) -> None:
        """The same without blocking the event loop."""
        await self._connection.arun(self._mdelete(keys))

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Iterate over the names that start with ``prefix``."""
        yield from self._connection.run(self._names(prefix))

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """The same without blocking the event loop."""
        for name in await self._connection.arun(self._names(prefix)):
            yield name

    def _mget(self, names: Sequence[str]) -> Flow[list[bytes | None]]:
        found: list[bytes | None] = []
        for start in range(0, len(names), _ONE_READ):
            keys = [self._key(name) for name in names[start : start + _ONE_READ]]
            entries = yield from do("mget", keys)
            found += [
                None if entries[key] is None else base64.b64decode(entries[key].value)
                for key in keys
            ]
        return found

    def _mset(self, pairs: Sequence[tuple[str, bytes]]) -> Flow[None]:
        for name, value in pairs:
            text = base64.b64encode(value).decode()
            yield from do("set", self._key(name), text, ttl=self._ttl, history=False)

    def _mdelete(self, names: Sequence[str]) -> Flow[None]:
        for name in names:
            yield from do("delete", self._key(name))

    def _names(self, prefix: str | None) -> Flow[list[str]]:
        keys = yield from do("keys", f"{self._key(prefix or '')}*")
        return [unquote(key[len(self._prefix) :]) for key in keys]

    def _key(self, name: str) -> str:
        return self._prefix + quote(name, safe="/")
