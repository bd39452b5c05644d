"""The commit queue: writes of many callers share one transaction, and so one sync of the disk.

The statements run on the event loop's thread; only COMMIT, which waits for the disk, runs in a thread
of its own. Statements in a thread would have to win Python's interpreter lock back after each of them,
which a busy event loop hardly ever grants: under a saturated server they were five times slower. While
a COMMIT runs, the next jobs gather.

One round of the queue, which is the only place that begins or ends a transaction:

1. BEGIN IMMEDIATE. Another program may have locked the file; then the waiting moves to the thread.
2. Expiries that are due are logged, up to a number.
3. Jobs run in the order in which they came, each in a savepoint, until the time of a round is used up.
   A job that fails is rolled back to its savepoint, and costs the others nothing.
4. COMMIT, in the thread. From here on the writes survive a power cut.
5. The records are published, then the callers get their results. In this order, so that who has been
   answered finds every subscriber already served.

Where the disk refuses step 1, 2 or 4, everything of the round is undone and all its callers get the
error. Nothing has been published by then.

A full disk is a state of its own, from the first write that finds no room until there is room again. Then
the reserve (``reserve.py``) is given up, and only jobs that are allowed although it is full run: deletes, and
small things without which no delete would be let in. Those of them that the round undid run again in the next
one; all others are refused at once, and say what is full.
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

from memx_server.storage.base import Record, StoreFull, StoreUnavailable
from memx_server.storage.sqlite.commits import CommitWriter
from memx_server.storage.sqlite.database import BUSY_SECONDS, as_unavailable
from memx_server.storage.sqlite.reserve import FREED_BYTES, DiskReserve

T = TypeVar("T")

BATCH_SECONDS = 0.005
"""How long the jobs of one transaction may keep the event loop; at least one runs."""

EXPIRED_AT_ONCE = 64
"""Expiries that are logged in one transaction, ahead of its jobs."""

LONGEST_PAUSE = 1.0
"""Seconds after which an idle queue reads the clock again, lest a jump of it hold up an expiry."""

PURGE_EVERY = 60.0
"""Seconds between purges of what has expired beside the log."""

PURGE_SOON = 0.1
"""The same where more has expired than one purge removes."""

PROBE_EVERY = 1.0
"""Seconds between two looks for room on a full disk."""

RETRY_AFTER = 0.5
"""Seconds that expiries and purges wait after the disk has refused something."""

ANSWER_SECONDS = 10.0
"""How long a caller waits for the disk."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class WriteJob:
    """A function to call inside the next transaction, and the future that takes its result.

    Attributes:
        run: Executes statements; it must neither commit nor wait.
        although_full: Whether it runs on a full disk: it frees room, or takes next to none.
        is_second_try: Whether it has found the disk full before.
        done: Done by its caller where that has given up; the job is then skipped.
        result: What ``run`` returned.
        error: What ``run``, or the COMMIT behind it, raised.
    """

    run: Callable[[], Any]
    done: asyncio.Future[Any]
    although_full: bool = False
    is_second_try: bool = False
    result: Any = None
    error: Exception | None = None

    def settle(self) -> None:
        """Give the caller its result, unless it has gone."""
        if self.done.done():
            return
        if self.error is None:
            self.done.set_result(self.result)
        elif isinstance(self.error, StoreUnavailable):
            self.done.set_exception(self.error.copy())  # one object may be the error of many jobs
        else:
            self.done.set_exception(self.error)


