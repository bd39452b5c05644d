"""The Store on SQLite: one file, one process, nothing to install."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.durability import Durability
from memx_server.storage.base import (
    NO_QUOTAS,
    Delete,
    DeleteSchema,
    HistoryPage,
    KeyPage,
    LogPage,
    Outcome,
    Record,
    RevisionPage,
    SpaceQuotas,
    SpaceSchemas,
    Store,
    StoreUnavailable,
    TailListener,
    Transaction,
)
from memx_server.storage.lockfile import DatabaseLock
from memx_server.storage.sqlite.database import faults_as_unavailable
from memx_server.storage.sqlite.open_database import OpenDatabase, SqliteSettings
from memx_server.storage.sqlite.state import SqliteState

LOG_MAX_BYTES = 64 * 1024 * 1024
LOG_MAX_RECORDS = 100_000

log = logging.getLogger(__name__)


def wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class SqliteStore(Store):
    """Entries and logs of all spaces in one SQLite file, which one process has open at a time.

    An acknowledged write is on the disk: it survives ``kill -9`` and a power cut. Each start opens
    a new lineage in every space that is written to, so that a restored backup is noticed.

    The order of writes is the order of their revisions. ``ts`` and expiries follow the wall clock
    and may step back with it; revisions never do.

    Args:
        path: The database file; it and its folder are made where they are missing.
        log_max_bytes: Bytes of change texts that the log of a space keeps.
        log_max_records: Transactions that the log of a space keeps.
        quotas: The most that a space may hold.
        clock: Returns microseconds since the epoch.
        lock: The database's lock, held by the caller, who gives it up after the store is closed; where
            it is left out, the store takes and gives up one of its own.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        log_max_bytes: int = LOG_MAX_BYTES,
        log_max_records: int = LOG_MAX_RECORDS,
        quotas: SpaceQuotas = NO_QUOTAS,
        clock: Callable[[], int] = wall_clock,
        lock: DatabaseLock | None = None,
    ) -> None:
        self.path = Path(path)
        self._settings = SqliteSettings(
            self.path, clock, log_max_bytes, log_max_records, quotas, lock
        )
        self._open: OpenDatabase | None = None
        self._listeners: dict[str, list[TailListener]] = {}
        self.state = SqliteState(self._database)

    async def open(self) -> None:
        """Open the file and start the commit queue.

        Raises:
            InUse: Another process has it open; the error holds what that one announced.
            CannotOpen: It is damaged, no database of memX, or may not be read or written.
        """
        # Opening twice is harmless: a server that starts without its store tries again and again.
        if self._open is None:
            self._open = await OpenDatabase.open(self._settings, self._publish)

    async def close(self) -> None:
        """Finish what was submitted, then let go of the file."""
        database, self._open = self._open, None
        if database is not None:
            await database.close()

    def announce(self, **note: Any) -> None:
        """Add to the note for a process that finds the database in use, for example ``address="..."``.

        That process gets it as ``InUse.holder``; only the file's owner can read it.

        Args:
            note: JSON values by name; None takes a name away. ``pid`` is there by itself.
        """
        self._database().lock.announce(**note)

    async def ping(self) -> None:
        """Return when the file can be read and takes writes.

        Raises:
            StoreUnavailable: It cannot be read, or the disk is full (``StoreFull``).
        """
        await self.head("")
        full = self._database().queue.full
        if full is not None:
            raise full.copy()

    async def advice(self) -> Sequence[str]:
        """Nothing: every acknowledged commit is on the disk."""
        return ()

    async def read(
        self, space: str, keys: Sequence[str], *, most_bytes: int | None = None
    ) -> Sequence[bytes | None]:
        """Read entries (JSON texts) of one moment; None for each key that does not exist.

        Raises:
            TooMuch: Several of them hold more than ``most_bytes``.
        """
        with faults_as_unavailable():
            return self._database().reads.entries(space, keys, most_bytes)

    async def list(
        self, space: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> KeyPage:
        """Read the live entries whose keys start with ``prefix`` and sort behind ``after``."""
        with faults_as_unavailable():
            return self._database().reads.page(space, prefix, after, limit)

    async def revisions(
        self, space: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> RevisionPage:
        """Read the keys that ``list`` finds with their entries' revisions."""
        with faults_as_unavailable():
            return self._database().reads.revisions(space, prefix, after, limit)

    async def commit(
        self, space: str, transactions: Sequence[Transaction]
    ) -> Sequence[Outcome | StoreUnavailable]:
        """Apply each of ``transactions``, in this order; it is on the disk when this returns."""
        try:
            database = self._database()
            # All are queued before any is waited for: they keep their order, share transactions of
            # the database, and come before those of whoever calls next.
            begun = [
                database.queue.begin(
                    partial(database.commits.commit, space, transaction),
                    although_full=_only_deletes(transaction),
                )
                for transaction in transactions
            ]
        except StoreUnavailable as error:
            # A copy for each: an exception gathers where it was raised.
            return [error.copy() for _ in transactions]
        finish = database.queue.finish
        if len(begun) == 1:
            return [await _outcome(finish(begun[0]))]
        return await asyncio.gather(*map(_outcome, map(finish, begun)))

    async def confirm(self, space: str, durability: Durability) -> bool:
        """Return at once: what has been committed is on the disk, and there are no replicas."""
        return durability != "replica"

    async def head(self, space: str) -> Position:
        """The position after the newest change; revision 0 in a space that never held anything."""
        with faults_as_unavailable():
            return self._database().reads.head(space)

    async def log(self, space: str, since: Position | None, limit: int) -> LogPage:
        """Read the log after ``since`` (None: from the oldest record kept).

        Raises:
            Compacted: The log has been trimmed past ``since``.
            Diverged: ``since`` is above the head or names a history that was lost or never was.
        """
        with faults_as_unavailable():
            return self._database().reads.log(space, since, limit)

    async def history(
        self, space: str, key: str, limit: int, *, until: int | None = None
    ) -> HistoryPage:
        """Read the changes of ``key``, newest first, from revision ``until`` (None: head) down."""
        with faults_as_unavailable():
            return self._database().reads.history(space, key, limit, until)

    async def schemas(self, space: str) -> SpaceSchemas:
        """Read all schemas of the space."""
        with faults_as_unavailable():
            return self._database().reads.schemas(space)

    async def tail(self, space: str, listener: TailListener) -> Callable[[], Awaitable[None]]:
        """Call ``listener`` for every commit from now on; await what is returned to stop."""
        self._listeners.setdefault(space, []).append(listener)

        async def stop() -> None:
            listeners = self._listeners.get(space, [])
            if listener in listeners:
                listeners.remove(listener)
            if not listeners:
                self._listeners.pop(space, None)

        return stop

    def _database(self) -> OpenDatabase:
        if self._open is None:
            raise StoreUnavailable("the store is not open")
        return self._open

    def _publish(self, records: Sequence[tuple[str, Record]]) -> None:
        for space, record in records:
            # A copy: a listener may stop listening while it is called.
            for listener in tuple(self._listeners.get(space, ())):
                try:
                    listener.on_record(record)
                except Exception:  # one bad listener must not cost the others a record
                    log.exception("a listener of the space's tail failed")


def _only_deletes(transaction: Transaction) -> bool:
    """Return whether a transaction frees room, or takes none."""
    return all(isinstance(write, Delete | DeleteSchema) for write in transaction.writes)


async def _outcome(finish: Awaitable[Outcome]) -> Outcome | StoreUnavailable:
    """Wait for an outcome; that the store does not answer is one too."""
    try:
        return await finish
    except StoreUnavailable as error:
        return error
