"""Commits transactions and expiries, and keeps the log: the writer's side of the store.

Everything here runs inside a database transaction that ``writer.py`` opens and commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import msgspec

from memx_server.storage.base import (
    IDEMPOTENCY_KEPT_MS,
    Committed,
    Conflicted,
    DeleteSchema,
    Idempotency,
    IdempotencyMismatch,
    Outcome,
    PutSchema,
    Record,
    SchemaMoved,
    SpaceFull,
    Transaction,
)
from memx_server.storage.sqlite.json_texts import SELECT_ENTRIES, entry_text, seconds
from memx_server.storage.sqlite.key_quota import KeyQuota
from memx_server.storage.sqlite.row_writes import MISSING, ChangeDraft, RowWrites, Standing
from memx_server.storage.sqlite.spaces import Space, Spaces

_encode = msgspec.json.Encoder().encode
_decode_committed = msgspec.json.Decoder(Committed).decode


class CommitWriter:
    """The database, as transactions see it.

    Args:
        connection: The one connection that writes.
        clock: Microseconds since the epoch.
        log_max_records: Records that the log of a space keeps.
        log_max_bytes: Bytes of change texts that the log of a space keeps.
        max_keys: Keys that a space may hold; 0 for no cap.

    Attributes:
        fresh: What was logged since it was last emptied, by name of the space: for those who tail.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Callable[[], int],
        *,
        log_max_records: int,
        log_max_bytes: int,
        max_keys: int,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._log_max_records = log_max_records
        self._log_max_bytes = log_max_bytes
        self._writes = RowWrites(connection)
        self._spaces = Spaces(connection)
        self._room = KeyQuota(connection, max_keys)
        self.fresh: list[tuple[str, Record]] = []

    def commit(self, space_name: str, transaction: Transaction) -> Outcome:
        """Apply a transaction, or say what stood in its way."""
        space = self._spaces.get(space_name)
        now = self._clock()
        if transaction.idempotency and (
            earlier := self._earlier_answer(space, transaction.idempotency, now)
        ):
            return earlier
        standings = self._standings(space, transaction, now)
        if refusal := self._refusal(space, transaction, standings):
            return refusal
        if not self._room.is_left(space, transaction, standings, now // 1000):
            return SpaceFull(self._room.max_keys)
        draft = self._draft(space, transaction.writer, now)
        written = [
            self._writes.apply(draft, write, standings.get(write.key, MISSING))
            for write in transaction.writes
        ]
        self._log(draft)
        committed = Committed(space.position, seconds(now), written)
        if transaction.idempotency:
            self._remember(space, transaction.idempotency, committed, now)
        return committed

    def expire_due(self, limit: int) -> None:
        """Log the expiry of up to ``limit`` entries whose time has come."""
        now = self._clock()
        due = self._connection.execute(
            "SELECT space, key FROM entries WHERE expires_at <= ? ORDER BY expires_at LIMIT ?",
            (now // 1000, limit),
        ).fetchall()
        for space_id, key in due:
            self._expire(self._spaces.by_id(space_id), key, now)

    def next_due(self) -> int | None:
        """When the next entry expires, in milliseconds since the epoch."""
        due: int | None = self._connection.execute(
            "SELECT min(expires_at) FROM entries WHERE expires_at IS NOT NULL"
        ).fetchone()[0]
        return due

    def purge(self) -> None:
        """Drop what nobody can see any more: old idempotency tokens and expired state."""
        now_ms = self._clock() // 1000
        self._connection.execute("DELETE FROM idempotency WHERE expires_at <= ?", (now_ms,))
        self._connection.execute("DELETE FROM state WHERE expires_at <= ?", (now_ms,))

    def forget(self, logged_before: int) -> None:
        """Drop what is held in memory, after a rollback.

        Args:
            logged_before: How much of ``fresh`` was there before, and stays.
        """
        del self.fresh[logged_before:]
        self._spaces.forget()

    def _standings(self, space: Space, transaction: Transaction, now: int) -> dict[str, Standing]:
        """What the keys of the transaction hold, once those whose time has come are gone."""
        standings: dict[str, Standing] = {}
        for part in (*transaction.compares, *transaction.writes):
            if part.key in standings or isinstance(part, PutSchema | DeleteSchema):
                continue
            row = self._connection.execute(
                "SELECT revision, version, expires_at FROM entries WHERE space = ? AND key = ?",
                (space.id, part.key),
            ).fetchone()
            if row is None:
                continue
            if row[2] is not None and row[2] <= now // 1000:
                self._expire(space, part.key, now)
            else:
                standings[part.key] = Standing(*row)
        return standings

    def _refusal(
        self, space: Space, transaction: Transaction, standings: dict[str, Standing]
    ) -> SchemaMoved | Conflicted | None:
        if transaction.schema_revision not in (None, space.schema_revision):
            return SchemaMoved(space.schema_revision)
        for compare in transaction.compares:
            if standings.get(compare.key, MISSING).revision != compare.revision:
                return Conflicted(compare.key, self._entry(space, compare.key))
        return None

    def _entry(self, space: Space, key: str) -> bytes | None:
        row = self._connection.execute(SELECT_ENTRIES + " AND key = ?", (space.id, key)).fetchone()
        return None if row is None else entry_text(row)

    def _expire(self, space: Space, key: str, now: int) -> None:
        draft = self._draft(space, "", now)
        self._writes.remove(draft, key, "expire")
        self._log(draft)

    def _draft(self, space: Space, writer: str, now: int) -> ChangeDraft:
        return ChangeDraft(space, writer, self._spaces.next_revision(space, now), now)

    def _log(self, draft: ChangeDraft) -> None:
        if not draft.changes:
            return
        space, previous = draft.space, draft.space.head
        self._spaces.advance(space, draft.revision)
        for part, change in enumerate(draft.changes):
            place = space.id, draft.revision, part, previous, self._is_first(space, change.key)
            self._connection.execute(
                "INSERT INTO changes (space, revision, part, previous, first, key, action, data)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*place, change.key, change.action, change.data),
            )
        space.log_records += 1
        space.log_bytes += sum(len(change.data) for change in draft.changes)
        self._trim(space)
        self._spaces.save(space)
        self.fresh.append((space.name, Record(space.position, previous, draft.changes)))

    def _is_first(self, space: Space, key: str) -> bool:
        """Tell whether surely no change of ``key`` came before, which a trimmed log cannot."""
        if space.floor:
            return False
        (known,) = self._connection.execute(
            "SELECT EXISTS (SELECT 1 FROM changes"
            " WHERE space = ? AND key = ? AND action <> 'schema')",
            (space.id, key),
        ).fetchone()
        return not known

    def _trim(self, space: Space) -> None:
        """Drop the oldest records that are too many or too big; the newest always stays."""
        if not self._log_too_big(space):
            return
        oldest_first = self._connection.execute(
            "SELECT revision, sum(length(data)) FROM changes WHERE space = ? AND revision < ?"
            " GROUP BY revision ORDER BY revision",
            (space.id, space.head),
        )
        for revision, size in oldest_first:
            space.floor = revision
            space.log_records -= 1
            space.log_bytes -= size
            if not self._log_too_big(space):
                break
        oldest_first.close()
        self._connection.execute(
            "DELETE FROM changes WHERE space = ? AND revision <= ?", (space.id, space.floor)
        )

    def _log_too_big(self, space: Space) -> bool:
        return space.log_records > self._log_max_records or space.log_bytes > self._log_max_bytes

    def _earlier_answer(
        self, space: Space, idempotency: Idempotency, now: int
    ) -> Committed | IdempotencyMismatch | None:
        row = self._connection.execute(
            "SELECT digest, answer FROM idempotency"
            " WHERE space = ? AND token = ? AND expires_at > ?",
            (space.id, idempotency.token, now // 1000),
        ).fetchone()
        if row is None:
            return None
        digest, answer = row
        return _decode_committed(answer) if digest == idempotency.digest else IdempotencyMismatch()

    def _remember(
        self, space: Space, idempotency: Idempotency, committed: Committed, now: int
    ) -> None:
        repeated = Committed(
            committed.position, committed.ts, committed.written, replayed_note=idempotency.note
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO idempotency (space, token, digest, expires_at, answer)"
            " VALUES (?, ?, ?, ?, ?)",
            (
                space.id,
                idempotency.token,
                idempotency.digest,
                now // 1000 + IDEMPOTENCY_KEPT_MS,
                _encode(repeated),
            ),
        )
