"""The bounded send queue of one connection, and its lanes: one for each of its subscriptions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice, takewhile
from typing import NamedTuple

from memx_sdk.protocol.cursors import Position
from memx_server.domain.feed.messages import Packet


class Dropped(NamedTuple):
    """The changes that a lane dropped, so that its subscriber reads them again from the log.

    Attributes:
        start: The position to read on from: where the first of them begins.
        live: Whether a ``live`` message was among them, which is then to be sent again.
    """

    start: Position
    live: bool


class SendQueue:
    """The packets that wait to be sent on one connection, bounded in bytes over all its lanes.

    A writer takes packets at the pace of the connection. Lanes take turns, a packet each, so that a
    busy subscription does not keep the others of its socket waiting. A producer that can wait (one
    that reads a snapshot or the log) awaits ``drain`` before it puts more; one that cannot (the hub)
    asks the lane whether a packet ``fits``, and drops it to the log otherwise. So a connection that
    does not read costs its limit in memory, and nobody else's time.

    Args:
        limit: Bytes. The queue may exceed it by one packet, so that one of any size gets through.
        wake: Called when there is a packet after there was none.

    Attributes:
        size: Bytes that wait.
    """

    __slots__ = ("_ready", "_waiting", "limit", "size", "wake")

    def __init__(self, limit: int, wake: Callable[[], None]) -> None:
        self.limit = limit
        self.wake = wake
        self.size = 0
        # The lanes that hold something, each once, in the order in which they are served.
        self._ready: deque[Lane] = deque()
        self._waiting: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self._ready)

    @property
    def full(self) -> bool:
        """Whether it has reached its limit."""
        return self.size >= self.limit

    async def drain(self) -> None:
        """Return at once where it is not full, else when it is half empty.

        The gap between the two keeps a producer from being woken for each packet that is sent.
        """
        while self.full:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def take(self) -> tuple[Lane, Packet]:
        """Take the next packet; there must be one."""
        lane = self._ready.popleft()
        packet = lane.take()
        # A paced lane leaves the turns until its packet has arrived; what comes meanwhile stays in it.
        lane.held = lane.paced
        if lane.size and not lane.held:
            self._enlist(lane)
        else:
            lane.enlisted = False
        return lane, packet

    def release(self, lane: Lane) -> None:
        """Serve a paced lane again: the peer has received the packet that was taken last."""
        lane.held = False
        if lane.size:
            self.grew(lane, 0)

    def grew(self, lane: Lane, size: int) -> None:
        """Count ``size`` more bytes in ``lane`` (fewer, if negative), and serve it in its turn."""
        self.size += size
        if not (lane.enlisted or lane.held):
            lane.enlisted = True
            self._enlist(lane)
            # With others in line a writer is at work already, or waits for its peer.
            if len(self._ready) == 1:
                self.wake()

    def shrank(self, size: int) -> None:
        """Count ``size`` fewer bytes, and let producers go on where that makes it half empty."""
        self.size -= size
        if self._waiting and self.size * 2 <= self.limit:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():  # its producer may have been cancelled
                    future.set_result(None)

    def delist(self, lane: Lane) -> None:
        """Take a lane that was emptied by other means than ``take`` out of the turns."""
        if lane.enlisted:
            lane.enlisted = False
            self._ready.remove(lane)

    def _enlist(self, lane: Lane) -> None:
        if lane.urgent:
            self._ready.appendleft(lane)
        else:
            self._ready.append(lane)


class Lane:
    """The packets of one subscription in a send queue, in order.

    Attributes:
        queue: The queue.
        label: The first bytes of its frames, in place of the brace, where several lanes share a
            socket.
        urgent: Whether it goes before all others. Responses do: a client must know the number of
            its subscription before the first frame of that subscription arrives.
        paced: Whether the next packet waits until the peer has received the one before.
        size: Bytes that wait in it.
        enlisted: Whether the queue has it in its turns; the queue's own.
        held: Whether a packet of a paced lane is on its way; the queue's own.
    """

    __slots__ = ("_packets", "enlisted", "held", "label", "queue", "size", "urgent")

    paced = False

    def __init__(self, queue: SendQueue, label: bytes = b"", *, urgent: bool = False) -> None:
        self.queue = queue
        self.label = label
        self.urgent = urgent
        self.size = 0
        self.enlisted = False
        self.held = False
        self._packets: deque[Packet] = deque()

    def fits(self, packet: Packet) -> bool:
        """Tell whether ``packet`` stays within the limit; into an empty queue every packet does."""
        queue = self.queue
        return queue.size + packet.size <= queue.limit or not queue.size

    def put(self, packet: Packet) -> None:
        """Queue a packet, whether or not it fits."""
        self._packets.append(packet)
        self.size += packet.size
        self.queue.grew(self, packet.size)

    def take(self) -> Packet:
        """Remove the oldest packet and return it."""
        packet = self._packets.popleft()
        self.size -= packet.size
        self.queue.shrank(packet.size)
        return packet

    def clear(self) -> None:
        """Drop everything."""
        self._forget()
        self._freed(self.size)

    def drop_changes(self) -> Dropped | None:
        """Drop the changes, which the log still has, and all that waits behind the first of them.

        What is before it (a snapshot) is not in the log and stays.

        Returns:
            Where to read on from; None where no change waits.
        """
        # Everything behind the first change goes too, a ``live`` or ``mark`` as well: it would name a
        # position that the client has not reached.
        kept = list(takewhile(lambda packet: not packet.changes, self._packets))
        dropped = list(islice(self._packets, len(kept), None))
        if not dropped:
            return None
        self._packets = deque(kept)
        self._freed(sum(packet.size for packet in dropped))
        return Dropped(dropped[0].before, any(packet.is_control("live") for packet in dropped))

    def _freed(self, size: int) -> None:
        self.size -= size
        # An empty lane must not be served: there would be nothing to take.
        if not self.size:
            self.queue.delist(self)
        self.queue.shrank(size)

    def _forget(self) -> None:
        self._packets.clear()
