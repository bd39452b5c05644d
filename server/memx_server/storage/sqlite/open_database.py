"""An open database: its lock, its two connections, and what works on them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memx_server.storage.base import Record, SpaceQuotas
from memx_server.storage.errors import CannotOpen
from memx_server.storage.lockfile import DatabaseLock
from memx_server.storage.sqlite.commit_queue import CommitQueue
from memx_server.storage.sqlite.commits import CommitWriter
from memx_server.storage.sqlite.database import connect, open_database
from memx_server.storage.sqlite.reads import SqliteReads
from memx_server.storage.sqlite.reserve import DiskReserve
from memx_server.storage.sqlite.state_table import StateTable


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """What a store was made with.

    Attributes:
        path: The database file.
        clock: Microseconds since the epoch.
        log_max_bytes: Bytes of change texts that the log of a space keeps.
        log_max_records: Transactions that the log of a space keeps.
        quotas: The most that a space may hold.
        lock: The database's lock, where the store's maker holds it already.
    """

    path: Path
    clock: Callable[[], int]
    log_max_bytes: int
    log_max_records: int
    quotas: SpaceQuotas
    lock: DatabaseLock | None = None


class OpenDatabase:
    """The parts of an open store, from taking the lock to giving it up.

    There are two connections: one writes, and belongs to the commit queue; the other one reads.

    Attributes:
        lock: Keeps other processes out.
        commits: Applies transactions, in jobs of the queue.
        state: The unlogged state, for jobs of the queue.
        queue: The commit queue, which runs the jobs.
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
        self._settings = settings
        self.lock = lock
        self.commits = CommitWriter(
            writing,
            settings.clock,
            log_max_records=settings.log_max_records,
            log_max_bytes=settings.log_max_bytes,
            quotas=settings.quotas,
        )
        self.state = StateTable(writing, settings.clock)
        self._reserve = DiskReserve(settings.path)
        self._reserve.make()
        self.queue = CommitQueue(writing, self.commits, settings.clock, publish, self._reserve)
        self.reads = SqliteReads(self._reading, settings.clock)

    @classmethod
    async def open(
        cls, settings: SqliteSettings, publish: Callable[[Sequence[tuple[str, Record]]], None]
    ) -> OpenDatabase:
        """Take the lock unless it is held, open the file and start the commit queue.

        Raises:
            CannotOpen: Another process has the file, or it is damaged, not ours or out of reach.
        """
        lock = settings.lock or DatabaseLock(settings.path)
        connections = await asyncio.to_thread(_open_files, settings, lock)
        return cls(settings, lock, connections, publish)

    async def close(self) -> None:
        """Finish what was submitted, then let go of the file."""
        self._reading.close()
        try:
            await self.queue.close()
        finally:
            self._reserve.give_up()
            # Last: another process must find a file that nobody writes to any more.
            _release(self._settings, self.lock)


def _open_files(
    settings: SqliteSettings, lock: DatabaseLock
) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Open both connections; where that fails, nothing is left open or locked."""
    path = settings.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if settings.lock is None:
            lock.acquire()
    except OSError as error:
        raise CannotOpen(f"cannot open {path}: {error.strerror}") from None
    try:
        # The writing one first: it makes the file and its tables, which the reading one must not.
        writing = open_database(path)
        try:
            return writing, connect(path, read_only=True)
        except BaseException:
            writing.close()
            raise
    except BaseException:
        _release(settings, lock)
        raise


def _release(settings: SqliteSettings, lock: DatabaseLock) -> None:
    """Give the lock up, unless it belongs to the store's maker."""
    if settings.lock is None:
        lock.release()
