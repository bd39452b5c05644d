"""Commits of transactions and of expiries, and the log: the writing side of the store.

Everything here runs inside a database transaction that ``commit_queue.py`` begins and commits, in a
savepoint of its own. What is held in memory beside the tables (spaces, their number of keys, the
records that wait to be published) must be dropped whenever that savepoint or transaction is rolled
back: ``forget`` does it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from memx_sdk.protocol.cursors import Position
from memx_server.storage.base import (
    Committed,
    Conflicted,
    DeleteSchema,
    LoggedOtherwise,
    Outcome,
    Put,
    PutSchema,
    QuotaExceeded,
    Record,
    SchemaMoved,
    SpaceQuotas,
    Transaction,
    result_size,
)
from memx_server.storage.sqlite.quotas import QuotaChecks
from memx_server.storage.sqlite.results import KeptResults
from memx_server.storage.sqlite.row_writes import MISSING, ChangeDraft, PresentEntry, RowWrites
from memx_server.storage.sqlite.rows import SELECT_ENTRIES, seconds, text_of
from memx_server.storage.sqlite.spaces import Space, Spaces


class CommitWriter:
    """Applies transactions and expiries to the tables, and logs what they change.

    Args:
        connection: The one connection that writes.
        clock: Returns microseconds since the epoch.
        log_max_records: Records that the log of a space keeps.
        log_max_bytes: Bytes of change texts that the log of a space keeps.
        quotas: The most that a space may hold.

    Attributes:
        unpublished: The records that were logged since the list was last emptied, each with the name
            of its space. The commit queue publishes them once they are on the disk, not before.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Callable[[], int],
        *,
        log_max_records: int,
        log_max_bytes: int,
        quotas: SpaceQuotas,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._log_max_records = log_max_records
        self._log_max_bytes = log_max_bytes
        self._writes = RowWrites(connection)
        self._spaces = Spaces(connection)
        self._quotas = QuotaChecks(connection, quotas)
        self._results = KeptResults(connection, self._spaces)
        self.unpublished: list[tuple[str, Record]] = []

    def commit(self, space_name: str, transaction: Transaction) -> Outcome:
        """Apply a transaction, or return what stood in its way.

        The checks come in the order that the Store protocol fixes. None of them writes anything but
        the expiries of keys at hand, which stand whatever becomes of the transaction.
        """
        space = self._spaces.get(space_name)
        # One moment for the whole transaction: its checks, its stamps and its expiries agree.
        now = self._clock()
        # A repetition is answered before anything else is looked at: the state that the first one
        # was checked against, schemas included, has moved on since.
        if transaction.idempotency and (
            earlier := self._results.find(space, transaction.idempotency, now // 1000)
        ):
            return earlier
        present = self._present(space, transaction, now)
        if refusal := self._refusal(space, transaction, present, now // 1000):
            return refusal
        # From here on nothing refuses. What fails is a fault, and rolls back to the savepoint.
        space.schema_bytes += self._quotas.schema_bytes_added(space, transaction)
        draft = self._draft(space, transaction.writer, now)
        written = [
            self._writes.apply(draft, write, present.get(write.key, MISSING))
            for write in transaction.writes
        ]
        self._log(draft)
        committed = Committed(self._latest(space), seconds(now), written)
        if (size := result_size(transaction)) and transaction.idempotency:
            self._results.keep(space, transaction.idempotency, committed, now // 1000, size)
            space.result_bytes += size
            self._spaces.save(space)
        return committed

    def expire_due(self, limit: int) -> None:
        """Log the expiry of up to ``limit`` entries whose time has come."""
        now = self._clock()
        due = self._connection.execute(
            "SELECT space, key, logged FROM entries WHERE expires_at <= ?"
            " ORDER BY expires_at LIMIT ?",
            (now // 1000, limit),
        ).fetchall()
        # One record for each: expiries belong to no transaction, so nothing ties them together.
        for space_id, key, logged in due:
            self._expire(self._spaces.by_id(space_id), key, now, logged=logged)

    def next_due(self) -> int | None:
        """When the next entry expires, in milliseconds since the epoch."""
        due: int | None = self._connection.execute(
            "SELECT min(expires_at) FROM entries WHERE expires_at IS NOT NULL"
        ).fetchone()[0]
        return due

    def purge(self) -> bool:
        """Remove rows that no query returns any more: old results and expired state.

        Returns:
            Whether more of them are left than one purge removes.
        """
        now_ms = self._clock() // 1000
        self._connection.execute("DELETE FROM state WHERE expires_at <= ?", (now_ms,))
        return self._results.purge(now_ms)

    def forget(self, logged_before: int) -> None:
        """Drop what is held in memory, after the database has rolled back.

        Args:
            logged_before: How many of ``unpublished`` were logged before what was undone, and stay.
        """
        del self.unpublished[logged_before:]
        self._spaces.forget()

    def _present(self, space: Space, transaction: Transaction, now: int) -> dict[str, PresentEntry]:
        """Read what the keys of a transaction hold, and log the expiry of those whose time has come.

        A key that has expired is gone for this transaction too, and its expiry gets a record of its
        own in front of the transaction's: a reader of the log must see the key go before it returns.
        """
        present: dict[str, PresentEntry] = {}
        for part in (*transaction.compares, *transaction.writes):
            if part.key in present or isinstance(part, PutSchema | DeleteSchema):
                continue
            row = self._connection.execute(
                "SELECT revision, version, expires_at, logged FROM entries"
                " WHERE space = ? AND key = ?",
                (space.id, part.key),
            ).fetchone()
            if row is None:
                continue
            if row[2] is not None and row[2] <= now // 1000:
                self._expire(space, part.key, now, logged=row[3])
            else:
                present[part.key] = PresentEntry(row[0], row[1], row[2], logged=bool(row[3]))
        return present

    def _refusal(
        self,
        space: Space,
        transaction: Transaction,
        present: dict[str, PresentEntry],
        now_ms: int,
    ) -> SchemaMoved | Conflicted | QuotaExceeded | LoggedOtherwise | None:
        # The values were checked against the schemas of that revision. Nothing can change them between
        # here and COMMIT, as there is one writing connection; so no value lands that a schema refuses.
        if transaction.schema_revision not in (None, space.schema_revision):
            return SchemaMoved(space.schema_revision)
        for compare in transaction.compares:
            if present.get(compare.key, MISSING).revision != compare.revision:
                return Conflicted(compare.key, self._entry(space, compare.key))
        size = result_size(transaction)
        if not self._quotas.has_room_for_result(space, size):
            # What has expired still counts until it is purged, so nobody is refused before that.
            self._results.purge(now_ms)
            if not self._quotas.has_room_for_result(space, size):
                return self._quotas.result_refusal()
        for write in transaction.writes:
            if isinstance(write, Put) and write.logged is not None:
                before = present.get(write.key)
                if before is not None and before.logged != write.logged:
                    return LoggedOtherwise(write.key, before.logged)
        return self._quotas.exceeded(space, transaction, present, now_ms)

    def _entry(self, space: Space, key: str) -> bytes | None:
        row = self._connection.execute(SELECT_ENTRIES + " AND key = ?", (space.id, key)).fetchone()
        return None if row is None else text_of(row)

    def _latest(self, space: Space) -> Position:
        """The position behind all that was committed, with or without a record."""
        return Position(space.lineage, space.newest) if space.newest else space.position

    def _expire(self, space: Space, key: str, now: int, *, logged: bool) -> None:
        draft = self._draft(space, "", now)
        if logged:
            self._writes.remove(draft, key, "expire")
            self._log(draft)
        else:
            self._writes.remove_unlogged(
                draft, key
            )  # of which nobody is told, so it takes no revision

    def _draft(self, space: Space, writer: str, now: int) -> ChangeDraft:
        return ChangeDraft(space, writer, self._spaces.next_revision(space, now), now)

    def _log(self, draft: ChangeDraft) -> None:
        """Append the changes of a draft as one record; a draft without changes leaves none."""
        if not draft.changes:
            if draft.is_quiet:
                self._spaces.advance_unlogged(draft.space, draft.revision)
                self._spaces.save(draft.space)
            return
        space, previous = draft.space, draft.space.head
        # The head moves, and with it perhaps the lineage, before the record is made: a record
        # carries the lineage that is current behind it, and the revision of the record before it.
        self._spaces.advance(space, draft.revision)
        for part, change in enumerate(draft.changes):
            self._connection.execute(
                "INSERT INTO changes (space, revision, part, previous, first, key, action, data)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    space.id,
                    draft.revision,
                    part,
                    previous,
                    self._is_first(space, change.key),
                    change.key,
                    change.action,
                    change.data,
                ),
            )
        space.log_records += 1
        space.log_bytes += sum(len(change.data) for change in draft.changes)
        self._trim(space)
        self._spaces.save(space)
        self.unpublished.append((space.name, Record(space.position, previous, draft.changes)))

    def _is_first(self, space: Space, key: str) -> bool:
        """Return whether surely no change of ``key`` came before."""
        if space.floor:  # the log has been trimmed, and what it lost may have been of this key
            return False
        (known,) = self._connection.execute(
            "SELECT EXISTS (SELECT 1 FROM changes"
            " WHERE space = ? AND key = ? AND action <> 'schema')",
            (space.id, key),
        ).fetchone()
        return not known

    def _trim(self, space: Space) -> None:
        """Remove the oldest records until the log is within its limits; the newest always stays."""
        if not self._is_log_too_big(space):
            return
        oldest_first = self._connection.execute(
            "SELECT revision, sum(length(data)) FROM changes WHERE space = ? AND revision < ?"
            " GROUP BY revision ORDER BY revision",
            (space.id, space.head),
        )
        # The rows are stepped through and not fetched: most often the first one is enough.
        for revision, size in oldest_first:
            space.floor = revision
            space.log_records -= 1
            space.log_bytes -= size
            if not self._is_log_too_big(space):
                break
        oldest_first.close()
        self._connection.execute(
            "DELETE FROM changes WHERE space = ? AND revision <= ?", (space.id, space.floor)
        )

    def _is_log_too_big(self, space: Space) -> bool:
        return space.log_records > self._log_max_records or space.log_bytes > self._log_max_bytes
