"""Rows of the entries, their times, and their JSON texts."""

from __future__ import annotations

from memx_server.storage.encoding import entry_text

EntryRow = tuple[str, int, int, int, int | None, str, bytes, int]
"""key, revision, version, ts (microseconds), expires_at (milliseconds), writer, value, logged (1 or 0)."""

SELECT_ENTRIES = "SELECT key, revision, version, ts, expires_at, writer, value, logged FROM entries WHERE space = ?"
"""Reads ``EntryRow``s of a space; conditions follow."""


def seconds(ts: int) -> float:
    """Microseconds as seconds."""
    return ts / 1_000_000


def expiry_seconds(expires_at: int | None) -> float | None:
    """Milliseconds as seconds, None as None."""
    return None if expires_at is None else expires_at / 1000


def text_of(row: EntryRow) -> bytes:
    """The JSON text of an entry."""
    key, revision, version, ts, expires_at, writer, value, logged = row
    expires = None if expires_at is None else expires_at / 1000
    stamp = ts / 1_000_000
    return entry_text(key, revision, version, stamp, writer, expires, value, logged=bool(logged))
