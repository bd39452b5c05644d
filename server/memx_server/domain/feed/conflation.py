"""The lane of a subscription that wants the state and not its history."""

from __future__ import annotations

from memx_sdk.protocol.cursors import Position
from memx_server.domain.feed.messages import Event, Packet, live, mark
from memx_server.domain.feed.send_queue import Dropped, Lane, SendQueue

_STANDINGS = ("", "mark", "live")
"""The control messages that name a position, the stronger one last; of several only that is kept."""


class ConflatingLane(Lane):
    """A lane that keeps only the newest event of each key.

    Everything that waits is taken as one packet, so that the client steps from one state that the
    space was in to another one.

    Only what waits here can be merged. Written as fast as the transport takes it, thousands of events
    would lie in the buffers of both kernels and of the client, and a slow client would get every one
    of them, minutes late. So the lane is paced: one packet is on its way, and all that happens
    meanwhile is merged into the next one.
    """

    __slots__ = ("_before", "_events", "_position", "_reset", "_standing")

    paced = True

    def __init__(self, queue: SendQueue, label: bytes = b"") -> None:
        super().__init__(queue, label)
        self._events: dict[tuple[str, str], Event] = {}
        self._reset: Event | None = None
        self._standing = ""
        # Where the first change that waits begins, and where the last one ends.
        self._before: Position | None = None
        self._position: Position | None = None

    def put(self, packet: Packet) -> None:
        """Queue the packet's events in place of older ones of the same keys."""
        # If the lane overflows, the log is read again from where the first of its changes begins.
        if self._before is None and packet.changes:
            self._before = packet.before
        self._position = packet.position
        growth = sum(self._place(event) for event in packet.events)
        self.size += growth
        self.queue.grew(self, growth)

    def take(self) -> Packet:
        """Remove everything and return it as one packet."""
        assert self._position is not None
        events = [self._reset] if self._reset else []
        events += self._events.values()
        if self._standing == "live":
            events += live(self._position).events
        elif self._standing == "mark" and not self._events:
            events += mark(self._position).events  # with events, the last one names the position
        packet = Packet(events, self._before or self._position, self._position)
        freed, self.size = self.size, 0
        self._forget()
        self.queue.shrank(freed)
        return packet

    def drop_changes(self) -> Dropped | None:
        """Drop the changes, which the log still has; a snapshot's events and a reset stay."""
        if self._before is None:
            return None
        dropped = Dropped(self._before, self._standing == "live")
        # A snapshot's events are not in the log. A newer change may have taken the place of one: then
        # it comes again from the log, as the newest value of its key.
        kept = [event for event in self._events.values() if not event.change]
        reset = self._reset
        self._forget()
        self._reset, self._position = reset, dropped.start
        self._events = {(event.kind, event.key): event for event in kept}
        self._freed(self.size - sum(event.size for event in ([reset] if reset else []) + kept))
        return dropped

    def _place(self, event: Event) -> int:
        """Put an event into its place and return by how many bytes the lane has grown."""
        if event.kind == "reset":
            self._reset = event
            return event.size
        if event.kind in _STANDINGS:
            # Its position is not kept: the packet's own, which is later, takes its place.
            known = self._standing
            self._standing = max(known, event.kind, key=_STANDINGS.index)
            return 0 if known else event.size
        name = (event.kind, event.key)
        # Taken out first, so that the newest event of all is the last one of the packet.
        older = self._events.pop(name, None)
        self._events[name] = event
        return event.size - (older.size if older else 0)

    def _forget(self) -> None:
        self._events = {}
        self._reset = None
        self._standing = ""
        self._before = self._position = None
