"""One opening of the database, from taking its lock to giving it up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memx_server.storage.base import Record
from memx_server.storage.sqlite.commit_queue import CommitQueue
from memx_server.storage.sqlite.commits import CommitWriter
from memx_server.storage.sqlite.database import connect, open_database
from memx_server.storage.sqlite.lockfile import CannotOpen, DatabaseLock
from memx_server.storage.sqlite.reads import SqliteReads
from memx_server.storage.sqlite.state_table import StateTable


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """What a store was made with.

    Attributes:
        path: The database file.
        clock: Microseconds since the epoch.
        log_max_bytes: Bytes of change texts that the log of a space keeps.
        log_max_records: Transactions that the log of a space keeps.
        max_keys: Keys that a space may hold; 0 for no cap.
    """

    path: Path
    clock: Callable[[], int]
    log_max_bytes: int
    log_max_records: int
    max_keys: int


class OpenDatabase:
    """The parts of an open store.

    Attributes:
        lock: Keeps other processes out.
        ledger: Transactions, for jobs of the writer.
        state: The small state, for jobs of the writer.
        writer: Runs jobs.
        reads: Answers from what is committed.
    """

    def __init__(
        self,
        settings: SqliteSettings,
        lock: DatabaseLock,
        connections: tuple[sqlite3.Connection, sqlite3.Connection],
        publish: Callable[[Sequence[tuple[str, Record]]], None],
    ) -> None:
        writing, self._reading = connections
        self.lock = lock
        self.ledger = CommitWriter(
            writing,
            settings.clock,
            log_max_records=settings.log_max_records,
            log_max_bytes=settings.log_max_bytes,
            max_keys=settings.max_keys,
        )
        self.state = StateTable(writing, settings.clock)
        self.writer = CommitQueue(writing, self.ledger, settings.clock, publish)
        self.reads = SqliteReads(self._reading, settings.clock)

    @classmethod
    async def open(
        cls, settings: SqliteSettings, publish: Callable[[Sequence[tuple[str, Record]]], None]
    ) -> OpenDatabase:
        """Take the lock, open the file and start the writer.

        Raises:
            CannotOpen: Another process has the file, or it is damaged, not ours or out of reach.
        """
        lock = DatabaseLock(settings.path)
        connections = await asyncio.to_thread(_open_files, settings.path, lock)
        return cls(settings, lock, connections, publish)

    async def close(self) -> None:
        """Finish what was submitted, then let go of the file."""
        self._reading.close()
        try:
            await self.writer.close()
        finally:
            self.lock.release()


def _open_files(path: Path, lock: DatabaseLock) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise CannotOpen(f"cannot open {path}: {error.strerror}") from None
    try:
        writing = open_database(path)
        try:
            return writing, connect(path, read_only=True)
        except BaseException:
            writing.close()
            raise
    except BaseException:
        lock.release()
        raise
