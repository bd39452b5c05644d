"""What subscribers are sent: each change rendered once, whoever gets it."""

from __future__ import annotations

from collections.abc import Sequence

from memx_sdk.protocol.cursors import Position, encode_cursor
from memx_server.storage.base import Change, Record

_EVENT_OVERHEAD = 64
"""Bytes that an event costs beside its text, so that a queue of small ones is bounded too."""


class Message:
    """One text frame.

    Attributes:
        text: Its JSON text, an object.
        framed: Where a transport may keep its encoding of it, so that all its sockets share one.
    """

    __slots__ = ("_label", "_labelled", "framed", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.framed: bytes | None = None
        self._label = b""
        self._labelled: Message | None = None

    def labelled(self, label: bytes) -> Message:
        """This message with ``label`` (such as ``{"sub":7,``) in place of its opening brace."""
        if self._labelled is None or self._label != label:
            self._label = label
            self._labelled = Message(label + self.text[1:])
        return self._labelled


class Event:
    """Something that subscribers are told.

    Attributes:
        kind: ``value``, ``schema``, ``presence``, ``live``, ``reset`` or ``mark``.
        key: The key or pattern that it is about; empty where it is about none.
        data: Its JSON text without a cursor.
        cursor: Where a reader stands after it; empty in what moves no one.
        bare: True for a new value that the log does not keep, so that ``data`` has no ``value``.
        change: True for a part of a transaction, which is complete only with the others.
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
            final: False where more of the same transaction follows: the client holds it back.
        """
        if final:
            if self._final is None:
                self._final = self._render(b',"cursor":"%s"}' % self.cursor.encode())
            return self._final
        if self._partial is None:
            self._partial = self._render(b',"more":true}')
        return self._partial

    def _render(self, ending: bytes) -> Message:
        if not self.cursor:
            return Message(self.data)
        return Message(b"".join((memoryview(self.data)[:-1], ending)))


class Packet:
    """What a subscriber gets of one transaction: queued, dropped and sent as a whole.

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
        """Whether it is a part of the log, and can be read again from there."""
        return self.events[0].change

    def says(self, kind: str) -> bool:
        """Tell whether it is the control message ``kind``."""
        return self.events[0].kind == kind

    def messages(self, label: bytes = b"") -> list[Message]:
        """Render it; nothing else of the same subscription may come between the frames."""
        if self._messages is None:
            last = next((event for event in reversed(self.events) if event.change), None)
            self._messages = [
                event.message(final=event is last or not event.change) for event in self.events
            ]
        if label:
            return [message.labelled(label) for message in self._messages]
        return self._messages


class Rendered:
    """A record of the log, ready to be sent; those who see the same part of it share a packet."""

    __slots__ = ("_cursor", "_events", "_packets", "before", "changes", "position")

    def __init__(self, record: Record, before: Position) -> None:
        self.changes: Sequence[Change] = record.changes or ()
        self.before = before
        self.position = record.position
        self._cursor = encode_cursor(record.position)
        self._events: dict[int, Event] = {}
        self._packets: dict[tuple[int, ...], Packet] = {}

    def packet(self, which: tuple[int, ...]) -> Packet:
        """The packet of the changes numbered ``which``."""
        packet = self._packets.get(which)
        if packet is None:
            events = [self._event(index) for index in which]
            packet = self._packets[which] = Packet(events, self.before, self.position)
        return packet

    def _event(self, index: int) -> Event:
        event = self._events.get(index)
        if event is None:
            change = self.changes[index]
            kind = "schema" if change.action == "schema" else "value"
            event = Event(kind, change.data, key=change.key, cursor=self._cursor, change=True)
            self._events[index] = event
        return event


def live(position: Position) -> Packet:
    """Says that what came before was the past, and names the present position."""
    return _control("live", b'{"event":"live"}', position)


def mark(position: Position) -> Packet:
    """Moves the cursor of a subscriber to whom nothing of late was addressed."""
    return _control("mark", b'{"event":"mark"}', position)


def reset(reason: str, position: Position) -> Packet:
    """Says that the log cannot serve the cursor: drop what you hold, a snapshot follows."""
    event = Event("reset", b'{"event":"reset","reason":"%s"}' % reason.encode())
    return Packet([event], position, position)


def _control(kind: str, data: bytes, position: Position) -> Packet:
    return Packet([Event(kind, data, cursor=encode_cursor(position))], position, position)
