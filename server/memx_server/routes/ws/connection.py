"""One WebSocket, from handshake to close, with its bounded send queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.feed.messages import Packet
from memx_server.domain.feed.send_queue import Lane, SendQueue
from memx_server.routes.api.errors import error_body, error_headers
from memx_server.routes.api.operation import Call
from memx_server.routes.asgi import Receive, Scope, Send
from memx_server.routes.streaming.cancellation import Cancellation
from memx_server.routes.streaming.socket_writers import (
    SendPump,
    SocketWriter,
    TaskWriter,
    WireWriter,
)
from memx_server.routes.ws.protocol import EXTENSION, MessageBounds, WireProtocol

PATIENCE = 30.0
"""Seconds that a peer may leave a frame unread, under servers without ``memx.wire``, which drops it by its pings."""
_CLOSE_WITHIN = 1.0
"""Seconds that a peer gets to take the close frame."""

_REASON_BYTES = 123
"""What a close frame holds beside its code (RFC 6455, sections 5.5 and 5.5.1)."""


class WebSocketConnection:
    """One WebSocket.

    Args:
        scope: The handshake.
        receive: ASGI's.
        send: ASGI's.
        pump: Writes to the sockets of the process.
        queue_bytes: What may wait to be sent.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, pump: SendPump, queue_bytes: int
    ) -> None:
        self._receive = receive
        self._send = send
        self._pump = pump
        self._scope = scope
        self._wire = _wire_of(scope)
        self._writer: SocketWriter | None = None
        self._cancellation = Cancellation()
        self._close_frame: tuple[int, str] | None = None
        self.send_queue = SendQueue(queue_bytes, self._wake)

    async def requested(self) -> None:
        """Take the peer's request for a handshake; it comes before everything else."""
        await self._receive()

    def fail(self, error: ProtocolError) -> None:
        """Close the connection for an error that no frame can carry."""
        self.close(1013 if error.code == "unavailable" else 4400, str(error))

    def close(self, code: int, reason: str) -> None:
        """Let ``serving`` end, and the socket with it."""
        # The first reason counts: a revoked key's is not replaced by that of the server's end.
        if self._close_frame is None:
            self._close_frame = code, reason
            self._cancellation.cancel()

    async def refuse(self, error: ProtocolError) -> None:
        """Answer the handshake with an HTTP error."""
        await refuse_handshake(self._scope, self._send, error)

    @asynccontextmanager
    async def serving(self, call: Call) -> AsyncIterator[None]:
        """Accept the handshake of a caller, and close the socket at the end; ``close`` ends what runs inside."""
        await self._send({"type": "websocket.accept"})
        # Nothing is queued for the socket before it has a writer: subscriptions start inside this context.
        if self._wire is not None:
            services = call.services
            limits, seconds = services.settings.limits, services.settings.body_timeout
            self._wire.accept(
                MessageBounds(services.bodies, call.space, limits.body_bytes, seconds)
            )
            self._writer = WireWriter(self._wire, self.send_queue, self._pump)
        else:
            self._writer = TaskWriter(
                self.send_queue,
                self._send_packet,
                patience=PATIENCE,
                given_up=lambda: self.close(1013, "the peer does not read"),
            )
        try:
            async with self._cancellation.awaited():
                yield
        finally:
            # The writer first: a close frame must be the last frame, and not be sent between two others.
            await self._writer.close()
            if self._close_frame is not None:
                await self._send_close(*self._close_frame)

    async def sent(self) -> None:
        """Return when the peer has taken so much of what was queued that more may be."""
        await self.send_queue.drain()
        # What has left the queue may still lie in the transport.
        if self._wire is not None:
            await self._wire.writable.wait()

    async def frames(self) -> AsyncIterator[str | bytes]:
        """Yield what the peer sends, until it is gone."""
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

    async def _send_close(self, code: int, reason: str) -> None:
        closing = {"type": "websocket.close", "code": code, "reason": _shortened(reason)}
        with suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN):
                await self._send(closing)
                return
        # The peer reads nothing, not even the close frame.
        if self._wire is not None:
            self._wire.abort()


def _shortened(reason: str) -> str:
    """Cut a reason to what fits into a close frame."""
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore")


async def refuse_handshake(scope: Scope, send: Send, error: ProtocolError) -> None:
    """Answer a handshake with an HTTP error, or with a close code where the server cannot do that."""
    if "websocket.http.response" not in _extensions(scope):
        await send({"type": "websocket.close", "code": 4000 + error.status})
        return
    headers = [(b"content-type", b"application/json"), *error_headers(error)]
    await send(
        {"type": "websocket.http.response.start", "status": error.status, "headers": headers}
    )
    await send({"type": "websocket.http.response.body", "body": error_body(error)})
    wire = _wire_of(scope)
    if wire is not None:
        # uvicorn marks only accepted handshakes as complete, and logs an error for all others.
        wire.handshake_complete = True


def _wire_of(scope: Scope) -> WireProtocol | None:
    wire: WireProtocol | None = _extensions(scope).get(EXTENSION, {}).get("wire")
    return wire


def _extensions(scope: Scope) -> dict[str, Any]:
    return scope.get("extensions") or {}
