"""Group commit: what many callers write at a time goes to the disk with one sync.

The statements run on the event loop's thread and only COMMIT, which waits for the disk, runs in a
thread of its own. Statements in a thread would have to win Python's interpreter lock back after
each of them, which a busy event loop hardly ever grants: under a saturated server they were five
times slower. While a COMMIT runs, the next jobs gather.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from memx_server.storage.base import Record, StoreUnavailable
from memx_server.storage.sqlite.commits import CommitWriter
from memx_server.storage.sqlite.database import BUSY_SECONDS, as_unavailable

T = TypeVar("T")

BATCH_SECONDS = 0.005
"""How long the jobs of one transaction may keep the event loop; at least one runs."""

EXPIRED_AT_ONCE = 64
"""Expiries that are logged in one transaction, ahead of its jobs."""

LONGEST_PAUSE = 1.0
"""Seconds after which the clock is looked at again, lest a jump of it hold up an expiry."""

PURGE_EVERY = 60.0
"""Seconds between purges of what has expired beside the log."""

RETRY_AFTER = 0.5
"""Seconds that expiries and purges wait after the disk has refused something."""

ANSWER_SECONDS = 10.0
"""How long a caller waits for the disk."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class WriteJob:
    """Something to do inside the next transaction, and who waits for what came of it."""

    run: Callable[[], Any]
    done: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    def answer(self) -> None:
        """Tell the caller, unless it has gone."""
        if self.done.done():
            return
        if self.error is None:
            self.done.set_result(self.result)
        else:
            self.done.set_exception(self.error)


class CommitQueue:
    """Runs jobs on the writing connection, each in a savepoint, many in a transaction.

    Args:
        connection: The one connection that writes; the writer closes it.
        ledger: Logs what expires and holds what was logged.
        clock: Microseconds since the epoch.
        publish: Called with the records of a transaction once they are on the disk, before the
            callers of its jobs get their results.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        ledger: CommitWriter,
        clock: Callable[[], int],
        publish: Callable[[Sequence[tuple[str, Record]]], None],
    ) -> None:
        self._connection = connection
        self._ledger = ledger
        self._clock = clock
        self._publish = publish
        self._jobs: deque[WriteJob] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._next_expiry = ledger.next_due()
        self._next_purge = 0.0
        self._retry_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memx-sqlite-commit")
        connection.execute("PRAGMA busy_timeout=0")  # waiting for a lock is the thread's part
        self._task = self._loop.create_task(self._work(), name="memx-sqlite-writer")

    async def submit(self, run: Callable[[], T]) -> T:
        """Call ``run`` in the next transaction and return its result once that is on the disk.

        Raises:
            StoreUnavailable: The disk refused or did not answer in time; in the latter case the
                write may still happen.
        """
        return await self.finish(self.begin(run))

    def begin(self, run: Callable[[], T]) -> asyncio.Future[T]:
        """Have ``run`` called behind all that was begun before; returns what ``finish`` takes.

        Raises:
            StoreUnavailable: The store is closed.
        """
        if self._closing:
            raise StoreUnavailable("the store is closed")
        job = WriteJob(run, self._loop.create_future())
        self._jobs.append(job)
        self._wake.set()
        return job.done

    async def finish(self, begun: asyncio.Future[T]) -> T:
        """Wait for the result of what was begun; as ``submit``."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await begun
        except TimeoutError:
            raise StoreUnavailable(f"the disk gave no answer in {ANSWER_SECONDS:g} s") from None

    async def close(self) -> None:
        """Finish what was submitted, then close the connection."""
        self._closing = True
        self._wake.set()
        await self._task
        self._thread.shutdown()
        self._connection.close()

    async def _work(self) -> None:
        while not self._closing or self._jobs:
            await self._pause()
            if self._jobs or self._due_in() <= 0:
                await self._transact()

    async def _pause(self) -> None:
        if self._jobs or self._closing:
            return
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._due_in(), LONGEST_PAUSE)):
                await self._wake.wait()

    def _due_in(self) -> float:
        """Seconds until there is something to do even if nobody asks."""
        now = time.monotonic()
        due_in = self._next_purge - now
        if self._next_expiry is not None:
            due_in = min(due_in, self._next_expiry / 1e3 - self._clock() / 1e6)
        return max(due_in, self._retry_at - now)

    async def _transact(self) -> None:
        batch: list[WriteJob] = []
        try:
            await self._begin(batch)
            self._ledger.expire_due(EXPIRED_AT_ONCE)
            self._run_jobs(batch)
            await self._in_thread(self._finish)
            self._next_expiry = self._ledger.next_due()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._roll_back(batch, error)
        fresh, self._ledger.fresh = self._ledger.fresh, []
        self._publish(fresh)
        for job in batch:
            job.answer()

    async def _begin(self, batch: list[WriteJob]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            if not self._jobs:
                raise
            # Somebody else has locked the file; all who are waiting wait for the same.
            batch.extend(self._jobs)
            self._jobs.clear()
            await self._in_thread(self._begin_patiently)
            self._jobs.extendleft(reversed(batch))
            batch.clear()

    def _begin_patiently(self) -> None:
        self._connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        finally:
            self._connection.execute("PRAGMA busy_timeout=0")

    def _run_jobs(self, batch: list[WriteJob]) -> None:
        until = time.monotonic() + BATCH_SECONDS
        while self._jobs and (not batch or time.monotonic() < until):
            job = self._jobs.popleft()
            if not job.done.done():  # else the caller has given up
                batch.append(job)
                self._run(job)

    def _run(self, job: WriteJob) -> None:
        logged_before = len(self._ledger.fresh)
        self._connection.execute("SAVEPOINT job")
        try:
            job.result = job.run()
        except Exception as error:
            if not self._connection.in_transaction:  # SQLite has undone the others' jobs as well
                raise
            self._connection.execute("ROLLBACK TO job")
            self._ledger.forget(logged_before)
            job.error = as_unavailable(error)
        self._connection.execute("RELEASE job")

    def _finish(self) -> None:
        if time.monotonic() >= self._next_purge:
            self._ledger.purge()
            self._next_purge = time.monotonic() + PURGE_EVERY
        self._connection.execute("COMMIT")

    def _roll_back(self, batch: list[WriteJob], error: Exception) -> None:
        log.warning("a transaction of %d writes was undone: %s", len(batch), error)
        with suppress(sqlite3.Error):  # most faults have ended the transaction already
            self._connection.execute("ROLLBACK")
        self._ledger.forget(0)
        self._retry_at = time.monotonic() + RETRY_AFTER
        for job in batch:
            job.error = as_unavailable(error)

    def _in_thread(self, run: Callable[[], T]) -> asyncio.Future[T]:
        return self._loop.run_in_executor(self._thread, run)
