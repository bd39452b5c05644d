"""A subscriber: it takes one subscription from where its client stands to now, and keeps it there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import match_cost
from memx_server.domain.access import EventName, KeySet, kinds_of
from memx_server.domain.feed import messages
from memx_server.domain.feed.backoff import Backoff
from memx_server.domain.feed.hub import Hub
from memx_server.domain.feed.log_reader import patiently
from memx_server.domain.feed.messages import Event, Packet
from memx_server.domain.feed.send_queue import Dropped, Lane
from memx_server.domain.feed.snapshot import entry_event
from memx_server.storage.base import Compacted, Diverged
from memx_server.storage.encoding import is_unlogged

_log = logging.getLogger("memx_server")

Course = Callable[[], Coroutine[Any, Any, None]]
"""One of the ways to catch up, ready to be run."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """The parameters of a subscription.

    Attributes:
        pattern: The keys.
        event: The kinds of change.
        since: Begin after this position of the log; None: begin now.
        oldest: Begin with the oldest change that is kept.
        snapshot: Begin with the state as it is.
        conflate: Skip to the newest value of a key where the client is behind.
        controls: Whether the client understands ``live``, ``reset`` and ``mark``. A client of the
            original does not, and gets current values where it should get a ``reset``.
    """

    pattern: str
    event: EventName = "value"
    since: Position | None = None
    oldest: bool = False
    snapshot: bool = False
    conflate: bool = False
    controls: bool = True

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of event that ``event`` stands for."""
        return kinds_of(self.event)


