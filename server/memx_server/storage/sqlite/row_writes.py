"""Applies the writes of one transaction to the tables and drafts their changes for the log."""

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
from memx_server.storage.sqlite.json_texts import (
    EntryRow,
    expiry_seconds,
    schema_change,
    value_change,
)
from memx_server.storage.sqlite.spaces import Space

UNCHANGED = WriteOutcome(changed=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a key holds before a write, as far as the write needs to know; ``expires_at`` in ms."""

    revision: int
    version: int
    expires_at: int | None


MISSING = Standing(revision=0, version=0, expires_at=None)


@dataclass(slots=True)
class ChangeDraft:
    """A transaction while it is applied.

    Attributes:
        revision: What it takes if it changes anything.
        ts: Microseconds since the epoch.
        changes: What it did so far, for the log.
    """

    space: Space
    writer: str
    revision: int
    ts: int
    changes: list[Change] = field(default_factory=list)

    def expiry(self, ttl_ms: int | None) -> int | None:
        """When what lives ``ttl_ms`` from now expires, in milliseconds since the epoch."""
        return None if ttl_ms is None else self.ts // 1000 + ttl_ms

    def count(self, added: int) -> None:
        """Keep the number of the space's keys right, where it is known."""
        if self.space.keys is not None:
            self.space.keys += added


class RowWrites:
    """Does what each kind of write says.

    Args:
        connection: The one connection that writes.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def apply(self, draft: ChangeDraft, write: Write, before: Standing) -> WriteOutcome:
        """Apply one write on a key that holds ``before``."""
        match write:
            case Put():
                return self._put(draft, write, before)
            case Touch():
                return self._touch(draft, write, before)
            case Delete():
                if before is MISSING:
                    return UNCHANGED
                self.remove(draft, write.key, "delete", write.reason)
                return WriteOutcome(changed=True)
            case PutSchema():
                return self._put_schema(draft, write)
            case DeleteSchema():
                return self._delete_schema(draft, write)

    def remove(self, draft: ChangeDraft, key: str, action: str, reason: str | None = None) -> None:
        """Remove an entry; ``action`` says why: ``delete`` or ``expire``."""
        self._connection.execute(
            "DELETE FROM entries WHERE space = ? AND key = ?", (draft.space.id, key)
        )
        draft.count(-1)
        row: EntryRow = (key, draft.revision, 0, draft.ts, None, draft.writer, b"null")
        draft.changes.append(Change(key, action, value_change(action, row, reason=reason)))

    def _put(self, draft: ChangeDraft, put: Put, before: Standing) -> WriteOutcome:
        expires_at = before.expires_at if put.keep_expiry else draft.expiry(put.ttl_ms)
        version = before.version + 1
        stamp = draft.revision, version, draft.ts, expires_at, draft.writer
        row: EntryRow = (put.key, *stamp, put.value)
        self._connection.execute(
            "INSERT INTO entries (space, key, revision, version, ts, expires_at, writer, value)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (space, key) DO UPDATE SET revision = excluded.revision,"
            " version = excluded.version, ts = excluded.ts, expires_at = excluded.expires_at,"
            " writer = excluded.writer, value = excluded.value",
            (draft.space.id, *row),
        )
        if before is MISSING:
            draft.count(1)
        data = value_change("set", row, reason=put.reason, with_value=put.log_value)
        draft.changes.append(Change(put.key, "set", data))
        return WriteOutcome(True, version, expiry_seconds(expires_at))

    def _touch(self, draft: ChangeDraft, touch: Touch, before: Standing) -> WriteOutcome:
        if before is MISSING:
            return UNCHANGED
        expires_at = draft.expiry(touch.ttl_ms)
        self._connection.execute(
            "UPDATE entries SET expires_at = ? WHERE space = ? AND key = ?",
            (expires_at, draft.space.id, touch.key),
        )
        return WriteOutcome(True, before.version, expiry_seconds(expires_at))

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
    draft.space.schema_revision = draft.revision
    stamp = draft.revision, draft.ts, draft.writer
    data = schema_change(write.key, *stamp, reason=write.reason, schema=schema)
    draft.changes.append(Change(write.key, "schema", data))
