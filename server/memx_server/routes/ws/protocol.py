"""uvicorn's WebSocket protocol, able to send one frame to thousands of sockets, with bounds for what a peer sends.

ASGI makes every send encode, frame and copy the text again. Where the server runs with this protocol
(``ws=WireProtocol``), a connection's scope offers ``memx.wire``: a frame is made once and written as it is, and a peer
that is gone can be dropped at once. Under any other ASGI server memX uses ASGI's own ``send``.
"""

from __future__ import annotations

import itertools
import struct
import time
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.byte_budget import ByteBudget
from memx_server.domain.feed.messages import Message
from memx_server.routes.ws.turns import turns_of

EXTENSION = "memx.wire"

_WHOLE_TEXT = 0x81

_CONFIRMATION = b"memx"
"""Begins the payload of a ping whose pong confirms what was sent before it."""

_OPCODE = 0x0F
"""The bits of a frame's first byte that hold its opcode (RFC 6455, section 5.2)."""
_PONG = 0x0A

_REASON_BYTES = 123
"""What a close frame holds beside its code (RFC 6455, sections 5.5 and 5.5.1)."""

_CLOSE_READ_WITHIN = 1.0
"""Seconds that a peer gets to read what was sent before its connection was closed."""

_SMALL = 64 * 1024
"""Up to this size an unfinished message is not counted; so much a connection may hold anyway."""

_PART = 2048
"""Bytes that are parsed before the time is looked at; a frame takes six at the least."""
_SHARE = 0.002
"""Seconds of parsing after which other work of the process has its turn."""

_FRAGMENTS = 4096
"""Fragments of one message: each is an object, however little it carries."""


class MessageBounds(NamedTuple):
    """What an unfinished message of a peer may hold, and how long it may take.

    Attributes:
        budget: Counts what all unfinished messages of the process hold.
        space: The space of the peer's API key, in whose name they are counted.
        bytes: The longest message.
        seconds: From the first byte of a message to its last.
    """

    budget: ByteBudget
    space: str
    bytes: int
    seconds: float


