"""The reader of a space's log, which subscribers at the same position share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from memx_sdk.protocol.cursors import Position
from memx_server.domain.feed.messages import Rendered
from memx_server.domain.log_pages import up_to_head
from memx_server.storage.base import Store, StoreUnavailable

T = TypeVar("T")

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0
_READERS = 4
_PAGE_BYTES = 1024 * 1024
_SMALLEST_PAGE, _LARGEST_PAGE = 4, 256


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Call the store until it answers.

    A subscription outlives an outage of the store: its client sees a pause, and no error. The pauses
    between two calls grow to two seconds, with jitter, so that all subscribers of all servers do
    not come back at one moment.
    """
    wait = _FIRST_WAIT
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            # Only an outage is waited for: a lost history must be told at once.
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            wait = min(wait * 2, _LONGEST_WAIT)


@dataclass(frozen=True, slots=True)
class SharedLogPage:
    """Records after a position, ready to be sent; see ``LogPage``."""

    records: Sequence[Rendered]
    position: Position
    head: int


class LogReader:
    """The reader of one space's log.

    After an outage thousands of subscribers want the same pages. Those at the same position share
    one read, and no more than ``_READERS`` reads run at a time.
    """

    def __init__(self, store: Store, space: str) -> None:
        self._store = store
        self._space = space
        self._reads: dict[Position | None, asyncio.Task[SharedLogPage]] = {}
        self._readers = asyncio.Semaphore(_READERS)
        self._limit = 32  # records of a page; adapted to their size

    async def read(self, since: Position | None) -> SharedLogPage:
        """Return the page after ``since`` (None: from the oldest record kept).

        Raises:
            Compacted: The log has been trimmed past ``since``.
            Diverged: ``since`` is no position of this history.
        """
        task = self._reads.get(since)
        if task is None:
            task = self._reads[since] = asyncio.create_task(self._read(since))
            task.add_done_callback(lambda done: self._forget(since, done))
        # One of those who share it may leave (be cancelled) without ending it for the others.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel the reads."""
        tasks = list(self._reads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, since: Position | None) -> SharedLogPage:
        # The limit is read when the turn has come: pages before this one may have changed it.
        async with self._readers:
            limit = self._limit
            page = up_to_head(await patiently(lambda: self._store.log(self._space, since, limit)))
        records: list[Rendered] = []
        # Where a reader stands before each record: at the one before it. Before the first one that is
        # still kept, for a reader from the oldest, that is what the record itself names.
        before = since
        for record in page.records:
            before = before or Position(record.position.lineage, record.previous)
            records.append(Rendered(record, before))
            before = record.position
        self._adapt(records)
        return SharedLogPage(records, page.position, page.head)

    def _adapt(self, records: Sequence[Rendered]) -> None:
        """Keep pages near a size in bytes: one stays in memory as long as its slowest reader."""
        if records:
            size = sum(len(change.data) for record in records for change in record.changes)
            fitting = _PAGE_BYTES * len(records) // (size + 1)
            self._limit = max(_SMALLEST_PAGE, min(_LARGEST_PAGE, fitting))

    def _forget(self, since: Position | None, done: asyncio.Task[SharedLogPage]) -> None:
        del self._reads[since]
        if not done.cancelled():
            done.exception()  # looked at, else asyncio would log it: everybody may have left
