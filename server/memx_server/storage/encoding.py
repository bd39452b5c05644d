"""The JSON texts of entries and changes, in the one form that both stores keep.

Entry::

    {"revision":7,"version":2,"ts":1.5,"writer":"w","expires_at":null,"key":"k","value":<value>}

An entry that is unlogged has ``"logged":false,`` behind its version.

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

``ts`` and ``expires_at`` are Unix seconds: ``expires_at`` has milliseconds, ``ts`` microseconds. A key,
writer or reason is escaped by ``quote``. This module is the only place in Python that writes these
texts; ``redis/lua/plan.lua`` is the only one in Lua, and the conformance suite compares the two byte
by byte.
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
    logged: bool = True


_decode_entry = msgspec.json.Decoder(StoredEntry).decode


def decode_entry(text: bytes) -> StoredEntry:
    """Read an entry's JSON text."""
    return _decode_entry(text)


_REVISION_AT = len(b'{"revision":')


def revision_in(text: bytes) -> int:
    """Read the revision out of an entry's JSON text, or out of the first 32 bytes of one."""
    return int(text[_REVISION_AT : text.index(b",", _REVISION_AT)])


def is_unlogged(text: bytes) -> bool:
    """Tell whether an entry's JSON text is that of an unlogged key."""
    # Before the place where it stands there are two numbers and nothing that a user wrote.
    return text.startswith(b'"logged"', text.index(b",", text.index(b",") + 1) + 1)


def entry_text(
    key: str,
    revision: int,
    version: int,
    ts: float,
    writer: str,
    expires_at: float | None,
    value: bytes | None,
    *,
    logged: bool = True,
) -> bytes:
    """The JSON text of an entry.

    Args:
        key: The key.
        revision: The revision of the transaction that wrote it.
        version: How often it has been written since it was created.
        ts: Unix seconds of that write.
        writer: Who wrote it.
        expires_at: Unix seconds; None where it does not expire.
        value: JSON text; None leaves the member out, for a reader who may not see it.
        logged: Whether the key is logged.
    """
    # `%a` of a float is its shortest exact form, which is also how Lua's side prints both times.
    return b'{"revision":%d,"version":%d%b,"ts":%a,"writer":%b,"expires_at":%b,"key":%b%b}' % (
        revision,
        version,
        b"" if logged else b',"logged":false',
        ts,
        quote(writer),
        b"null" if expires_at is None else b"%a" % expires_at,
        quote(key),
        b"" if value is None else b',"value":%b' % value,
    )


def set_text(
    key: str,
    revision: int,
    version: int,
    ts: float,
    writer: str,
    *,
    expires_at: float | None,
    reason: str | None,
    value: bytes | None,
) -> bytes:
    """The JSON text of a ``set``; arguments as for ``entry_text``, ``reason`` where one was given."""
    return b"%b%b%b%b}" % (
        _change_start(b"value", "set", key, revision, b'"version":%d,' % version, ts, writer),
        b"" if expires_at is None else b',"expires_at":%a' % expires_at,
        _reason(reason),
        b"" if value is None else b',"value":' + value,
    )


def removal_text(
    action: str, key: str, revision: int, ts: float, writer: str, *, reason: str | None
) -> bytes:
    """The JSON text of a ``delete`` or an ``expire``, which ``action`` says."""
    return b'%b%b,"value":null}' % (
        _change_start(b"value", action, key, revision, b'"version":0,', ts, writer),
        _reason(reason),
    )


def schema_text(
    key: str, revision: int, ts: float, writer: str, *, reason: str | None, schema: bytes
) -> bytes:
    """The JSON text of a schema's registration or, with ``schema`` null, of its removal."""
    return b'%b%b,"schema":%b}' % (
        _change_start(b"schema", "schema", key, revision, b"", ts, writer),
        _reason(reason),
        schema,
    )


def _change_start(
    event: bytes, action: str, key: str, revision: int, version: bytes, ts: float, writer: str
) -> bytes:
    return b'{"event":"%b","action":"%b","key":%b,"revision":%d,%b"ts":%a,"writer":%b' % (
        event,
        action.encode(),
        quote(key),
        revision,
        version,
        ts,
        quote(writer),
    )


def _reason(reason: str | None) -> bytes:
    return b"" if reason is None else b',"reason":' + quote(reason)
