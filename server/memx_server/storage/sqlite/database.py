"""The database file: its settings, its tables, and the refusal of one that is foreign or damaged."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from memx_server.storage.base import StoreFull, StoreUnavailable
from memx_server.storage.errors import CannotOpen

APPLICATION_ID = 0x6D656D58  # "memX"
LAYOUT = 3
"""The format of the file, kept in SQLite's ``user_version``: raised with every change of ``schema.sql``."""

_MIGRATIONS = {
    # From 1, of the first releases: the bytes of results and schemas are counted.
    1: """
        ALTER TABLE idempotency ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE spaces ADD COLUMN result_bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE spaces ADD COLUMN schema_bytes INTEGER NOT NULL DEFAULT 0;
        UPDATE spaces SET schema_bytes = coalesce((
            SELECT sum(128 + length(CAST(pattern AS BLOB)) + length(schema)) FROM schemas
            WHERE schemas.space = spaces.id), 0);
    """,
    # From 2: keys may be unlogged, and their revisions are none of the log's.
    2: """
        ALTER TABLE spaces ADD COLUMN last INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE entries ADD COLUMN logged INTEGER NOT NULL DEFAULT 1;
    """,
}
"""For each older layout the statements that make the next one of it."""

BUSY_SECONDS = 2.0
"""Seconds that a write waits for another program's lock on the file, a backup tool's for example."""

READ_BUSY_SECONDS = 0.05
"""The same for a read. In WAL mode it meets a lock only at a recovery; the event loop waits with it."""

# What SQLite raises when a statement or its arguments are wrong: a fault of this code, not of the disk.
_MISTAKES = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)

CHECKED_WHOLE_UP_TO = 64 * 1024 * 1024
"""Bytes up to which a file is read through for damage at open; it takes about 0.1 s."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection that any one thread at a time may use.

    With ``synchronous=FULL`` in WAL mode every COMMIT waits until the write-ahead log is on the disk,
    so what is acknowledged survives a power cut. ``NORMAL`` would sync at checkpoints only.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        for setting in (
            "synchronous=FULL",
            f"query_only={int(read_only)}",
            "cache_size=-8192",  # KiB
            "journal_size_limit=67108864",
            f"busy_timeout={1000 * (READ_BUSY_SECONDS if read_only else BUSY_SECONDS):.0f}",
        ):
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_database(path: Path) -> sqlite3.Connection:
    """Open the database for writing, making the file and its tables where there are none.

    Raises:
        CannotOpen: It is damaged, no memX database, of a newer memX, or may not be read or written.
    """
    try:
        # SQLite gives its other files the same permissions: what agents remember is the owner's.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = connect(path)
    except (OSError, sqlite3.Error) as error:
        raise _refusal(path, error) from error
    try:
        _prepare(path, connection)
    except sqlite3.Error as error:
        connection.close()
        raise _refusal(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def faults_as_unavailable() -> Iterator[None]:
    """Turn what the disk or the operating system did to SQLite into StoreUnavailable."""
    try:
        yield
    except sqlite3.Error as error:
        raise as_unavailable(error) from error


def is_full(error: Exception) -> bool:
    """Return whether SQLite had no room for a write: the disk is full, or the file as big as it may be."""
    return (
        isinstance(error, sqlite3.Error)
        and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    )


def as_unavailable(error: Exception) -> Exception:
    """StoreUnavailable for a fault of the disk or the file; a mistake in code stays what it is."""
    if is_full(error):
        return StoreFull(f"the database answers: {error}")
    if isinstance(error, sqlite3.Error) and not isinstance(error, _MISTAKES):
        return StoreUnavailable(f"the database answers: {error}")
    return error


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    # Nothing is written before the file is known to be empty or ours.
    layout = _pragma(connection, "user_version")
    is_new = not (layout or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone())
    if not is_new:
        _check_identity(path, connection, layout)
    connection.execute("PRAGMA journal_mode=WAL")
    if is_new:
        _create(connection)
    # A bigger file is not read through: a start would take seconds, and SQLite notices most damage
    # at the page that is read.
    elif path.stat().st_size <= CHECKED_WHOLE_UP_TO:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
    if not is_new:
        _migrate(connection, layout)


def _check_identity(path: Path, connection: sqlite3.Connection, layout: int) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise CannotOpen(f"{path} is an SQLite database, but not one of memX: choose another file.")
    if layout not in (LAYOUT, *_MIGRATIONS):
        raise CannotOpen(
            f"{path} was written by a newer memX (format {layout}, this one knows up to {LAYOUT}): "
            f"update it with `pip install --upgrade memx-server`, or choose another folder."
        )


def _migrate(connection: sqlite3.Connection, layout: int) -> None:
    """Bring a file of an older layout to this one, in one transaction.

    An older memX refuses the file afterwards; until the COMMIT it opens it as if nothing had been.
    """
    steps = "".join(_MIGRATIONS[step] for step in range(layout, LAYOUT))
    if steps:
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version={LAYOUT}; COMMIT;")


def _create(connection: sqlite3.Connection) -> None:
    tables = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    # One transaction: a process that is killed here leaves an empty file, which the next one fills.
    connection.executescript(
        f"BEGIN IMMEDIATE; {tables} PRAGMA application_id={APPLICATION_ID};"
        f"PRAGMA user_version={LAYOUT}; COMMIT;"
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _refusal(path: Path, error: Exception) -> CannotOpen:
    if isinstance(error, OSError | sqlite3.OperationalError):
        return CannotOpen(f"{path} cannot be opened: {error}.")
    return CannotOpen(
        f"{path} is damaged ({error}). Put a backup in its place, or move it and the files "
        f"{path.name}-wal and {path.name}-shm away to start anew."
    )
