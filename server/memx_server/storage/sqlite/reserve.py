"""Room on the disk that is held back, so that deletes go through when the disk is full."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 6 * 1024 * 1024
"""More than the write-ahead log grows to between two checkpoints, when all that comes are small transactions."""

FREED_BYTES = 1024 * 1024
"""Room inside the database, of what was deleted, with which a store on a full disk takes writes again."""


class DiskReserve:
    """A file of zeros beside the database. It is given up when the disk is full, and made anew later.

    SQLite needs room to delete: a transaction goes to the write-ahead log first, and its record to the change
    log. Without a reserve a full disk refuses the very writes that would help.

    Args:
        database: The database file.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".reserve")

    def make(self) -> None:
        """Make the file; where there is no room for it, go without."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            elif os.fstat(fd).st_size < RESERVE_BYTES:
                os.write(fd, bytes(RESERVE_BYTES))
        except OSError:
            self.give_up()
        finally:
            os.close(fd)

    def give_up(self) -> None:
        """Remove the file, so that its room is there for deletes; also at the end of the store."""
        with suppress(OSError):
            self._path.unlink()

    def has_room(self) -> bool:
        """Return whether the disk has room for the file and as much again.

        The room of a reserve that was just given up is no sign that the disk is not full any more.
        """
        try:
            disk = os.statvfs(self._path.parent)
        except (AttributeError, OSError):  # Windows has no statvfs: there a write tries
            return True
        return disk.f_bavail * disk.f_frsize >= 2 * RESERVE_BYTES
