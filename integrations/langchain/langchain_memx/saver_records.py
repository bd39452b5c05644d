"""Serialised bytes as memX values, in parts where they are larger than a value may be."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from langchain_memx.connection import Flow, do
from langchain_memx.saver_keys import SaverKeys

_PART_BYTES = 600_000
"""As base64 800,000 characters: below memX's limit of 1 MiB for a value."""


class Records:
    """Packs and unpacks what the serialiser makes."""

    def __init__(self, keys: SaverKeys, serde: SerializerProtocol) -> None:
        self._keys = keys
        self._serde = serde

    def pack(self, thread: str, owner: str, value: Any) -> Flow[dict[str, Any]]:
        """Serialise ``value`` for the entry ``owner``; what has no room there is written first, in parts."""
        kind, data = self._serde.dumps_typed(value)
        if len(data) <= _PART_BYTES:
            return {"type": kind, "data": base64.b64encode(data).decode()}
        parts = [data[start : start + _PART_BYTES] for start in range(0, len(data), _PART_BYTES)]
        for number, part in enumerate(parts):
            text = base64.b64encode(part).decode()
            yield from do("set", self._keys.part(thread, owner, number), text, history=False)
        return {"type": kind, "parts": len(parts)}

    def unpack(self, thread: str, owner: str, packed: Mapping[str, Any]) -> Flow[Any]:
        """Read back what ``pack`` made."""
        if "parts" not in packed:
            return self._serde.loads_typed((packed["type"], base64.b64decode(packed["data"])))
        data = b""
        for number in range(packed["parts"]):
            part = yield from do("get", self._keys.part(thread, owner, number))
            if part is None:
                raise LookupError(f"part {number} of {owner} is missing")
            data += base64.b64decode(part.value)
        return self._serde.loads_typed((packed["type"], data))

    def remove(self, thread: str, owner: str) -> Flow[None]:
        """Delete an entry, then its parts."""
        yield from do("delete", owner)
        for key in (yield from do("keys", self._keys.parts(thread, owner))):
            yield from do("delete", key)
