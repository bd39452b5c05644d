# Generated from integrations/langchain/langchain_memx/_async/byte_values.py by tools/unasync.py; change that file, not this one.
"""Bytes under any name as records of memX."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from urllib.parse import quote, unquote

from memx_sdk import memxContext, Entry
from memx_sdk.collections import ForeignValues

_ONE_READ = 50

_foreign = ForeignValues(logging.getLogger(__name__), "bytes")


class ByteValues:
    """Named bytes, kept as base64 text.

    Args:
        context: Where the values are.
        prefix: What their keys start with, with the colon at its end.
        ttl: Seconds after which a value expires.
    """

    def __init__(self, context: memxContext, prefix: str, ttl: float | None) -> None:
        self._context = context
        self._prefix = prefix
        self._ttl = ttl

    def mget(self, names: Sequence[str]) -> list[bytes | None]:
        """Read values; None for each name that is not there."""
        found: list[bytes | None] = []
        for start in range(0, len(names), _ONE_READ):
            keys = [self._key(name) for name in names[start : start + _ONE_READ]]
            entries = self._context.mget(keys)
            for key in keys:
                entry = entries[key]
                found.append(None if entry is None else _bytes_of(entry))
        return found

    def mset(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        """Set values."""
        # One write each, not a transaction: a cache wants no atomicity, and together they may be too large for one.
        for name, value in pairs:
            text = base64.b64encode(value).decode()
            self._context.set(self._key(name), text, ttl=self._ttl, history=False)

    def mdelete(self, names: Sequence[str]) -> None:
        """Delete names; missing ones are no error."""
        for name in names:
            self._context.delete(self._key(name))

    def names(self, prefix: str | None) -> list[str]:
        """List the names that start with ``prefix``; slashes stay in keys, so that names keep their order."""
        keys = self._context.keys(f"{self._key(prefix or '')}*")
        return [unquote(key[len(self._prefix) :]) for key in keys]

    def _key(self, name: str) -> str:
        return self._prefix + quote(name, safe="/")


def _bytes_of(entry: Entry) -> bytes | None:
    try:
        return base64.b64decode(entry.value, validate=True)
    except (TypeError, ValueError):
        _foreign.note(entry.key)
        return None
