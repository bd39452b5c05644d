"""The rows of the spaces: lineage, head, floor and the size of the log of each."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass

from memx_sdk.protocol.cursors import Position

BEGINNING = Position("0", 0)
"""The position before everything that any space will hold; every space accepts it for ever."""


@dataclass(slots=True)
class Space:
    """One row of ``spaces``.

    Attributes:
        lineage: The current one; empty before the first commit.
        head: The newest revision of the log.
        floor: The newest revision that was trimmed from the log, 0 when none was.
        log_bytes: Sum of ``len(change.data)`` over the log.
        result_bytes: Sum of ``result_size`` over the results that are kept.
        schema_bytes: Sum of ``schema_size`` over the schemas.
        last: The newest revision that changed unlogged keys alone.
        keys: Entries, of which some may have expired; None until the key quota has counted them.
            Not in the row.
    """

    id: int
    name: str
    lineage: str = ""
    head: int = 0
    floor: int = 0
    log_records: int = 0
    log_bytes: int = 0
    schema_revision: int = 0
    result_bytes: int = 0
    schema_bytes: int = 0
    last: int = 0
    keys: int | None = None

    @property
    def position(self) -> Position:
        """The position of a reader who has read all of the log."""
        return Position(self.lineage, self.head) if self.head else BEGINNING

    @property
    def newest(self) -> int:
        """The newest revision, of logged or unlogged keys."""
        return max(self.head, self.last)


def find_space(connection: sqlite3.Connection, name: str) -> Space | None:
    """Read a space; None when nothing was ever written to it."""
    row = connection.execute(
        "SELECT id, name, lineage, head, floor, log_records, log_bytes, schema_revision,"
        " result_bytes, schema_bytes, last FROM spaces WHERE name = ?",
        (name,),
    ).fetchone()
    return None if row is None else Space(*row)


class Spaces:
    """The spaces as the writing side sees them; each gets a new lineage at its first commit.

    A lineage is a stretch of history in which nothing acknowledged was lost, and only this process can
    say so of its own commits. The file may have been replaced by a backup while no process had it open.
    So the first commit of a process to a space ends the lineage that it finds there, at the head that
    it finds, and opens one of its own. A cursor of the ended lineage up to that cut still resumes; one
    above it was given out by a history that this file does not hold, and is refused as diverged.

    The rows are cached, and written back by ``save``. The cache is right because no other process
    writes to the file (``lockfile.py``), and because ``forget`` empties it after a rollback.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._by_name: dict[str, Space] = {}
        self._opened: dict[int, str] = {}

    def get(self, name: str) -> Space:
        """Return the space called ``name``; make it where there is none."""
        space = self._by_name.get(name)
        if space is None:
            space = find_space(self._connection, name) or self._create(name)
            self._by_name[name] = space
        return space

    def by_id(self, space_id: int) -> Space:
        """Return the space whose row has this id."""
        (name,) = self._connection.execute(
            "SELECT name FROM spaces WHERE id = ?", (space_id,)
        ).fetchone()
        return self.get(name)

    def next_revision(self, space: Space, now: int) -> int:
        """Return the revision of the next transaction.

        Within a lineage revisions are dense. A new one starts at the clock, so that its revisions
        are above those of any history that was lost, and above the head in any case.

        Args:
            space: The space that it is for.
            now: Microseconds since the epoch.
        """
        # A clock that was set back must not give out a revision twice, so the newest one counts in any case.
        following = space.newest + 1
        return following if self._is_current(space) else max(following, now)

    def advance(self, space: Space, revision: int) -> None:
        """Make ``revision`` the head, in a new lineage if this process has not opened one yet."""
        if not self._is_current(space):
            self._open_lineage(space)
        space.head = revision

    def advance_unlogged(self, space: Space, revision: int) -> None:
        """Give ``revision`` to a transaction without a record, in a new lineage as ``advance`` does."""
        if not self._is_current(space):
            self._open_lineage(space)
        space.last = revision

    def save(self, space: Space) -> None:
        """Write the row back."""
        self._connection.execute(
            "UPDATE spaces SET lineage = ?, head = ?, floor = ?, log_records = ?, log_bytes = ?,"
            " schema_revision = ?, result_bytes = ?, schema_bytes = ?, last = ? WHERE id = ?",
            (
                space.lineage,
                space.head,
                space.floor,
                space.log_records,
                space.log_bytes,
                space.schema_revision,
                space.result_bytes,
                space.schema_bytes,
                space.last,
                space.id,
            ),
        )

    def forget(self) -> None:
        """Empty the cache: a rollback has undone some of what it holds.

        ``_opened`` stays. A lineage that was opened and rolled back is not in the row that is read
        next, so `_is_current` refuses it, and the next commit opens another one.
        """
        self._by_name.clear()

    def _create(self, name: str) -> Space:
        cursor = self._connection.execute("INSERT INTO spaces (name) VALUES (?)", (name,))
        assert cursor.lastrowid is not None
        return Space(cursor.lastrowid, name)

    def _open_lineage(self, space: Space) -> None:
        if space.lineage:
            # The cut: what the ended lineage says up to here is part of the history, and no more.
            self._connection.execute(
                "INSERT INTO lineages (space, id, cut) VALUES (?, ?, ?)",
                (space.id, space.lineage, space.newest),
            )
        space.lineage = secrets.token_hex(8)
        self._opened[space.id] = space.lineage

    def _is_current(self, space: Space) -> bool:
        """Return whether the lineage was opened by this process, and not rolled back again."""
        return bool(space.lineage) and self._opened.get(space.id) == space.lineage
