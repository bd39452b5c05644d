"""The hub: it follows the log of one space in one process and serves the listeners there."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from memx_sdk.protocol.cursors import Position
from memx_server.domain.byte_budget import ByteBudget
from memx_server.domain.counters import FeedCounters
from memx_server.domain.feed import messages
from memx_server.domain.feed.backoff import Backoff
from memx_server.domain.feed.index import Audience, AudienceIndex, Listener
from memx_server.domain.feed.log_reader import LogReader, patiently
from memx_server.domain.feed.messages import Rendered
from memx_server.domain.feed.snapshot import Snapshot, SnapshotBuilder
from memx_server.storage.base import Compacted, Diverged, Record, Store, StoreUnavailable

_log = logging.getLogger("memx_server")


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """How the feed behaves.

    Attributes:
        queue_bytes: Bytes that may wait for one connection before it has to read from the log.
        snapshot_bytes: Bytes of the largest snapshot that is sent.
        check_seconds: Bounds of the jittered time between two position checks. After each one the
            listeners are given a mark.
        linger_seconds: How long a hub stays when its last listener has left.
    """

    queue_bytes: int = 256 * 1024
    snapshot_bytes: int = 64 * 1024 * 1024
    check_seconds: tuple[float, float] = (5.0, 10.0)
    linger_seconds: float = 30.0


class Hub:
    """A position in the log of one space, which moves along the log without a gap.

    The invariant: each live listener has been offered every change up to ``position``, in order,
    once. What moves the position:

    * A notice of the store that carries the record and names ``position`` as the one before it. (Revisions
      of unlogged keys have no records, and move nothing.)
    * The log, read from ``position`` on (a *repair*). Any other notice starts a repair: one was lost
      before it, or it came out of order, or it was too large to carry the record. So does a *position
      check* every few seconds that finds another head: it covers a lost last notice, which no later
      notice would reveal.
    * Where the log cannot be read from there (compacted, or a lost history), the head: then every
      listener starts over from a snapshot.

    Args:
        store: Where the log is.
        space: The space.
        settings: How the feed behaves.
        counters: Counts what goes wrong.
        emptied: Called when the last listener has left.
        sent: Counts what the process holds to be sent.

    Attributes:
        position: The position.
        epoch: How often the hub has gone to the head without reading what lies between. A reader
            that has read a page of another epoch must not go live on it.
        index: Its listeners.
        log: Reads the log, also for the listeners that are behind.
    """

    def __init__(
        self,
        store: Store,
        space: str,
        settings: FeedSettings,
        counters: FeedCounters,
        emptied: Callable[[], None],
        sent: ByteBudget | None = None,
    ) -> None:
        self.store = store
        self.space = space
        self.position = Position("", 0)
        self.epoch = 0
        self.index = AudienceIndex()
        self.log = LogReader(store, space)
        self.counters = counters
        self._settings = settings
        self._sent = sent
        self._open = False
        # Whether the log may hold more than ``position`` shows: set by notices, cleared by a read.
        self._behind = False
        self._repairing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stop_tail: Callable[[], Awaitable[None]] | None = None
        self._backoff = Backoff(counters, "the feed of a space")
        self._snapshots: dict[tuple[str, frozenset[str]], asyncio.Task[Snapshot]] = {}
        self._emptied = emptied

    async def open(self) -> None:
        """Begin to follow the log at its head.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        # Notices first, then the head: a commit between the two is in the head, or sets _behind.
        self._stop_tail = await self.store.tail(self.space, self)
        try:
            self.position = await self.store.head(self.space)
        except BaseException:
            await self._stop_tail()
            raise
        self._open = True
        if self._behind:
            self.repair()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop following."""
        self._open = False
        for task in (self._watching, self._repairing, *self._snapshots.values()):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.log.close()
        if self._stop_tail is not None:
            await self._stop_tail()

    def leave(self, audience: Audience, listener: Listener) -> None:
        """Forget a listener."""
        self.index.remove(audience, listener)
        if not self.index:
            self._emptied()

    # The store calls these.

    def on_record(self, record: Record) -> None:
        """Publish the record if it is the next one, start a repair if something is missing."""
        if not self._open:
            self._behind = True
        elif record.position.revision <= self.position.revision:
            return  # it came twice, or a repair was faster
        elif self.index.is_costly:
            self.repair()  # which matches the keys in parts, and lets others have their turns
        elif record.previous == self.position.revision and record.changes is not None:
            self._publish(Rendered(record, self.position))
        else:
            self.repair()

    def on_gap(self) -> None:
        """Start a repair: notices may have been lost."""
        self.repair()

    # The position.

    def repair(self) -> None:
        """Read the log from the position on, in one task however often this is called."""
        self._behind = True
        if self._open and self._repairing is None:
            self.counters.repairs += 1
            self._repairing = asyncio.create_task(self._repair())

    async def check(self) -> None:
        """Check the position against the log's head; return when the hub has reached it."""
        head = await patiently(lambda: self.store.head(self.space))
        self._compare(head)
        if self._repairing is not None:
            await asyncio.shield(self._repairing)

    def _compare(self, head: Position) -> None:
        if head.revision != self.position.revision:
            self.repair()
        else:
            self.position = head  # its lineage may have changed with nothing lost

    async def _repair(self) -> None:
        try:
            while self._behind:
                # Cleared before the read: a notice that comes during it sets it again.
                self._behind = False
                await self._read_on()
        except Exception:  # noqa: BLE001 - whatever it was, the next position check tries again
            _log.exception("the feed of a space cannot be brought up to date; trying again soon")
        finally:
            self._repairing = None

    async def _read_on(self) -> None:
        try:
            page = await self.log.read(self.position)
        except Compacted:
            await self._start_over("compacted")
            return
        except Diverged:
            await self._start_over("diverged")
            return
        self._backoff.helped()
        # Meanwhile notices may have moved the position on: what they published is not published again.
        for record in page.records:
            if self.index.is_costly:
                await self.index.prepare(record)
            if record.position.revision > self.position.revision:
                self._publish(record)
        if page.position.revision >= self.position.revision:
            self.position = page.position
        self._behind = self._behind or page.head > self.position.revision

    async def _start_over(self, reason: str) -> None:
        """Go to the head, and let every listener start over from a snapshot."""
        await self._backoff.pause()
        self.position = await patiently(lambda: self.store.head(self.space))
        self.epoch += 1
        self.counters.lost_histories += 1
        for listener in list(self.index):
            listener.reset(reason)

    def _publish(self, record: Rendered) -> None:
        self.position = record.position
        self.index.publish(record)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*self._settings.check_seconds))  # noqa: S311 - jitter
            try:
                self._compare(await self.store.head(self.space))
            except StoreUnavailable:
                continue
            except Exception:  # noqa: BLE001 - the hub must outlive whatever it was
                _log.exception("the head of a space's log cannot be read; trying again soon")
                continue
            packet = messages.mark(self.position)
            for listener in list(self.index):
                listener.mark(packet)

    # Snapshots.

    async def snapshot(self, pattern: str, kinds: frozenset[str]) -> Snapshot:
        """Read the state under ``pattern``; calls during a read of the same share it.

        Raises:
            Compacted, Diverged, ProtocolError: As ``SnapshotBuilder.build``.
        """
        name = (pattern, kinds)
        task = self._snapshots.get(name)
        if task is None:
            builder = SnapshotBuilder(
                self.store, self.space, pattern, kinds, self._settings.snapshot_bytes, self._sent
            )
            task = self._snapshots[name] = asyncio.create_task(builder.build())
            task.add_done_callback(lambda done: self._forget_snapshot(name, done))
        return await asyncio.shield(task)

    def _forget_snapshot(
        self, name: tuple[str, frozenset[str]], done: asyncio.Task[Snapshot]
    ) -> None:
        del self._snapshots[name]
        if not done.cancelled():
            done.exception()  # looked at, else asyncio would log it: everybody may have left
