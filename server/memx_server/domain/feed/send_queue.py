"""The bounded queue of one connection, and the lanes in it: one for each of its subscriptions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice, takewhile
from typing import NamedTuple

from memx_sdk.protocol.cursors import Position
from memx_server.domain.feed.messages import Packet


class Dropped(NamedTuple):
    """What a lane gave up to make room.

    Attributes:
        start: The position to read on from.
        live: Whether the word ``live`` was among it.
    """

    start: Position
    live: bool


class SendQueue:
    """What waits to be sent on one connection, bounded in bytes over all its lanes.

    A writer takes from it at the connection's pace; lanes take turns, a packet each. Whoever fills
    it stops at ``full`` and waits for ``room``; nobody waits for a slow connection but its own
    readers.

    Args:
        limit: Bytes; one packet may pass it, so that there is room for one of any size.
        wake: Called when there is something to take after there was nothing.
    """

    __slots__ = ("_ready", "_waiting", "limit", "size", "wake")

    def __init__(self, limit: int, wake: Callable[[], None]) -> None:
        self.limit = limit
        self.wake = wake
        self.size = 0
        self._ready: deque[Lane] = deque()
        self._waiting: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self._ready)

    @property
    def full(self) -> bool:
        """Whether it holds as much as it may."""
        return self.size >= self.limit

    async def room(self) -> None:
        """Return when it is not full, or when it was and is half empty again."""
        while self.full:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def take(self) -> tuple[Lane, Packet]:
        """Take the next packet; there must be one."""
        lane = self._ready.popleft()
        packet = lane.take()
        if lane.size:
            self._line_up(lane)
        else:
            lane.listed = False
        return lane, packet

    def grew(self, lane: Lane, size: int) -> None:
        """A lane holds ``size`` more bytes (fewer, if negative)."""
        self.size += size
        if not lane.listed:
            lane.listed = True
            self._line_up(lane)
            if len(self._ready) == 1:
                self.wake()

    def shrank(self, size: int) -> None:
        """A lane holds ``size`` fewer bytes."""
        self.size -= size
        if self._waiting and self.size * 2 <= self.limit:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def drop(self, lane: Lane) -> None:
        """A lane was emptied without anything being sent."""
        if lane.listed:
            lane.listed = False
            self._ready.remove(lane)

    def _line_up(self, lane: Lane) -> None:
        if lane.urgent:
            self._ready.appendleft(lane)
        else:
            self._ready.append(lane)


class Lane:
    """One subscription's packets in an outbox, in order.

    Attributes:
        label: What its frames begin with in place of the brace, where several lanes share a socket.
        urgent: Whether it goes before all others, as answers do: a subscription's must be there first.
        size: Bytes that wait in it.
        listed: Whether the outbox knows that something waits; the outbox's own.
    """

    __slots__ = ("_packets", "label", "listed", "outbox", "size", "urgent")

    def __init__(self, outbox: SendQueue, label: bytes = b"", *, urgent: bool = False) -> None:
        self.outbox = outbox
        self.label = label
        self.urgent = urgent
        self.size = 0
        self.listed = False
        self._packets: deque[Packet] = deque()

    def fits(self, packet: Packet) -> bool:
        """Tell whether ``packet`` may be put without going over the limit."""
        outbox = self.outbox
        return outbox.size + packet.size <= outbox.limit or not outbox.size

    def put(self, packet: Packet) -> None:
        """Queue a packet, whether or not it fits."""
        self._packets.append(packet)
        self.size += packet.size
        self.outbox.grew(self, packet.size)

    def take(self) -> Packet:
        """Remove the oldest packet and return it."""
        packet = self._packets.popleft()
        self.size -= packet.size
        self.outbox.shrank(packet.size)
        return packet

    def clear(self) -> None:
        """Drop everything."""
        self._forget()
        self._freed(self.size)

    def drop_changes(self) -> Dropped | None:
        """Drop what can be read again from the log: the changes, and what waits behind them."""
        kept = list(takewhile(lambda packet: not packet.changes, self._packets))
        dropped = list(islice(self._packets, len(kept), None))
        if not dropped:
            return None
        self._packets = deque(kept)
        self._freed(sum(packet.size for packet in dropped))
        return Dropped(dropped[0].before, any(packet.says("live") for packet in dropped))

    def _freed(self, size: int) -> None:
        self.size -= size
        if not self.size:
            self.outbox.drop(self)
        self.outbox.shrank(size)

    def _forget(self) -> None:
        self._packets.clear()
