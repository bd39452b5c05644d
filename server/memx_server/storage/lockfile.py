"""The lock file beside a database: it keeps the database to one process, and names that process.

The operating system drops the lock when its holder dies, however it dies. The note in the file may
then be out of date, and counts only while a process holds the lock.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from memx_server.storage.errors import CannotOpen

if sys.platform == "win32":
    import msvcrt

    _BEHIND_THE_TEXT = 1 << 30  # Windows keeps others from reading the bytes that are locked

    def _lock(fd: int) -> None:
        os.lseek(fd, _BEHIND_THE_TEXT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class InUse(CannotOpen):
    """Another process, or another store in this one, has the database open.

    Attributes:
        path: The database.
        holder: The holder's note: ``pid`` and whatever it announced.
    """

    def __init__(self, path: Path, holder: dict[str, Any]) -> None:
        who = f"process {holder['pid']}" if "pid" in holder else "another process"
        where = f" (it answers at {holder['address']})" if "address" in holder else ""
        super().__init__(
            f"{path} is in use by {who}{where}: one process can have it open at a time. "
            f"Stop that one, talk to it over HTTP, or choose another folder or Redis."
        )
        self.path = path
        self.holder = holder


class DatabaseLock:
    """An exclusive lock named after a database, and a note in it for the processes that are refused.

    Args:
        database: The file to keep to this process; the lock is ``<database>.lock`` beside it.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = lock_path(database)
        self._fd: int | None = None
        self._note: dict[str, Any] = {}

    def acquire(self, **note: Any) -> None:
        """Take the lock.

        Args:
            note: As for ``announce``; nobody sees the lock without it for long.

        Raises:
            InUse: Another process, or another object of this one, has it.
            OSError: The file cannot be made, or may not be written.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(fd)
        except OSError:
            os.close(fd)
            raise InUse(self._database, read_holder(self._database)) from None
        except BaseException:
            os.close(fd)
            raise
        # From here on the note is ours to write. Until it is, another process may read what the last
        # holder left; the file is closed to others before it gets anything that they must not read.
        self._fd = fd
        self._note = {}
        self._path.chmod(0o600)
        self.announce(pid=os.getpid(), **note)

    def announce(self, **note: Any) -> None:
        """Add to the note that other processes can read, for example ``address="http://..."``.

        Only the file's owner can read it. It is not replaced in one step: a reader who finds half of
        it finds no JSON, and `read_holder` returns {}.

        Args:
            note: JSON values by name; None takes a name away.
        """
        if self._fd is None:
            raise RuntimeError("only the holder of the lock can announce itself")
        merged = {**self._note, **note}
        self._note = {name: value for name, value in merged.items() if value is not None}
        text = json.dumps(self._note).encode()
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, text)

    def forget_in_child(self) -> None:
        """Let go of the lock in a forked child, so that it ends with the parent and not with the child.

        A lock of this kind belongs to what `open` returned, which parent and child share. It ends when
        both have closed it; emptying the file or unlocking it here would take it from the parent.
        """
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def release(self) -> None:
        """Give the lock up.

        The file stays: between removing it and closing it another process could lock the file that
        was removed, and a third one a new file of the same name.
        """
        fd, self._fd = self._fd, None
        if fd is not None:
            os.ftruncate(fd, 0)
            os.close(fd)


def lock_path(database: Path) -> Path:
    """The path of the lock file of ``database``."""
    return database.with_name(database.name + ".lock")


def read_holder(database: Path) -> dict[str, Any]:
    """Read the note of the process that has ``database`` open; {} where there is none to be read.

    After a crash it is what the last holder left, so it counts only while the database is in use.
    """
    try:
        holder = json.loads(lock_path(database).read_bytes())
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}