class WireProtocol(WebSocketsSansIOProtocol):
    """Offers itself to the application as the extension ``memx.wire``.

    Attributes:
        on_writable: Called when the peer has read enough for more to be sent.
    """

    on_writable: Callable[[], None] | None = None
    _numbers = itertools.count()
    _closing: TimerHandle | None = None
    _pong: bytes | None = None
    _bounds: MessageBounds | None = None
    _counted = 0
    _deadline: TimerHandle | None = None
    _is_held = False

    def __init__(self, config: Any, server_state: Any, *args: Any, **options: Any) -> None:
        super().__init__(config, server_state, *args, **options)
        self._turns = turns_of(server_state, self.loop)
        # What has come and is not parsed yet.
        self._parts: deque[memoryview] = deque()
        # Pings that were not answered yet, in order: payload, and whom to call; None for uvicorn's own.
        self._pings: deque[tuple[bytes, Callable[[], None] | None]] = deque()
        # The fragments of the unfinished message that were counted already, and the bytes in them.
        self._fragments: list[bytes] = []
        self._fragments_counted = 0
        self._fragments_hold = 0

    def handle_connect(self, event: Any) -> None:
        """Start the application, with this protocol in its scope."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)  # absent where the handshake was refused
        if scope is None:
            return
        if self.conn.extensions:
            return  # compressed frames cannot be shared
        scope["extensions"][EXTENSION] = {"wire": self}
        # Until the application knows who connects, nothing more is read. `accept` reads on.
        self._is_held = True
        self.transport.pause_reading()

    def accept(self, bounds: MessageBounds) -> None:
        """Read on, once the handshake is complete; ``bounds`` hold for what the peer sends."""
        self._bounds = bounds
        # A message that is a little too long is still read, and answered; one that is far too long ends the connection.
        # websockets 17 renamed its bound; its changelog calls no attribute of a protocol public.
        renamed = hasattr(self.conn, "max_message_size")
        setattr(self.conn, "max_message_size" if renamed else "max_size", 2 * bounds.bytes)
        self._is_held = False
        self._read_on()

    def data_received(self, data: bytes) -> None:
        """Take the next piece of what the peer sends.

        A piece may hold thousands of small frames: pings, or fragments. It is parsed in parts, and when they have taken
        their share of the event loop's time, the rest waits for its turn, and nothing more is read meanwhile.
        """
        if self._parts:
            # It was read before the pause that `_parse_parts` has made took effect, or uvicorn has ended that.
            self._parts.append(memoryview(data))
            self.transport.pause_reading()
        elif len(data) <= _PART:
            self._parse(data)
        else:
            self._parts.append(memoryview(data))
            self._parse_parts()

    def _parse_parts(self) -> None:
        deadline = time.monotonic() + _SHARE
        while self._parts and not self.transport.is_closing():
            data = self._parts.popleft()
            # Within a large frame, parts are larger: the parser has little to do with them.
            size = _PART if len(self.conn.reader.buffer) < 2 * _PART else 4 * _PART
            if len(data) > size:
                self._parts.appendleft(data[size:])
            self._parse(bytes(data[:size]))
            if self._parts and time.monotonic() > deadline:
                self.transport.pause_reading()
                self._turns.wait(self._parse_on)
                return

    def _parse_on(self) -> None:
        """Go on with what was left of a piece; meanwhile nothing was read, so there is at most what came with it."""
        self._parse_parts()
        self._read_on()

    def _read_on(self) -> None:
        """Read on, unless there is something to parse, or for the application to take, or nobody to read for."""
        if self._parts or self._is_held or self.transport.is_closing():
            return
        if self.read_paused:  # by uvicorn, as it queued a message
            if not self.queue.empty():
                return
            self.read_paused = False
        self.transport.resume_reading()

    async def receive(self) -> Any:
        """Return the next message for the application, as uvicorn's own does but for the parts."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self._read_on()
        return message

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self._bounds is not None and not self.disconnected:
            self._check_unfinished(self._bounds)

    def _check_unfinished(self, bounds: MessageBounds) -> None:
        """Bound what an unfinished message holds, and the time until the rest of it comes."""
        # websockets keeps an unfinished frame in its reader, and uvicorn the finished fragments of a message.
        held = len(self.conn.reader.buffer)
        if not held and not self.frames:
            self._forget_unfinished()
            return
        held += self._held_by_fragments()
        if len(self.frames) > _FRAGMENTS:
            self._fail(1008, f"a message came in more than {_FRAGMENTS} fragments")
            return
        # Further bytes, and pings between fragments, move no deadline.
        if self._deadline is None:
            self._deadline = self.loop.call_later(bounds.seconds, self._expire, bounds)
        if held > max(_SMALL, self._counted):
            try:
                bounds.budget.take(bounds.space, held - self._counted)
            except ProtocolError as error:
                self._fail(1013, error.detail)
            else:
                self._counted = held

    def _held_by_fragments(self) -> int:
        # Each fragment is counted once, however often this is asked: uvicorn begins a new list with each message.
        if self.frames is not self._fragments:
            self._fragments = self.frames
            self._fragments_counted = self._fragments_hold = 0
        self._fragments_hold += sum(
            len(fragment) for fragment in self.frames[self._fragments_counted :]
        )
        self._fragments_counted = len(self.frames)
        return self._fragments_hold

    def _expire(self, bounds: MessageBounds) -> None:
        self._deadline = None
        if self.read_paused or self._parts:
            # It is this side that does not read: the application is behind, or others have their turns.
            self._deadline = self.loop.call_later(bounds.seconds, self._expire, bounds)
        else:
            self._fail(1008, f"a message took longer than {bounds.seconds:g} seconds to arrive")

    def _forget_unfinished(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._counted and self._bounds is not None:
            self._bounds.budget.give_back(self._bounds.space, self._counted)
            self._counted = 0

    def _fail(self, code: int, reason: str) -> None:
        """Close the connection for what the peer has sent, without waiting for its close frame."""
        self.frames = []
        self._forget_unfinished()
        self.conn.fail(code, reason.encode()[:_REASON_BYTES].decode(errors="ignore"))
        self.handle_parser_exception()
        self._drop_soon()

    def send_messages(self, messages: Iterable[Message]) -> bool:
        """Write text frames with one system call; dropped where the connection is closing.

        Returns:
            Whether more may be written now; if not, ``on_writable`` will be called.
        """
        # After a close frame nothing may follow (RFC 6455, section 5.5.1).
        if not (self.close_sent or self.transport.is_closing()):
            self.transport.write(b"".join([self._framed(message) for message in messages]))
        return self.writable.is_set()

    def confirm(self, received: Callable[[], None]) -> None:
        """Call ``received`` when the peer has read all that was sent until now.

        That is what the pong to a ping says that is sent behind it (RFC 6455, section 5.5.3): a peer
        whose program does not read has full buffers, and does not get to the ping. Nothing is called
        on a connection that closes.
        """
        if self.close_sent or self.transport.is_closing() or self.conn.state.name != "OPEN":
            return
        payload = _CONFIRMATION + struct.pack("!Q", next(self._numbers))
        self._pings.append((payload, received))
        self.conn.send_ping(payload)
        self.transport.write(b"".join(self.conn.data_to_send()))

    def send_keepalive_ping(self) -> None:
        """Send uvicorn's ping, and note its place among the others."""
        super().send_keepalive_ping()
        if self.pending_ping_payload is not None:
            self._pings.append((self.pending_ping_payload, None))

    def handle_pong(self, event: Any) -> None:
        """Take a pong; it stands for all pings before its own too, which a peer need not answer."""
        payload = bytes(event.data)
        if all(payload != sent for sent, _ in self._pings):
            return  # nobody asked for it
        keepalive = self.pending_ping_payload
        while True:
            sent, received = self._pings.popleft()
            if received is not None:
                received()
            elif sent == keepalive:
                event.data = keepalive
                super().handle_pong(event)
            if sent == payload:
                return

    @staticmethod
    def _framed(message: Message) -> bytes:
        # The first socket pays for the frame; thousands of others write the same bytes.
        if message.framed is None:
            message.framed = _header(len(message.text)) + message.text
        return message.framed

    def abort(self) -> None:
        """Close the connection at once, whatever the peer has not read."""
        self.transport.abort()

    def resume_writing(self) -> None:
        """The peer has read enough."""
        super().resume_writing()
        pong, self._pong = self._pong, None
        if pong is not None and not (self.close_sent or self.transport.is_closing()):
            self.transport.write(pong)
        if self.on_writable is not None:
            self.on_writable()

    def handle_ping(self) -> None:
        """Write the pong that websockets has made; for a peer that does not read, keep the newest alone.

        That is permitted (RFC 6455, section 5.5.3), and pongs could pile up without end otherwise.
        """
        frames = self.conn.data_to_send()
        if self.writable.is_set():
            self.transport.write(b"".join(frames))
            return
        for frame in frames:
            if frame and frame[0] & _OPCODE == _PONG:
                self._pong = frame
            else:
                self.transport.write(frame)

    def keepalive_timeout(self) -> None:
        """The peer answers no ping: it is gone, or it does not read."""
        super().keepalive_timeout()  # it writes a close frame and waits for the peer to read it
        self._drop_soon()

    def shutdown(self) -> None:
        """The server ends."""
        super().shutdown()
        self._drop_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self.on_writable = None
        self._parts.clear()
        self._pings.clear()
        self._forget_unfinished()
        if self._closing is not None:
            self._closing.cancel()
        super().connection_lost(exc)

    def _drop_soon(self) -> None:
        # A transport that is closed waits until its peer has read what was written; this one may never do so.
        if self._closing is None:
            self._closing = self.loop.call_later(_CLOSE_READ_WITHIN, self.transport.abort)


def _header(length: int) -> bytes:
    """The header of a text frame that is whole and not masked (RFC 6455, section 5.2)."""
    if length < 126:
        return bytes((_WHOLE_TEXT, length))
    if length < 1 << 16:
        return struct.pack("!BBH", _WHOLE_TEXT, 126, length)
    return struct.pack("!BBQ", _WHOLE_TEXT, 127, length)
