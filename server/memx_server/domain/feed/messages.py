"""The messages to subscribers: each is rendered once and shared by all who get it."""

from __future__ import annotations

from collections.abc import Sequence

from memx_sdk.protocol.cursors import Position, encode_cursor
from memx_server.domain.access import kind_of
from memx_server.storage.base import Change, Record

_EVENT_OVERHEAD = 64
"""Bytes that an event costs beside its text, so that a queue of small ones is bounded too."""


class Message:
    """One text frame.

    Attributes:
        text: Its JSON text, an object.
        framed: The frame that a transport has made of it, kept for all its sockets; None before.
    """

    __slots__ = ("_label", "_labelled", "framed", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.framed: bytes | None = None
        self._label = b""
        self._labelled: Message | None = None

    def labelled(self, label: bytes) -> Message:
        """Return this message with ``label`` (such as ``{"sub":7,``) in place of its opening brace.

        The last label is remembered: the subscriptions of many sockets mostly have the same number.
        """
        if self._labelled is None or self._label != label:
            self._label = label
            self._labelled = Message(label + self.text[1:])
        return self._labelled


class Event:
    """One event for subscribers.

    Attributes:
        kind: ``value``, ``schema``, ``presence``, ``live``, ``reset`` or ``mark``.
        key: The key or pattern that it is about; empty where it is about none.
        data: Its JSON text without a cursor.
        cursor: Where a reader stands after it; empty where it moves no reader (a snapshot's).
        bare: True for a new value that the log does not keep, so that ``data`` has no ``value``.
        change: True for a change of the log, which is complete only with the others of its
            transaction.
        size: Bytes that it counts for in a queue.
    """

    __slots__ = ("_final", "_partial", "bare", "change", "cursor", "data", "key", "kind", "size")

    def __init__(
        self, kind: str, data: bytes, *, key: str = "", cursor: str = "", change: bool = False
    ) -> None:
        self.kind = kind
        self.key = key
        self.data = data
        self.cursor = cursor
        self.change = change
        self.size = len(data) + _EVENT_OVERHEAD
        # Within a string the quotes would be escaped: these bytes can only be the member's name.
        self.bare = kind == "value" and b',"value":' not in data
        self._final: Message | None = None
        self._partial: Message | None = None

    def message(self, *, final: bool) -> Message:
        """Render it.

        Args:
            final: False where more of the same transaction follows. Such a message has
                ``"more":true`` in place of the cursor, and the client holds it back.
        """
        if final:
            if self._final is None:
                self._final = self._render(b',"cursor":"%s"}' % self.cursor.encode())
            return self._final
        if self._partial is None:
            self._partial = self._render(b',"more":true}')
        return self._partial

    def _render(self, last_member: bytes) -> Message:
        if not self.cursor:
            return Message(self.data)
        return Message(b"".join((memoryview(self.data)[:-1], last_member)))


class Packet:
    """The events that a subscriber gets of one transaction, or one control message.

    It is queued, dropped and sent as a whole, so that no transaction is seen in part.

    Attributes:
        before: Where a reader stands who has not got it.
        position: Where a reader stands who has.
        size: Bytes that it counts for in a queue.
        bare: Whether it has a new value that the log does not keep.
    """

    __slots__ = ("_messages", "bare", "before", "events", "position", "size")

    def __init__(self, events: Sequence[Event], before: Position, position: Position) -> None:
        self.events = events
        self.before = before
        self.position = position
        self.size = sum(event.size for event in events)
        self.bare = any(event.bare for event in events)
        self._messages: list[Message] | None = None

    @property
    def changes(self) -> bool:
        """Whether it holds changes of the log, which can be read again from there."""
        return self.events[0].change

    def is_control(self, kind: str) -> bool:
        """Tell whether it is the control message ``kind``."""
        return self.events[0].kind == kind

    def messages(self, label: bytes = b"") -> list[Message]:
        """Render it; no other message of the same subscription may come between these."""
        if self._messages is None:
            # The last change carries the cursor; those before it say that more follows. A client that
            # loses its connection in between resumes before the transaction, and gets it whole.
            last = next((event for event in reversed(self.events) if event.change), None)
            self._messages = [
                event.message(final=event is last or not event.change) for event in self.events
            ]
        if label:
            return [message.labelled(label) for message in self._messages]
        return self._messages


class Rendered:
    """A record of the log, ready to be sent; audiences that see the same part share a packet."""

    __slots__ = ("_cursor", "_events", "_packets", "before", "changes", "position")

    def __init__(self, record: Record, before: Position) -> None:
        self.changes: Sequence[Change] = record.changes or ()
        self.before = before
        self.position = record.position
        self._cursor = encode_cursor(record.position)
        self._events: dict[int, Event] = {}
        self._packets: dict[tuple[int, ...], Packet] = {}

    def packet(self, which: tuple[int, ...]) -> Packet:
        """Return the packet of the changes with the indices ``which``."""
        packet = self._packets.get(which)
        if packet is None:
            # Audiences that see other parts share the events, and so the rendered bytes.
            events = [self._event(index) for index in which]
            packet = self._packets[which] = Packet(events, self.before, self.position)
        return packet

    def _event(self, index: int) -> Event:
        event = self._events.get(index)
        if event is None:
            change = self.changes[index]
            event = Event(
                kind_of(change), change.data, key=change.key, cursor=self._cursor, change=True
            )
            self._events[index] = event
        return event


def live(position: Position) -> Packet:
    """Make the message that the past has been sent and that live events follow."""
    return _control("live", b'{"event":"live"}', position)


def mark(position: Position) -> Packet:
    """Make the message that moves a client's cursor to ``position`` without a change for it."""
    return _control("mark", b'{"event":"mark"}', position)


def reset(reason: str, position: Position) -> Packet:
    """Make the message that the log cannot serve the cursor.

    The client drops the state that it holds; a snapshot follows.

    Args:
        reason: ``compacted`` or ``diverged``.
        position: The position of the hub.
    """
    event = Event("reset", b'{"event":"reset","reason":"%s"}' % reason.encode())
    return Packet([event], position, position)


def _control(kind: str, data: bytes, position: Position) -> Packet:
    return Packet([Event(kind, data, cursor=encode_cursor(position))], position, position)
