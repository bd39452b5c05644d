"""``WS /subscribe/{key or pattern}``: one subscription on a socket of its own."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from urllib.parse import unquote_to_bytes

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.api.decoding import explain, read_query
from memx_server.routes.api.gateway import SUBSCRIBE, Gateway
from memx_server.routes.api.operation import Call
from memx_server.routes.asgi import Receive, Scope, Send
from memx_server.routes.streaming.socket_writers import SendPump
from memx_server.routes.streaming.stream import Stream, open_stream
from memx_server.routes.streaming.subscribe_request import SubscribeRequest
from memx_server.routes.ws.connection import WebSocketConnection

PREFIX = "/subscribe/"

_EXTENSIONS = frozenset({"since", "snapshot", "conflate"})
"""A client that names one of these understands more than the original's frames."""


class SubscribeEndpoint:
    """Serves sockets of one subscription each.

    Args:
        gateway: The way in.
        pump: Writes to the sockets of the process.
    """

    def __init__(self, gateway: Gateway, pump: SendPump) -> None:
        self._gateway = gateway
        self._pump = pump

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket from handshake to close."""
        feed = self._gateway.services.feed
        connection = WebSocketConnection(
            scope, receive, send, self._pump, feed.settings.queue_bytes
        )
        await connection.requested()

        # The subscription is opened before the handshake is answered: what refuses it can still become a status.
        async def open_one(call: Call, _count: int) -> list[tuple[Call, Stream]]:
            request, controls = read_subscribe_query(scope)
            lane = request.lane(connection.send_queue)
            stream = await open_stream(call, request, lane, connection.fail, controls=controls)
            return [(call, stream)]

        identify = partial(self._gateway.identify_connection, scope)
        (opened,) = await self._gateway.run((SUBSCRIBE,), identify, open_one)
        if isinstance(opened, ProtocolError):
            await connection.refuse(opened)
            return
        call, stream = opened
        async with aclosing(stream):
            await self._serve(connection, call, stream)

    async def _serve(self, connection: WebSocketConnection, call: Call, stream: Stream) -> None:
        with self._gateway.services.sessions.track(call.principal, connection.close):
            async with connection.serving(call):
                stream.start()
                async for _ in connection.frames():
                    pass  # the original takes frames and ignores them


def read_subscribe_query(scope: Scope) -> tuple[SubscribeRequest, bool]:
    """Read what is subscribed to, and whether the client understands control frames.

    Raises:
        ProtocolError: ``invalid_request`` with the ``field`` at fault.
    """
    query = read_query(scope["query_string"])
    # A client of memX 0.1.2 takes every frame for a value, so it is sent no others.
    controls = not _EXTENSIONS.isdisjoint(query)
    parameters = {**query, "pattern": _pattern(scope)}
    try:
        return msgspec.convert(parameters, SubscribeRequest, strict=False), controls
    except msgspec.ValidationError as error:
        raise explain(error, SubscribeRequest) from None


def _pattern(scope: Scope) -> str:
    """Take the pattern from the path, in which the server has replaced what is not UTF-8."""
    pattern: str = scope["path"].removeprefix(PREFIX)
    if "\ufffd" in pattern:
        try:
            unquote_to_bytes(scope.get("raw_path", b"")).decode()
        except UnicodeDecodeError:
            raise ProtocolError(
                "invalid_pattern",
                "the path is not UTF-8 after percent-decoding",
                field="pattern",
            ) from None
    return pattern
