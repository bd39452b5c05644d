"""The writes of one transaction as statements on the tables, and as changes for the log."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from memx_server.storage.base import (
    Change,
    Delete,
    DeleteSchema,
    Put,
    PutSchema,
    Touch,
    Write,
    WriteOutcome,
)
from memx_server.storage.encoding import removal_text, schema_text, set_text
from memx_server.storage.sqlite.rows import expiry_seconds, seconds
from memx_server.storage.sqlite.spaces import Space

UNCHANGED = WriteOutcome(changed=False)


@dataclass(frozen=True, slots=True)
class PresentEntry:
    """What a key holds before a write, without its value.

    Attributes:
        revision: The revision that wrote it; 0 where there is no entry.
        version: How often it has been written; 0 where there is no entry.
        expires_at: Milliseconds since the epoch; None where it does not expire.
        logged: Whether the key is logged.
    """

    revision: int
    version: int
    expires_at: int | None
    logged: bool = True


MISSING = PresentEntry(revision=0, version=0, expires_at=None)


@dataclass(slots=True)
class ChangeDraft:
    """A transaction while it is applied.

    Attributes:
        space: The space that it is for.
        writer: Who writes.
        revision: The revision that it takes if it changes anything.
        ts: Microseconds since the epoch.
        changes: What it has changed so far, for the log.
        is_quiet: Whether it has changed unlogged keys, which the log does not tell.
    """

    space: Space
    writer: str
    revision: int
    ts: int
    changes: list[Change] = field(default_factory=list)
    is_quiet: bool = False

    def expiry(self, ttl_ms: int | None) -> int | None:
        """When what lives ``ttl_ms`` from now expires, in milliseconds since the epoch."""
        return None if ttl_ms is None else self.ts // 1000 + ttl_ms

    def count_keys(self, added: int) -> None:
        """Keep the number of the space's keys right, where it is known."""
        if self.space.keys is not None:
            self.space.keys += added


class RowWrites:
    """Applies each kind of write.

    Args:
        connection: The one connection that writes.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def apply(self, draft: ChangeDraft, write: Write, before: PresentEntry) -> WriteOutcome:
        """Apply one write on a key that holds ``before``."""
        match write:
            case Put():
                return self._put(draft, write, before)
            case Touch():
                return self._touch(draft, write, before)
            case Delete():
                if before is MISSING:
                    return UNCHANGED
                if before.logged:
                    self.remove(draft, write.key, "delete", write.reason)
                else:
                    self.remove_unlogged(draft, write.key)
                    draft.is_quiet = True
                return WriteOutcome(changed=True, logged=before.logged)
            case PutSchema():
                return self._put_schema(draft, write)
            case DeleteSchema():
                return self._delete_schema(draft, write)

    def remove(self, draft: ChangeDraft, key: str, action: str, reason: str | None = None) -> None:
        """Remove an entry; ``action`` says why: ``delete`` or ``expire``."""
        self.remove_unlogged(draft, key)
        text = removal_text(
            action, key, draft.revision, seconds(draft.ts), draft.writer, reason=reason
        )
        draft.changes.append(Change(key, action, text))

    def remove_unlogged(self, draft: ChangeDraft, key: str) -> None:
        """Remove an entry without a change for the log."""
        self._connection.execute(
            "DELETE FROM entries WHERE space = ? AND key = ?", (draft.space.id, key)
        )
        draft.count_keys(-1)

    def _put(self, draft: ChangeDraft, put: Put, before: PresentEntry) -> WriteOutcome:
        expires_at = before.expires_at if put.keep_expiry else draft.expiry(put.ttl_ms)
        version = before.version + 1
        logged = put.logged is not False if before is MISSING else before.logged
        # An upsert rather than INSERT OR REPLACE: that would delete the row and make another one,
        # which moves it to the end of the table and touches every index.
        self._connection.execute(
            "INSERT INTO entries (space, key, revision, version, ts, expires_at, writer, value, logged)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (space, key) DO UPDATE SET revision = excluded.revision,"
            " version = excluded.version, ts = excluded.ts, expires_at = excluded.expires_at,"
            " writer = excluded.writer, value = excluded.value",
            (
                draft.space.id,
                put.key,
                draft.revision,
                version,
                draft.ts,
                expires_at,
                draft.writer,
                put.value,
                int(logged),
            ),
        )
        if before is MISSING:
            draft.count_keys(1)
        if not logged:
            draft.is_quiet = True
            return WriteOutcome(True, version, expiry_seconds(expires_at), logged=False)
        text = set_text(
            put.key,
            draft.revision,
            version,
            seconds(draft.ts),
            draft.writer,
            expires_at=expiry_seconds(expires_at),
            reason=put.reason,
            value=put.value if put.log_value else None,
        )
        draft.changes.append(Change(put.key, "set", text))
        return WriteOutcome(True, version, expiry_seconds(expires_at))

    def _touch(self, draft: ChangeDraft, touch: Touch, before: PresentEntry) -> WriteOutcome:
        if before is MISSING:
            return UNCHANGED
        expires_at = draft.expiry(touch.ttl_ms)
        self._connection.execute(
            "UPDATE entries SET expires_at = ? WHERE space = ? AND key = ?",
            (expires_at, draft.space.id, touch.key),
        )
        return WriteOutcome(True, before.version, expiry_seconds(expires_at), logged=before.logged)

    def _put_schema(self, draft: ChangeDraft, put: PutSchema) -> WriteOutcome:
        self._connection.execute(
            "INSERT INTO schemas (space, pattern, schema) VALUES (?, ?, ?)"
            " ON CONFLICT (space, pattern) DO UPDATE SET schema = excluded.schema",
            (draft.space.id, put.key, put.schema),
        )
        _schema_changed(draft, put, put.schema)
        return WriteOutcome(changed=True)

    def _delete_schema(self, draft: ChangeDraft, delete: DeleteSchema) -> WriteOutcome:
        removed = self._connection.execute(
            "DELETE FROM schemas WHERE space = ? AND pattern = ?", (draft.space.id, delete.key)
        ).rowcount
        if not removed:
            return UNCHANGED
        _schema_changed(draft, delete, b"null")
        return WriteOutcome(changed=True)


def _schema_changed(draft: ChangeDraft, write: PutSchema | DeleteSchema, schema: bytes) -> None:
    # From here on a commit whose values were checked against an older revision is refused.
    draft.space.schema_revision = draft.revision
    text = schema_text(
        write.key,
        draft.revision,
        seconds(draft.ts),
        draft.writer,
        reason=write.reason,
        schema=schema,
    )
    draft.changes.append(Change(write.key, "schema", text))
