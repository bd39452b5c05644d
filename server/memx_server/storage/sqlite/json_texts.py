"""Writes the JSON texts of ``storage/encoding.py`` from SQLite's columns.

Here ``ts`` is in microseconds and ``expires_at`` in milliseconds, as the columns are; in the texts
both are in seconds.
"""

from __future__ import annotations

from memx_server.storage.encoding import quote

EntryRow = tuple[str, int, int, int, int | None, str, bytes]
"""key, revision, version, ts, expires_at, writer, value."""

SELECT_ENTRIES = (
    "SELECT key, revision, version, ts, expires_at, writer, value FROM entries WHERE space = ?"
)
"""Reads ``EntryRow``s of a space; conditions follow."""


def seconds(ts: int) -> float:
    """Microseconds as seconds."""
    return ts / 1_000_000


def expiry_seconds(expires_at: int | None) -> float | None:
    """Milliseconds as seconds, None as None."""
    return None if expires_at is None else expires_at / 1000


def entry_text(row: EntryRow) -> bytes:
    """The JSON text of an entry."""
    key, revision, version, ts, expires_at, writer, value = row
    return (
        b'{"revision":%d,"version":%d,"ts":%a,"writer":%b,"expires_at":%b,"key":%b,"value":%b}'
    ) % (
        revision,
        version,
        ts / 1_000_000,
        quote(writer),
        b"null" if expires_at is None else b"%a" % (expires_at / 1000),
        quote(key),
        value,
    )


def value_change(
    action: str,
    row: EntryRow,
    *,
    reason: str | None = None,
    with_value: bool = True,
) -> bytes:
    """The JSON text of a ``set``, ``delete`` or ``expire``."""
    key, revision, version, ts, expires_at, writer, value = row
    return b"%b%b%b}" % (
        _change_start(b"value", action, key, revision, b'"version":%d,' % version, ts, writer),
        (b"" if expires_at is None else b',"expires_at":%a' % (expires_at / 1000))
        + _reason(reason),
        b',"value":' + value if with_value else b"",
    )


def schema_change(
    key: str, revision: int, ts: int, writer: str, *, reason: str | None, schema: bytes
) -> bytes:
    """The JSON text of a schema's registration or, with ``schema`` null, removal."""
    return b'%b%b,"schema":%b}' % (
        _change_start(b"schema", "schema", key, revision, b"", ts, writer),
        _reason(reason),
        schema,
    )


def _change_start(
    event: bytes, action: str, key: str, revision: int, version: bytes, ts: int, writer: str
) -> bytes:
    return b'{"event":"%b","action":"%b","key":%b,"revision":%d,%b"ts":%a,"writer":%b' % (
        event,
        action.encode(),
        quote(key),
        revision,
        version,
        ts / 1_000_000,
        quote(writer),
    )


def _reason(reason: str | None) -> bytes:
    return b"" if reason is None else b',"reason":' + quote(reason)
