"""One WebSocket from handshake to close, with a bounded outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.feed_messages import Packet
from memx_server.domain.feed_outbox import Lane, Outbox
from memx_server.routes.websocket_protocol import EXTENSION, WireProtocol
from memx_server.routes.writers import Pump, TaskWriter, WireWriter, Writer

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PATIENCE = 30.0
"""Seconds that a peer may let a frame wait, under servers that cannot drop it by its pings."""
_GOODBYE = 1.0
"""Seconds that a peer gets to take the close frame."""


class Connection:
    """One WebSocket.

    Args:
        queue_bytes: What may wait to be sent.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, pump: Pump, queue_bytes: int
    ) -> None:
        self._receive = receive
        self._send = send
        self._pump = pump
        self._denial = "websocket.http.response" in scope["extensions"]
        self._wire: WireProtocol | None = scope["extensions"].get(EXTENSION, {}).get("wire")
        self._writer: Writer | None = None
        self._serving: asyncio.Timeout | None = None
        self._goodbye: tuple[int, str] | None = None
        self.outbox = Outbox(queue_bytes, self._wake)

    def close(self, code: int, reason: str) -> None:
        """Let ``serving`` end, and the socket with it."""
        if self._goodbye is None:
            self._goodbye = code, reason
            if self._serving is not None:
                self._serving.reschedule(asyncio.get_running_loop().time())

    async def refuse(self, error: ProtocolError) -> None:
        """Answer the handshake with an HTTP error."""
        if not self._denial:
            await self._send({"type": "websocket.close", "code": 4000 + error.status})
            return
        headers = [(b"content-type", b"application/json")]
        if error.code == "unauthenticated":
            headers.append((b"www-authenticate", b"Bearer"))
        if "retry_after" in error.extra:
            headers.append((b"retry-after", b"%d" % error.extra["retry_after"]))
        await self._send(
            {
                "type": "websocket.http.response.start",
                "status": error.status,
                "headers": headers,
            }
        )
        body = msgspec.json.encode(error.as_dict())
        await self._send({"type": "websocket.http.response.body", "body": body})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Accept, and close at the end; ``close`` ends what runs inside."""
        await self._send({"type": "websocket.accept"})
        if self._wire is not None:
            self._writer = WireWriter(self._wire, self.outbox, self._pump)
        else:
            self._writer = TaskWriter(
                self.outbox,
                self._send_packet,
                patience=PATIENCE,
                given_up=lambda: self.close(1013, "the peer does not read"),
            )
        try:
            with self._expecting_close():
                async with asyncio.timeout(None) as self._serving:
                    if self._goodbye is not None:
                        self._serving.reschedule(0)
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

    @contextmanager
    def _expecting_close(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            if self._serving is None or not self._serving.expired():
                raise

    async def _send_packet(self, lane: Lane, packet: Packet) -> None:
        for message in packet.messages(lane.label):
            await self._send({"type": "websocket.send", "text": message.text.decode()})

    async def _say_goodbye(self, code: int, reason: str) -> None:
        farewell = {"type": "websocket.close", "code": code, "reason": reason}
        with suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await self._send(farewell)
                return
        if self._wire is not None:
            self._wire.abort()
