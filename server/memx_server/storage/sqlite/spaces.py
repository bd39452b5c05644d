"""Where each space stands: lineage, head, floor and the size of its log."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass

from memx_sdk.protocol.cursors import Position

BEGINNING = Position("0", 0)
"""Stands before everything that any space will hold, and is good in each of them for ever."""


@dataclass(slots=True)
class Space:
    """One row of ``spaces``.

    Attributes:
        lineage: The current one; empty before the first commit.
        head: The newest revision.
        floor: The newest revision that was trimmed from the log, 0 when none was.
        log_bytes: Sum of ``len(change.data)`` over the log.
        keys: Entries, of which some may have expired; None until somebody asks. Not in the row.
    """

    id: int
    name: str
    lineage: str = ""
    head: int = 0
    floor: int = 0
    log_records: int = 0
    log_bytes: int = 0
    schema_revision: int = 0
    keys: int | None = None

    @property
    def position(self) -> Position:
        """Where a reader stands who has read everything."""
        return Position(self.lineage, self.head) if self.head else BEGINNING


def find_space(connection: sqlite3.Connection, name: str) -> Space | None:
    """Read a space; None when nothing was ever written to it."""
    row = connection.execute(
        "SELECT id, name, lineage, head, floor, log_records, log_bytes, schema_revision"
        " FROM spaces WHERE name = ?",
        (name,),
    ).fetchone()
    return None if row is None else Space(*row)


class Spaces:
    """The writer's view of all spaces; opens a new lineage in each at its first commit.

    That is how a restored backup is noticed: what was written after the backup belongs to a lineage
    that ends, in this file, before it.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._by_name: dict[str, Space] = {}
        self._opened: dict[int, str] = {}

    def get(self, name: str) -> Space:
        """The space called ``name``, made if need be."""
        space = self._by_name.get(name)
        if space is None:
            space = find_space(self._connection, name) or self._create(name)
            self._by_name[name] = space
        return space

    def by_id(self, space_id: int) -> Space:
        """The space whose row has this id."""
        (name,) = self._connection.execute(
            "SELECT name FROM spaces WHERE id = ?", (space_id,)
        ).fetchone()
        return self.get(name)

    def next_revision(self, space: Space, now: int) -> int:
        """The revision of the next transaction.

        Args:
            space: The space it is for.
            now: Microseconds since the epoch, from which a lineage starts to count.
        """
        following = space.head + 1
        return following if self._is_current(space) else max(following, now)

    def advance(self, space: Space, revision: int) -> None:
        """Make ``revision`` the head, in a new lineage if this process has not opened one yet."""
        if not self._is_current(space):
            self._open_lineage(space)
        space.head = revision

    def save(self, space: Space) -> None:
        """Write the row back."""
        self._connection.execute(
            "UPDATE spaces SET lineage = ?, head = ?, floor = ?, log_records = ?, log_bytes = ?,"
            " schema_revision = ? WHERE id = ?",
            (
                space.lineage,
                space.head,
                space.floor,
                space.log_records,
                space.log_bytes,
                space.schema_revision,
                space.id,
            ),
        )

    def forget(self) -> None:
        """Read the rows again, after the database rolled back what is held in memory."""
        self._by_name.clear()

    def _create(self, name: str) -> Space:
        cursor = self._connection.execute("INSERT INTO spaces (name) VALUES (?)", (name,))
        assert cursor.lastrowid is not None
        return Space(cursor.lastrowid, name)

    def _open_lineage(self, space: Space) -> None:
        if space.lineage:
            self._connection.execute(
                "INSERT INTO lineages (space, id, cut) VALUES (?, ?, ?)",
                (space.id, space.lineage, space.head),
            )
        space.lineage = secrets.token_hex(8)
        self._opened[space.id] = space.lineage

    def _is_current(self, space: Space) -> bool:
        """Tell whether the lineage was opened here, and not rolled back again."""
        return bool(space.lineage) and self._opened.get(space.id) == space.lineage
