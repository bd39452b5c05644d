"""The JSON texts in which both stores keep entries and changes.

Entry::

    {"revision":7,"version":2,"ts":1.5,"writer":"w","expires_at":null,"key":"k","value":<value>}

Change (``reason`` and ``expires_at`` only where there is one; ``value`` is left out when the log does
not keep it)::

    {"event":"value","action":"set","key":"k","revision":7,"version":2,"ts":1.5,"writer":"w",
     "expires_at":9.0,"reason":"r","value":<value>}
    {"event":"value","action":"delete","key":"k","revision":8,"version":0,"ts":1.5,"writer":"w",
     "reason":"r","value":null}
    {"event":"value","action":"expire","key":"k","revision":9,"version":0,"ts":1.5,"writer":"",
     "value":null}
    {"event":"schema","action":"schema","key":"k*","revision":10,"ts":1.5,"writer":"w",
     "reason":"r","schema":<schema or null>}

``expires_at`` has milliseconds, ``ts`` microseconds. A key, writer or reason is escaped by
``quote``, so that every writer of these texts agrees on the bytes.
"""

from __future__ import annotations

import msgspec

quote = msgspec.json.Encoder().encode
"""JSON text of a string."""


class StoredEntry(msgspec.Struct, frozen=True):
    """An entry as the store keeps it; ``value`` is JSON text."""

    revision: int
    version: int
    ts: float
    writer: str
    key: str
    value: msgspec.Raw
    expires_at: float | None = None


_decode_entry = msgspec.json.Decoder(StoredEntry).decode


def decode_entry(text: bytes) -> StoredEntry:
    """Read an entry's JSON text."""
    return _decode_entry(text)
