"""Reads, on a connection of their own.

In WAL mode a reading connection neither waits for the writing one nor holds it up, and sees the last
committed state: never a write that has not been acknowledged, since the commit queue resolves its
callers only after COMMIT.

The reads run on the event loop's thread. A read of one key takes some 10 microseconds, and a thread
would have to win the interpreter lock back for every row. So a page ends early where its rows are big.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from memx_sdk.protocol.cursors import Position
from memx_server.storage.base import (
    HISTORY_KEPT,
    Change,
    Compacted,
    Diverged,
    HistoryPage,
    KeyPage,
    LogPage,
    Record,
    RevisionPage,
    SpaceSchemas,
    TooMuch,
)
from memx_server.storage.sqlite.rows import SELECT_ENTRIES, text_of
from memx_server.storage.sqlite.spaces import BEGINNING, Space, find_space

PAGE_ROWS = 1000
PAGE_BYTES = 1024 * 1024
"""Where a page of entries or records ends; it holds one at least."""

_AMONG = " AND key IN (SELECT value FROM json_each(?))"
_SELECT_REVISIONS = "SELECT key, revision FROM entries WHERE space = ?"
_LIVE = " AND (expires_at IS NULL OR expires_at > ?)"
_RANGE = " AND key >= ? AND key < CAST(? AS TEXT) ORDER BY key LIMIT ?"


class SqliteReads:
    """Answers from the last committed state.

    Args:
        connection: A connection for reading only.
        clock: Microseconds since the epoch.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = clock
        # Ids of spaces, which never change once they are given. A space that does not exist yet is
        # looked up each time, since the writing side may make it at any moment.
        self._ids: dict[str, int] = {}

    def entries(
        self, space: str, keys: Sequence[str], most_bytes: int | None
    ) -> list[bytes | None]:
        """Entries by key, all of one moment; raises TooMuch."""
        space_id = self._id(space)
        if space_id is None:
            return [None] * len(keys)
        # The common case: without building a JSON array and walking it, it takes half the time.
        if len(keys) == 1:
            return [self._entry(space_id, keys[0])]
        rows = self._connection.execute(
            SELECT_ENTRIES + _LIVE + _AMONG,
            (space_id, self._now_ms(), json.dumps(list(keys))),
        )
        found: dict[str, bytes] = {}
        size = 0
        # Rows are read one by one: what is too much is not in memory.
        for row in rows:
            text = found[row[0]] = text_of(row)
            size += len(text)
            if most_bytes is not None and size > most_bytes:
                rows.close()
                raise TooMuch(self._fitting(space_id, keys, most_bytes))
        return [found.get(key) for key in keys]

    def _fitting(self, space_id: int, keys: Sequence[str], most_bytes: int) -> int:
        """Count the entries, from the first key on, that hold so much together."""
        for count, key in enumerate(keys):
            most_bytes -= len(self._entry(space_id, key) or b"")
            if most_bytes < 0:
                return count
        return len(keys)

    def page(self, space: str, prefix: str, after: str, limit: int) -> KeyPage:
        """Live entries whose keys start with ``prefix`` and sort behind ``after``."""
        space_id = self._id(space)
        if space_id is None:
            return KeyPage([], None)
        wanted = min(limit, PAGE_ROWS)
        rows = self._connection.execute(
            SELECT_ENTRIES + _LIVE + _RANGE,
            (space_id, self._now_ms(), *_bounds(prefix, after), wanted + 1),
        )
        entries: list[tuple[str, bytes]] = []
        size = 0
        for row in rows:
            # One row more than wanted was asked for: that there is one means that there is a next page.
            if len(entries) == wanted or size >= PAGE_BYTES:
                rows.close()
                return KeyPage(entries, entries[-1][0])
            entries.append((row[0], text_of(row)))
            size += len(entries[-1][1])
        return KeyPage(entries, None)

    def revisions(self, space: str, prefix: str, after: str, limit: int) -> RevisionPage:
        """Live keys that start with ``prefix`` and sort behind ``after``, with their revisions."""
        space_id = self._id(space)
        if space_id is None:
            return RevisionPage([], None)
        wanted = min(limit, PAGE_ROWS)
        rows = self._connection.execute(
            _SELECT_REVISIONS + _LIVE + _RANGE,
            (space_id, self._now_ms(), *_bounds(prefix, after), wanted + 1),
        ).fetchall()
        found = rows[:wanted]
        return RevisionPage(found, found[-1][0] if len(rows) > wanted else None)

    def head(self, space: str) -> Position:
        """The position after the newest change."""
        found = find_space(self._connection, space)
        return BEGINNING if found is None else found.position

    def log(self, name: str, since: Position | None, limit: int) -> LogPage:
        """Records after ``since``; raises Compacted or Diverged."""
        with self._moment():
            space = find_space(self._connection, name) or Space(0, name)
            start = space.floor if since is None else self._start(space, since)
            return self._records(space, start, min(limit, PAGE_ROWS))

    def history(self, space: str, key: str, limit: int, until: int | None) -> HistoryPage:
        """Changes of a key, newest first."""
        with self._moment():
            found = find_space(self._connection, space)
            if found is None:
                return HistoryPage([], complete=True)
            # One more than is kept: whether there is one decides `complete` below.
            newest_first = self._connection.execute(
                "SELECT revision, first FROM changes"
                " WHERE space = ? AND key = ? AND action <> 'schema'"
                " ORDER BY revision DESC LIMIT ?",
                (found.id, key, HISTORY_KEPT + 1),
            ).fetchall()
            kept = newest_first[:HISTORY_KEPT]
            oldest, is_first = kept[-1] if kept else (0, found.floor == 0)
            newest = found.head if until is None else until
            rows = self._connection.execute(
                "SELECT key, action, data FROM changes"
                " WHERE space = ? AND key = ? AND action <> 'schema' AND revision BETWEEN ? AND ?"
                " ORDER BY revision DESC LIMIT ?",
                (found.id, key, oldest, newest, limit),
            )
            # The history is complete where its oldest change is surely the key's first one.
            complete = bool(is_first) and len(kept) == len(newest_first)
            changes: list[Change] = []
            size = 0
            for row in rows:
                changes.append(Change(*row))
                size += len(changes[-1].data)
                if size >= PAGE_BYTES:
                    break
            rows.close()
            more = len(changes) == limit or size >= PAGE_BYTES
            return HistoryPage(changes, complete, more=more)

    def schemas(self, space: str) -> SpaceSchemas:
        """All schemas of a space."""
        with self._moment():
            found = find_space(self._connection, space)
            if found is None:
                return SpaceSchemas(0)
            rows = self._connection.execute(
                "SELECT pattern, schema FROM schemas WHERE space = ?", (found.id,)
            )
            return SpaceSchemas(found.schema_revision, dict(rows.fetchall()))

    def state(self, group: str, name: str) -> bytes | None:
        """A live record of the state."""
        row = self._connection.execute(
            'SELECT value FROM state WHERE "group" = ? AND name = ? AND expires_at > ?',
            (group, name, self._now_ms()),
        ).fetchone()
        return None if row is None else row[0]

    def state_group(self, group: str) -> dict[str, bytes]:
        """All live records of a group."""
        rows = self._connection.execute(
            'SELECT name, value FROM state WHERE "group" = ? AND expires_at > ?',
            (group, self._now_ms()),
        )
        return dict(rows.fetchall())

    def _start(self, space: Space, since: Position) -> int:
        """Return the revision after which a reader at ``since`` goes on."""
        # A position above the head comes from a history that this file does not hold, even where
        # the lineages agree: a backup was restored, and nothing was written since.
        if since.revision > space.newest:
            raise Diverged
        if since.lineage != space.lineage and since != BEGINNING:
            ended = self._connection.execute(
                "SELECT cut FROM lineages WHERE space = ? AND id = ?", (space.id, since.lineage)
            ).fetchone()
            # The ended lineage is part of the history up to its cut, and no further.
            if ended is None or since.revision > ended[0]:
                raise Diverged
        if since.revision < space.floor:
            raise Compacted
        return since.revision

    def _records(self, space: Space, start: int, limit: int) -> LogPage:
        rows = self._connection.execute(
            "SELECT revision, previous, key, action, data FROM changes"
            " WHERE space = ? AND revision > ? ORDER BY revision, part",
            (space.id, start),
        )
        records: list[Record] = []
        size = 0
        # A record is taken whole or not at all, so that no reader sees half a transaction.
        for (revision, previous), parts in groupby(rows, key=lambda row: row[:2]):
            if len(records) == limit or size >= PAGE_BYTES:
                break
            changes = [Change(*part[2:]) for part in parts]
            records.append(Record(Position(space.lineage, revision), previous, changes))
            size += sum(len(change.data) for change in changes)
        rows.close()
        # A reader may stand above the head, at a revision without a record, and stays there.
        position = Position(space.lineage, start) if start > space.head else space.position
        if records:
            position = records[-1].position
        return LogPage(records, position, space.head)

    def _entry(self, space_id: int, key: str) -> bytes | None:
        row = self._connection.execute(
            SELECT_ENTRIES + _LIVE + " AND key = ?", (space_id, self._now_ms(), key)
        ).fetchone()
        return None if row is None else text_of(row)

    def _id(self, space: str) -> int | None:
        if space not in self._ids and (found := find_space(self._connection, space)):
            self._ids[space] = found.id
        return self._ids.get(space)

    def _now_ms(self) -> int:
        return self._clock() // 1000

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """Give the statements inside one state of the database (a snapshot of the write-ahead log)."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")


def _bounds(prefix: str, after: str) -> tuple[str, bytes]:
    """Where the keys begin and end that start with ``prefix`` and sort behind ``after``."""
    # No key lies between a key and the same with a NUL; no byte of UTF-8 is 255.
    return prefix if prefix > after else after + "\0", prefix.encode() + b"\xff"