class Subscriber:
    """Feeds one lane with the changes that one subscription sees, in order, once, without a gap.

    A subscriber is in one of two states:

    * *live*: it takes what the hub offers. Where a packet does not fit into the lane, the subscriber
      has fallen behind: the changes that wait in the lane are dropped, and it catches up from the
      first of them.
    * *catching up*, in a task of its own: it reads a snapshot, or the log, no faster than the lane
      drains. When it has reached the hub's position it goes live, in the same turn of the event
      loop, so that no record can pass in between.

    What is in the lane or was sent is never put again: ``_covered`` is the revision up to which the
    lane has got everything. A revision at or below it is not for this subscriber any more.

    Args:
        hub: The hub of its space.
        lane: Where the packets wait to be sent.
        subscription: Which changes, and from where on.
        readable: The keys that it may see.
        failed: Called once if the subscription cannot go on.
    """

    __slots__ = (
        "_audience",
        "_backoff",
        "_catching_up",
        "_covered",
        "_failed",
        "_hub",
        "_lane",
        "_live",
        "_subscription",
    )

    def __init__(
        self,
        hub: Hub,
        lane: Lane,
        subscription: Subscription,
        readable: KeySet,
        failed: Callable[[ProtocolError], None],
    ) -> None:
        self._hub = hub
        self._lane = lane
        self._subscription = subscription
        self._failed = failed
        self._live = False
        self._covered = 0
        self._catching_up: asyncio.Task[None] | None = None
        self._backoff = Backoff(hub.counters, f"a subscription to {subscription.pattern!r}")
        self._audience = hub.index.add(subscription.pattern, subscription.kinds, readable, self)

    def start(self) -> None:
        """Begin to feed the lane."""
        subscription = self._subscription
        if subscription.snapshot and subscription.since is None:
            self._catch_up(partial(self._from_snapshot))
        elif subscription.oldest and subscription.since is None:
            self._catch_up(partial(self._from_log, None))
        elif subscription.since is not None and subscription.since != self._hub.position:
            self._catch_up(partial(self._from_log, subscription.since))
        else:
            self._go_live(self._hub.position, announce=True)

    async def close(self) -> None:
        """Stop; nothing more is put into the lane."""
        self._live = False
        self._hub.leave(self._audience, self)
        self._lane.clear()
        task, self._catching_up = self._catching_up, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # The hub calls these.

    def offer(self, packet: Packet) -> None:
        """Queue what has just been committed, or fall behind where it does not fit."""
        revision = packet.position.revision
        if not self._live or revision <= self._covered:
            return
        # A bare value has to be read from the store for a client of the original, which takes time
        # that the hub does not have: catching up does it.
        if self._lane.fits(packet) and (self._subscription.controls or not packet.bare):
            self._covered = revision
            self._lane.put(packet)
        else:
            self._live = False
            self._hub.counters.fell_behind += 1
            # What was dropped from the lane is read again from its own beginning. A ``live`` among
            # it has not reached the client: it is announced again at the end of the log.
            dropped = self._lane.drop_changes() or Dropped(packet.before, live=False)
            self._catch_up(partial(self._from_log, dropped.start, announce=dropped.live))

    def mark(self, packet: Packet) -> None:
        """Pass on the position that the log has reached, unless the client has that or a later one."""
        revision = packet.position.revision
        if (
            self._live
            and self._subscription.controls
            and revision > self._covered
            and self._lane.fits(packet)
        ):
            self._covered = revision
            self._lane.put(packet)

    def reset(self, reason: str) -> None:
        """Start over from a snapshot, without a pause: the hub paces its resets."""
        self._live = False
        self._backoff.helped()
        if self._catching_up is not None:
            self._catching_up.cancel()
        self._catch_up(partial(self._start_over, reason))

    # Catching up.

    def _catch_up(self, course: Course) -> None:
        self._catching_up = asyncio.create_task(self._run(course))

    async def _run(self, course: Course) -> None:
        """Run ``course``, and start over as often as the log cannot serve the position it reached.

        A start that leads to another one at once is a fault of the store: from the second on they are
        paced by the backoff.
        """
        while True:
            try:
                await course()
            except Compacted:
                course = partial(self._start_over, "compacted")
            except Diverged:
                course = partial(self._start_over, "diverged")
            except ProtocolError as error:
                self._failed(error)
                return
            except Exception:  # noqa: BLE001 - its client must not wait for ever
                _log.exception("a subscription to %r has failed", self._subscription.pattern)
                self._failed(ProtocolError("internal", "the server failed; its log tells why"))
                return
            else:
                return

    async def _start_over(self, reason: str) -> None:
        """Tell the client to drop its state, and send a snapshot."""
        await self._backoff.pause()
        self._lane.clear()
        # Revisions of a lost history say nothing about the new one.
        self._covered = 0
        if self._subscription.controls:
            self._lane.put(messages.reset(reason, self._hub.position))
        await self._from_snapshot()

    async def _from_snapshot(self) -> None:
        """Send the state of one moment, then the log after it."""
        position = await self._put_snapshot()
        self._covered = position.revision
        await self._from_log(position)

    async def _put_snapshot(self) -> Position:
        """Send the state of one moment, hold it no longer than that, and return its position."""
        snapshot = await self._hub.snapshot(self._subscription.pattern, self._subscription.kinds)
        position = snapshot.position
        for event in snapshot.events:
            # The snapshot is shared by subscribers with other scopes.
            if self._audience.sees(event.kind, event.key):
                await self._lane.queue.drain()
                self._lane.put(Packet([event], position, position))
        return position

    async def _from_log(self, position: Position | None, *, announce: bool = True) -> None:
        """Send the log after ``position`` (None: all of it), and go live where it ends.

        Args:
            position: Where the client stands.
            announce: Whether to send ``live`` then.
        """
        hub, queue = self._hub, self._lane.queue
        while position is None or position != hub.position:
            await queue.drain()
            epoch = hub.epoch
            page = await hub.log.read(position)
            if page.records:
                self._backoff.helped()
            for record in page.records:
                if match_cost(self._audience.pattern):
                    # Such a pattern takes microseconds for each of a page's thousands of changes.
                    await asyncio.sleep(0)
                await self._put(self._audience.packet(record))
                position = record.position
                if queue.full:
                    # The rest of the page is read again when there is room: a subscriber that waits
                    # for its client keeps no page in memory meanwhile.
                    break
            else:
                position = page.position
                # The page reaches the hub's position: nothing lies between, and nothing can come
                # between, since there is no await from here to going live. If the hub has left its
                # history during the read, the page may be of the old one: read on, which tells.
                if epoch == hub.epoch and position.revision >= hub.position.revision:
                    break
                # The log ended below the hub's position. Mostly the hub has moved on during the read,
                # and the next page has what is missing. Where that holds nothing again and again, the
                # hub follows a history that is lost and has not noticed yet.
                if page.head < hub.position.revision:
                    if not page.records:
                        await self._backoff.pause()
                    await hub.check()
        self._go_live(position, announce=announce)

    async def _put(self, packet: Packet | None) -> None:
        if packet is None:
            return
        if not self._subscription.controls and packet.bare:
            events = [await self._completed(event) for event in packet.events]
            packet = Packet([e for e in events if e], packet.before, packet.position)
        if packet.events:
            self._covered = packet.position.revision
            self._lane.put(packet)

    async def _completed(self, event: Event) -> Event | None:
        """Give a bare event the present value, which a client of the original expects; None: gone."""
        if not event.bare:
            return event
        hub = self._hub
        (entry,) = await patiently(lambda: hub.store.read(hub.space, [event.key]))
        if entry is None or is_unlogged(entry):  # made anew as an unlogged one
            return None
        return entry_event(event.key, entry, snapshot=False)

    def _go_live(self, position: Position, *, announce: bool) -> None:
        self._live = True
        self._catching_up = None
        self._backoff.helped()
        # ``position`` may be above the hub's: what the hub offers up to there was read already.
        self._covered = max(self._covered, position.revision)
        if announce and self._subscription.controls:
            self._lane.put(messages.live(position))
