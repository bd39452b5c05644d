"""Backups of a SQLite database: taken while its server writes, and put back while none runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from memx_server.storage.errors import CannotOpen
from memx_server.storage.lockfile import DatabaseLock
from memx_server.storage.sqlite.database import APPLICATION_ID, LAYOUT


def back_up(database: Path, target: Path) -> int:
    """Copy the database as it is at one moment; a server may go on writing to it.

    Args:
        database: The database.
        target: The file to make; it appears when it is whole.

    Returns:
        Its bytes.

    Raises:
        CannotOpen: The database is none of memX, or damaged; the target exists, or cannot be written.
    """
    if target.exists():
        raise CannotOpen(f"{target} exists; name another file, or remove it")
    part = target.with_name(f"{target.name}.part")
    try:
        with _opened(database) as source:
            part.unlink(missing_ok=True)
            # What agents remember is its owner's.
            os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(sqlite3.connect(part)) as copy:
                # In one step, which reads one moment and holds no writer up in WAL mode. Between several steps each
                # write of another process would make it begin anew, under load for ever.
                source.backup(copy, pages=-1)
                # One file, without the log beside it that the mode WAL would make.
                copy.execute("PRAGMA journal_mode=DELETE")
                _check_whole(part, copy)
        _sync(part)
        part.rename(target)
        return target.stat().st_size
    except sqlite3.Error as error:
        raise CannotOpen(f"{database} cannot be backed up: {error}") from None
    except OSError as error:
        raise CannotOpen(f"cannot write {part}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def restore(backup: Path, database: Path) -> Path | None:
    """Put a backup in the place of a database that no server has open.

    Cursors of later changes are told `diverged` afterwards: a server opens a new lineage at its start.

    Returns:
        Where the database that was there is now; None where there was none.

    Raises:
        CannotOpen: The backup is none, or damaged; or the database is in use.
    """
    with _opened(backup) as source:
        _check_whole(backup, source)
    lock = DatabaseLock(database)
    part = database.with_name(f"{database.name}.restoring")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        try:
            with closing(
                sqlite3.connect(f"{backup.absolute().as_uri()}?mode=ro", uri=True)
            ) as source:
                part.unlink(missing_ok=True)
                os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                with closing(sqlite3.connect(part)) as copy:
                    source.backup(copy, pages=-1)
            _sync(part)
            aside = _move_aside(database)
            part.rename(database)
            return aside
        finally:
            lock.release()
    except sqlite3.Error as error:
        raise CannotOpen(f"{backup} cannot be restored: {error}") from None
    except OSError as error:
        raise CannotOpen(f"cannot write {error.filename or database}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _move_aside(database: Path) -> Path | None:
    if not database.exists():
        return None
    aside = database.with_name(
        f"{database.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    )
    # The files beside it belong to it: a log that stayed would be applied to the backup, and damage it.
    for ending in ("-wal", "-shm", ""):
        part = database.with_name(database.name + ending)
        if part.exists():
            shutil.move(part, aside.with_name(aside.name + ending))
    return aside


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading, and make sure that it is one that this memX knows."""
    if not path.is_file():
        raise CannotOpen(f"there is no file {path}")
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            (identity,) = connection.execute("PRAGMA application_id").fetchone()
            (layout,) = connection.execute("PRAGMA user_version").fetchone()
            if identity != APPLICATION_ID:
                raise CannotOpen(f"{path} is no database of memX")
            if layout > LAYOUT:
                raise CannotOpen(
                    f"{path} was written by a newer memX (format {layout}, this one knows up to {LAYOUT}): "
                    "pip install --upgrade memx-server"
                )
            yield connection
    except sqlite3.DatabaseError as error:
        raise CannotOpen(f"{path} is no whole database of memX: {error}") from None


def _check_whole(path: Path, connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise CannotOpen(f"{path} is damaged: {verdict}")


def _sync(path: Path) -> None:
    # On the disk before it gets its name: after a power cut it is whole, or not there.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
