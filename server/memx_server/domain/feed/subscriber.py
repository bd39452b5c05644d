"""One subscription: what it was sent last, and how it gets from there to now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.access import KeySet
from memx_server.domain.feed import messages
from memx_server.domain.feed.log_reader import patiently
from memx_server.domain.feed.messages import Event, Packet
from memx_server.domain.feed.send_queue import Dropped, Lane
from memx_server.domain.feed.snapshot import entry_event
from memx_server.storage.base import Compacted, Diverged

if TYPE_CHECKING:
    from memx_server.domain.feed.hub import Hub

_log = logging.getLogger("memx_server")

Course = Callable[[], Coroutine[Any, Any, None]]
EventName = Literal["value", "schema", "all"]


_KINDS: dict[EventName, frozenset[str]] = {
    "value": frozenset({"value"}),
    "schema": frozenset({"schema"}),
    "all": frozenset({"value", "schema"}),
}


def kinds_of(event: EventName) -> frozenset[str]:
    """The kinds of event that the word stands for."""
    return _KINDS[event]


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a subscriber asks for.

    Attributes:
        pattern: The keys it wants to hear of.
        event: Which kinds of change.
        since: Begin after this position of the log; None: begin now.
        oldest: Begin with the oldest change that is kept.
        snapshot: Begin with the state as it is.
        conflate: Skip to the newest value of a key where there is no time for all.
        controls: Whether it understands ``live``, ``reset`` and ``mark``; a client of the original
            does not, and gets current values where it should get a ``reset``.
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
    """Feeds one lane with what one subscription may see, in order, once, nothing left out.

    It is either live, and then takes what the hub offers, or it catches up from the log at the pace
    of its connection and goes live when it has reached the hub. One whose lane overflows while live
    catches up again from the first packet that was dropped.

    Args:
        failed: Told once if the subscription cannot go on.
    """

    __slots__ = (
        "_audience",
        "_catching_up",
        "_failed",
        "_hub",
        "_lane",
        "_live",
        "_told",
        "_wish",
    )

    def __init__(
        self,
        hub: Hub,
        lane: Lane,
        wish: Subscription,
        readable: KeySet,
        failed: Callable[[ProtocolError], None],
    ) -> None:
        self._hub = hub
        self._lane = lane
        self._wish = wish
        self._failed = failed
        self._live = False
        self._told = 0
        self._catching_up: asyncio.Task[None] | None = None
        self._audience = hub.index.add(wish.pattern, wish.kinds, readable, self)

    def start(self) -> None:
        """Begin to feed the lane."""
        wish = self._wish
        if wish.snapshot and wish.since is None:
            self._catch_up(partial(self._from_snapshot))
        elif wish.oldest and wish.since is None:
            self._catch_up(partial(self._from_log, None))
        elif wish.since is not None and wish.since != self._hub.position:
            self._catch_up(partial(self._from_log, wish.since))
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

    def offer(self, packet: Packet) -> None:
        """Queue what has just been committed, or fall behind where there is no room for it."""
        revision = packet.position.revision
        if not self._live or revision <= self._told:
            return
        if self._lane.fits(packet) and (self._wish.controls or not packet.bare):
            self._told = revision
            self._lane.put(packet)
        else:
            self._live = False
            self._hub.tally.fell_behind += 1
            dropped = self._lane.drop_changes() or Dropped(packet.before, live=False)
            self._catch_up(partial(self._from_log, dropped.start, announce=dropped.live))

    def mark(self, packet: Packet) -> None:
        """Pass on where the log stands, if this subscriber was told of no such late position."""
        revision = packet.position.revision
        if self._live and self._wish.controls and revision > self._told and self._lane.fits(packet):
            self._told = revision
            self._lane.put(packet)

    def reset(self, reason: str) -> None:
        """Start over from a snapshot."""
        self._live = False
        if self._catching_up is not None:
            self._catching_up.cancel()
        self._catch_up(partial(self._start_over, reason))

    def _catch_up(self, course: Course) -> None:
        self._catching_up = asyncio.create_task(self._run(course))

    async def _run(self, course: Course) -> None:
        """Follow ``course``, and start over as often as the log cannot serve it."""
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
                _log.exception("a subscription to %r has failed", self._wish.pattern)
                self._failed(ProtocolError("internal", "the server failed; its log tells why"))
                return
            else:
                return

    async def _start_over(self, reason: str) -> None:
        self._lane.clear()
        self._told = 0
        if self._wish.controls:
            self._lane.put(messages.reset(reason, self._hub.position))
        await self._from_snapshot()

    async def _from_snapshot(self) -> None:
        """Send the state of one moment, then the log after it."""
        snapshot = await self._hub.snapshot(self._wish.pattern, self._wish.kinds)
        position = snapshot.position
        for event in snapshot.events:
            if self._audience.sees(event.kind, event.key):
                await self._lane.outbox.room()
                self._lane.put(Packet([event], position, position))
        self._told = position.revision
        await self._from_log(position)

    async def _from_log(self, position: Position | None, *, announce: bool = True) -> None:
        """Send the log after ``position`` (None: all of it), and go live where it ends."""
        hub, outbox = self._hub, self._lane.outbox
        while position is None or position != hub.position:
            await outbox.room()
            epoch = hub.epoch
            page = await hub.log.read(position)
            for record in page.records:
                await self._put(self._audience.packet(record))
                position = record.position
                if outbox.full:
                    break  # the rest is read again when there is room: nobody holds pages meanwhile
            else:
                position = page.position
                if epoch == hub.epoch and position.revision >= hub.position.revision:
                    break
                if page.head < hub.position.revision:
                    await hub.check()
        self._go_live(position, announce=announce)

    async def _put(self, packet: Packet | None) -> None:
        if packet is None:
            return
        if not self._wish.controls and packet.bare:
            events = [await self._completed(event) for event in packet.events]
            packet = Packet([e for e in events if e], packet.before, packet.position)
        if packet.events:
            self._told = packet.position.revision
            self._lane.put(packet)

    async def _completed(self, event: Event) -> Event | None:
        """A client of the original expects a value: give it the present one, if any."""
        if not event.bare:
            return event
        hub = self._hub
        (entry,) = await patiently(lambda: hub.store.read(hub.space, [event.key]))
        return None if entry is None else entry_event(event.key, entry, snapshot=False)

    def _go_live(self, position: Position, *, announce: bool) -> None:
        self._live = True
        self._catching_up = None
        self._told = max(self._told, position.revision)
        if announce and self._wish.controls:
            self._lane.put(messages.live(position))