class CommitQueue:
    """Runs jobs on the writing connection, each in a savepoint, many in a transaction.

    Args:
        connection: The one connection that writes; the queue closes it.
        commits: Logs what expires and holds the records to publish.
        clock: Returns microseconds since the epoch.
        publish: Called with the records of a transaction once they are on the disk, before the
            jobs' callers continue.
        reserve: Room on the disk that is given up when it is full.

    Attributes:
        full: Why nothing but deletes is taken; None where everything is.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        commits: CommitWriter,
        clock: Callable[[], int],
        publish: Callable[[Sequence[tuple[str, Record]]], None],
        reserve: DiskReserve,
    ) -> None:
        self.full: StoreFull | None = None
        self._reserve = reserve
        self._next_probe = 0.0
        self._connection = connection
        self._commits = commits
        self._clock = clock
        self._publish = publish
        self._jobs: deque[WriteJob] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._next_expiry = commits.next_due()
        self._next_purge = 0.0
        self._retry_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memx-sqlite-commit")
        connection.execute("PRAGMA busy_timeout=0")  # waiting for a lock is the thread's part
        self._task = self._loop.create_task(self._work(), name="memx-sqlite-writer")

    async def submit(self, run: Callable[[], T], *, although_full: bool = False) -> T:
        """Call ``run`` in the next transaction and return its result once that is on the disk.

        Args:
            run: Executes statements.
            although_full: Whether it runs on a full disk too; see ``WriteJob``.

        Raises:
            StoreUnavailable: The disk refused it, the queue is closed, or it took too long; then the
                write may still happen.
        """
        return await self.finish(self.begin(run, although_full=although_full))

    def begin(self, run: Callable[[], T], *, although_full: bool = False) -> asyncio.Future[T]:
        """Queue ``run`` behind all that was queued before; returns what ``finish`` takes.

        Raises:
            StoreUnavailable: The queue is closed.
        """
        if self._closing:
            raise StoreUnavailable("the store is closed")
        job = WriteJob(run, self._loop.create_future(), although_full)
        self._jobs.append(job)
        self._wake.set()
        return job.done

    async def finish(self, begun: asyncio.Future[T]) -> T:
        """Wait for the result of what was begun; as ``submit``."""
        try:
            # The timeout cancels the future, so a job that has not run yet is skipped.
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
        """Wait for a job, for an expiry, or for the next purge."""
        if self._jobs or self._closing:
            return
        # There is no await between looking at the jobs and clearing the event, so none is missed.
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._due_in(), LONGEST_PAUSE)):
                await self._wake.wait()

    def _due_in(self) -> float:
        """Seconds until there is work that no caller waits for."""
        now = time.monotonic()
        due_in = self._next_purge - now
        if self._next_expiry is not None:
            due_in = min(due_in, self._next_expiry / 1e3 - self._clock() / 1e6)
        return max(due_in, self._retry_at - now)

    async def _transact(self) -> None:
        """Run one round, as the module's docstring counts its steps."""
        batch: list[WriteJob] = []
        try:
            await self._begin(batch)
            self._commits.expire_due(EXPIRED_AT_ONCE)
            self._run_jobs(batch)
            await self._in_thread(self._finish)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must get it
            self._roll_back(batch, error)
        self._jobs.extendleft(reversed(self._again(batch)))
        records, self._commits.unpublished = self._commits.unpublished, []
        self._publish(records)
        for job in batch:
            job.settle()
        # Last, and apart from what could undo the round: it is committed and answered by now.
        with suppress(sqlite3.Error):
            self._next_expiry = self._commits.next_due()

    async def _begin(self, batch: list[WriteJob]) -> None:
        """Begin the transaction. While it is refused, ``batch`` holds the jobs that wait for it."""
        try:
            # The connection's busy timeout is 0 here: waiting would hold up the event loop.
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            if not self._jobs:
                raise
            # Another program has locked the file. All jobs so far wait for the same lock, in the
            # thread; if it does not come free, `_transact` gives each of them the error.
            batch.extend(self._jobs)
            self._jobs.clear()
            await self._in_thread(self._begin_patiently)
            # The lock has come: the jobs go back to the front of the queue, and run in order.
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
            if job.done.done():  # its caller has given up
                continue
            batch.append(job)
            if job.although_full or not self._is_full():
                self._run(job)
            else:
                job.error = self.full

    def _run(self, job: WriteJob) -> None:
        logged_before = len(self._commits.unpublished)
        self._connection.execute("SAVEPOINT job")
        try:
            job.result = job.run()
        except Exception as error:
            # Some faults (a full disk, an I/O error) make SQLite end the whole transaction by
            # itself. The savepoint is gone then, and the jobs before this one are undone as well.
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO job")
            self._commits.forget(logged_before)
            self._note_error(job, error)
        self._connection.execute("RELEASE job")

    def _finish(self) -> None:
        """Purge where it is time, and commit; in the thread."""
        if time.monotonic() >= self._next_purge:
            is_more_left = self._commits.purge()
            pause = PURGE_SOON if is_more_left else PURGE_EVERY
            self._next_purge = time.monotonic() + pause
        self._connection.execute("COMMIT")

    def _roll_back(self, batch: list[WriteJob], error: Exception) -> None:
        """Undo the round and make ``error`` the result of all its jobs."""
        log.warning("a transaction of %d writes was undone: %s", len(batch), error)
        with suppress(sqlite3.Error):  # most faults have ended the transaction already
            self._connection.execute("ROLLBACK")
        self._commits.forget(0)
        self._retry_at = time.monotonic() + RETRY_AFTER
        for job in batch:
            self._note_error(job, error)

    def _note_error(self, job: WriteJob, error: Exception) -> None:
        """Make ``error`` the result of a job; where the disk is full, begin that state."""
        unavailable = as_unavailable(error)
        if isinstance(unavailable, StoreFull):
            if self.full is None:
                log.error("the disk is full (%s): only deletes are taken", error)
                self._reserve.give_up()
                self._retry_at = 0.0  # with the reserve's room, deletes may go through at once
            self.full = unavailable
        job.error = unavailable

    def _is_full(self) -> bool:
        """Return whether the disk is full; now and then, find out whether it still is."""
        if self.full is None:
            return False
        if time.monotonic() < self._next_probe:
            return True
        self._next_probe = time.monotonic() + PROBE_EVERY
        # Pages that deletes have freed are room inside the file. They do as well as room on the disk.
        (free_pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (page_bytes,) = self._connection.execute("PRAGMA page_size").fetchone()
        if self._reserve.has_room():
            self._reserve.make()
        elif free_pages * page_bytes < FREED_BYTES:
            return True
        log.warning("there is room on the disk again: writes are taken")
        self.full = None
        self._next_probe = 0.0
        return False

    def _again(self, batch: list[WriteJob]) -> list[WriteJob]:
        """Take those out of a round that a full disk refused and that may run although it is full."""
        again = [
            job
            for job in batch
            if isinstance(job.error, StoreFull) and job.although_full and not job.is_second_try
        ]
        for job in again:
            job.is_second_try, job.error = True, None
            batch.remove(job)
        return again

    def _in_thread(self, run: Callable[[], T]) -> asyncio.Future[T]:
        return self._loop.run_in_executor(self._thread, run)
