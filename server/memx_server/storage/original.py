"""The layout in which the original memX kept its data in Redis: ``memx:value:KEY`` and ``memx:schema:KEY``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import redis
from redis.asyncio import Redis

from memx_server.storage.base import StoreUnavailable

_VALUES, _SCHEMAS = "memx:value:", "memx:schema:"
_SCANNED = 500
"""Keys that Redis looks at for one answer: it serves others in between."""
_LOOKS = 100


class OriginalItem(NamedTuple):
    """A value or a schema of the original.

    Attributes:
        key: Its key, with the beginning of a user's id before it where it was a user's.
        is_schema: Whether it is a schema.
        text: Its JSON text; None where what is stored is no such thing.
        ttl_ms: Milliseconds until it expires; None for never.
    """

    key: str
    is_schema: bool
    text: bytes | None
    ttl_ms: int | None = None


class _StoredValue(msgspec.Struct):
    value: msgspec.Raw


def holds_original(url: str) -> bool:
    """Tell whether a Redis holds data of the original memX, as far as a look of a moment shows.

    Raises:
        StoreUnavailable: It cannot be reached.
        ValueError: The URL cannot be used.
    """
    client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        for prefix in (_VALUES, _SCHEMAS):
            cursor = 0
            # A large Redis is not looked through: where there are many of its keys, one is soon found.
            for _ in range(_LOOKS):
                cursor, found = client.scan(cursor, match=f"{prefix}*", count=_SCANNED)
                if found:
                    return True
                if cursor == 0:
                    break
        return False
    except redis.RedisError as error:
        raise StoreUnavailable(str(error)) from None
    finally:
        client.close()


async def read_original(url: str) -> AsyncIterator[OriginalItem]:
    """Read what the original memX has left in a Redis; nothing there is changed.

    Raises:
        StoreUnavailable: Redis cannot be reached.
        ValueError: The URL cannot be used.
    """
    client = Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5)
    try:
        for prefix in (_SCHEMAS, _VALUES):
            # A scan may give a key twice; the second one says the same.
            async for name in client.scan_iter(f"{prefix}*", count=_SCANNED, _type="string"):
                key = name.decode(errors="backslashreplace").removeprefix(prefix)
                stored, ttl = await client.get(name), await client.pttl(name)
                if isinstance(stored, bytes):
                    is_schema = prefix == _SCHEMAS
                    yield OriginalItem(
                        key, is_schema, _json(stored, is_schema), ttl if ttl > 0 else None
                    )
    except redis.RedisError as error:
        raise StoreUnavailable(str(error)) from None
    finally:
        await client.aclose()


def _json(stored: bytes, is_schema: bool) -> bytes | None:
    try:
        if is_schema:
            return bytes(msgspec.json.decode(stored, type=msgspec.Raw))
        # With the time of the write beside it.
        return bytes(msgspec.json.decode(stored, type=_StoredValue).value)
    except ValueError:
        return None
