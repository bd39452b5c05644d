"""uvicorn's WebSocket protocol, able to send one frame to thousands of sockets.

ASGI makes every send encode, frame and copy the text again. Where the server runs with this
protocol (``ws=WireProtocol``), a connection's scope offers ``memx.wire``: a frame is made once and
written as it is, and a peer that is gone can be dropped at once. Under any other ASGI server memX
uses ASGI's own ``send``.
"""

from __future__ import annotations

import struct
from asyncio import TimerHandle
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from memx_server.domain.feed.messages import Message

EXTENSION = "memx.wire"

_WHOLE_TEXT = 0x81

_LAST_WORDS = 1.0
"""Seconds that a peer gets to read what was sent before its connection was closed."""


class WireProtocol(WebSocketsSansIOProtocol):
    """Offers itself to the application as the extension ``memx.wire``.

    Attributes:
        on_writable: Called when the peer has read enough for more to be sent.
    """

    on_writable: Callable[[], None] | None = None
    _dropping: TimerHandle | None = None

    def handle_connect(self, event: Any) -> None:
        """Start the application, with this protocol in its scope."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)  # absent where the handshake was refused
        if scope is not None and not self.conn.extensions:  # compressed frames cannot be shared
            scope["extensions"][EXTENSION] = {"wire": self}

    def send_messages(self, messages: Iterable[Message]) -> bool:
        """Write text frames with one system call; dropped where the connection is closing.

        Returns:
            Whether more may be written now; if not, ``on_writable`` will be called.
        """
        if not (self.close_sent or self.transport.is_closing()):
            self.transport.write(b"".join([self._framed(message) for message in messages]))
        return self.writable.is_set()

    @staticmethod
    def _framed(message: Message) -> bytes:
        if message.framed is None:
            message.framed = _header(len(message.text)) + message.text
        return message.framed

    def abort(self) -> None:
        """Close the connection at once, whatever the peer has not read."""
        self.transport.abort()

    def resume_writing(self) -> None:
        """The peer has read enough."""
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    def keepalive_timeout(self) -> None:
        """The peer answers no ping: it is gone, or it does not read."""
        super().keepalive_timeout()
        self._drop_soon()

    def shutdown(self) -> None:
        """The server ends."""
        super().shutdown()
        self._drop_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self.on_writable = None
        if self._dropping is not None:
            self._dropping.cancel()
        super().connection_lost(exc)

    def _drop_soon(self) -> None:
        # A transport that is closed waits for its peer to read; this one may never do so.
        if self._dropping is None:
            self._dropping = self.loop.call_later(_LAST_WORDS, self.transport.abort)


def _header(length: int) -> bytes:
    """The header of a text frame that is whole and not masked (RFC 6455, section 5.2)."""
    if length < 126:
        return bytes((_WHOLE_TEXT, length))
    if length < 1 << 16:
        return struct.pack("!BBH", _WHOLE_TEXT, 126, length)
    return struct.pack("!BBQ", _WHOLE_TEXT, 127, length)
