"""The serialised bytes of checkpoints as JSON, compressed where it pays."""

from __future__ import annotations

import base64
import zlib
from typing import Any

_WORTH_TRYING = 512
_WORTH_PACKING = 0.9
_MOST_BYTES = 1024 * 1024 * 1024
MOST_PARTS = 10_000
"""More than anybody stored: a record that claims more is none of ours, and would make its reader ask for each."""


def pack(kind: str, data: bytes) -> dict[str, Any]:
    """Write serialised bytes as the content of a record."""
    if len(data) >= _WORTH_TRYING:
        packed = zlib.compress(data, 1)
        if len(packed) < len(data) * _WORTH_PACKING:
            text = base64.b64encode(packed).decode()
            return {"type": kind, "data": text, "packing": "zlib", "bytes": len(data)}
    return {"type": kind, "data": base64.b64encode(data).decode()}


def unpack(content: dict[str, Any]) -> bytes:
    """Read serialised bytes from the content of a record.

    Raises:
        TypeError, ValueError: It holds none.
    """
    data = base64.b64decode(content.get("data"), validate=True)  # type: ignore[arg-type]  # raises TypeError for None
    if content.get("packing") is None:
        return data
    size = content["bytes"]
    if content["packing"] != "zlib" or not isinstance(size, int) or not 0 <= size <= _MOST_BYTES:
        raise ValueError("an unknown packing")
    try:
        # Bounded by what the record says, so that a few bytes cannot unfold into gigabytes.
        unpacked = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(unpacked) != size:
        raise ValueError("not the bytes that were packed")
    return unpacked


def has_content(stored: Any) -> bool:
    """Whether a value has the form of one of our records; what is in it is not restored here."""
    content = stored.get("content") if isinstance(stored, dict) else None
    if not (isinstance(content, dict) and isinstance(content.get("type"), str)):
        return False
    parts = content.get("parts", 0)
    return isinstance(parts, int) and 0 <= parts <= MOST_PARTS
