"""One WebSocket from handshake to close, with a bounded send queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.feed.messages import Packet
from memx_server.domain.feed.send_queue import Lane, SendQueue
from memx_server.routes.api.errors import error_body, error_headers
from memx_server.routes.asgi import Receive, Scope, Send
from memx_server.routes.streaming.cancellation import Cancellation
from memx_server.routes.streaming.socket_writers import (
    SendPump,
    SocketWriter,
    TaskWriter,
    WireWriter,
)
from memx_server.routes.ws.protocol import EXTENSION, WireProtocol

PATIENCE = 30.0
"""Seconds that a peer may let a frame wait, under servers that cannot drop it by its pings."""
_GOODBYE = 1.0
"""Seconds that a peer gets to take the close frame."""

_REASON_BYTES = 123


class WebSocketConnection:
    """One WebSocket.

    Args:
        queue_bytes: What may wait to be sent.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, pump: SendPump, queue_bytes: int
    ) -> None:
        self._receive = receive
        self._send = send
        self._pump = pump
        extensions = scope.get("extensions") or {}
        self._denial = "websocket.http.response" in extensions
        self._wire: WireProtocol | None = extensions.get(EXTENSION, {}).get("wire")
        self._writer: SocketWriter | None = None
        self._ending = Cancellation()
        self._goodbye: tuple[int, str] | None = None
        self.send_queue = SendQueue(queue_bytes, self._wake)

    async def requested(self) -> None:
        """Take the peer's request for a handshake."""
        await self._receive()

    def fail(self, error: ProtocolError) -> None:
        """Close it for an error that the peer cannot be told otherwise."""
        self.close(1013 if error.code == "unavailable" else 4400, str(error))

    def close(self, code: int, reason: str) -> None:
        """Let ``serving`` end, and the socket with it."""
        if self._goodbye is None:
            self._goodbye = code, reason
            self._ending.cancel()

    async def refuse(self, error: ProtocolError) -> None:
        """Answer the handshake with an HTTP error."""
        if not self._denial:
            await self._send({"type": "websocket.close", "code": 4000 + error.status})
            return
        headers = [(b"content-type", b"application/json"), *error_headers(error)]
        await self._send(
            {
                "type": "websocket.http.response.start",
                "status": error.status,
                "headers": headers,
            }
        )
        await self._send({"type": "websocket.http.response.body", "body": error_body(error)})
        if self._wire is not None:
            self._wire.handshake_complete = True  # uvicorn would complain that nothing came of it

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Accept, and close at the end; ``close`` ends what runs inside."""
        await self._send({"type": "websocket.accept"})
        if self._wire is not None:
            self._writer = WireWriter(self._wire, self.send_queue, self._pump)
        else:
            self._writer = TaskWriter(
                self.send_queue,
                self._send_packet,
                patience=PATIENCE,
                given_up=lambda: self.close(1013, "the peer does not read"),
            )
        try:
            async with self._ending.awaited():
                yield
        finally:
            await self._writer.close()
            if self._goodbye is not None:
                await self._say_goodbye(*self._goodbye)

    async def frames(self) -> AsyncIterator[str | bytes]:
        """What the peer sends, until it is gone."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            yield message["bytes"] if text is None else text

    def _wake(self) -> None:
        if self._writer is not None:
            self._writer.wake()

    async def _send_packet(self, lane: Lane, packet: Packet) -> None:
        for message in packet.messages(lane.label):
            await self._send({"type": "websocket.send", "text": message.text.decode()})

    async def _say_goodbye(self, code: int, reason: str) -> None:
        farewell = {"type": "websocket.close", "code": code, "reason": _shortened(reason)}
        with suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await self._send(farewell)
                return
        if self._wire is not None:
            self._wire.abort()


def _shortened(reason: str) -> str:
    """What fits into a close frame."""
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore")
