"""``GET /changes`` as Server-Sent Events."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing, suppress
from functools import partial

import msgspec

from memx_sdk.protocol.cursors import decode_cursor
from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.feed.messages import Event, Packet
from memx_server.domain.feed.send_queue import Lane, SendQueue
from memx_server.routes.api.decoding import explain, read_query
from memx_server.routes.api.errors import error_body, error_headers
from memx_server.routes.api.gateway import SUBSCRIBE, Gateway
from memx_server.routes.api.operation import Call
from memx_server.routes.asgi import Receive, Scope, Send
from memx_server.routes.http.endpoint import HttpOperations
from memx_server.routes.http.response_writing import send_json
from memx_server.routes.streaming.cancellation import Cancellation
from memx_server.routes.streaming.socket_writers import TaskWriter
from memx_server.routes.streaming.stream import Stream, open_stream
from memx_server.routes.streaming.subscribe_request import SubscribeRequest

PATH = "/changes"

PATIENCE = 30.0
"""Seconds that a client may leave an event unread before its stream ends."""
COMMENT_EVERY = 15.0
"""Seconds of silence after which a comment shows that the stream lives."""
CONFLATED_EVERY = 0.1
"""Seconds between two packets of a conflated stream: nothing tells whether its client has read the one before."""
_RETRY_MS = 1000
_LAST_EVENT_WITHIN = 1.0
"""Seconds that the last event may take to be sent."""

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
_LINE_END = re.compile(rb"\r\n|\r|\n")


class EventsEndpoint:
    """Streams events to clients that accept them, and leaves all else to the operation.

    Args:
        gateway: The way in.
        plain: Answers requests for JSON.
    """

    def __init__(self, gateway: Gateway, plain: HttpOperations) -> None:
        self._gateway = gateway
        self._plain = plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] != "GET" or not _wants_events(scope):
            await self._plain(scope, receive, send)
            return
        services = self._gateway.services
        # The stream is opened before the response starts: what refuses it can still become a status.
        events = EventStream(send, services.feed.settings.queue_bytes)

        async def open_one(call: Call, _count: int) -> list[tuple[Call, Stream]]:
            request = read_events_request(scope)
            lane = request.lane(events.send_queue)
            return [(call, await open_stream(call, request, lane, events.fail, oldest=True))]

        identify = partial(self._gateway.identify_connection, scope)
        (opened,) = await self._gateway.run((SUBSCRIBE,), identify, open_one)
        if isinstance(opened, ProtocolError):
            await send_json(send, opened.status, error_body(opened), error_headers(opened))
            return
        call, stream = opened
        async with aclosing(stream):
            with services.sessions.track(call.principal, events.end):
                await events.run(receive, stream)


class EventStream:
    """One response of Server-Sent Events.

    Args:
        queue_bytes: What may wait to be sent.
    """

    def __init__(self, send: Send, queue_bytes: int) -> None:
        self.send_queue = SendQueue(queue_bytes, self._wake)
        self._send = send
        self._writer: TaskWriter | None = None
        self._cancellation = Cancellation()
        self._last_event: Event | None = None

    def end(self, _code: int, _reason: str) -> None:
        """Let the response end; the client connects again, and its API key is looked up anew."""
        self._cancellation.cancel()

    def fail(self, error: ProtocolError) -> None:
        """End the stream with an event that says why it cannot go on."""
        self._last_event = Event("end", b'{"event":"end",%b' % error_body(error)[1:])
        self._cancellation.cancel()

    async def run(self, receive: Receive, stream: Stream) -> None:
        """Send events until the client leaves or the stream ends."""
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        # The browser's pause before it connects again, in milliseconds.
        await self._write(b"retry: %d\n\n" % _RETRY_MS)
        self._writer = TaskWriter(
            self.send_queue,
            self._send_packet,
            patience=PATIENCE,
            given_up=self._cancellation.cancel,
            idle=self._comment,
            idle_after=COMMENT_EVERY,
            pace=CONFLATED_EVERY,
        )
        try:
            async with self._cancellation.awaited():
                stream.start()
                # The response ends with the connection, or with the cancellation.
                while (await receive())["type"] != "http.disconnect":
                    pass
        except asyncio.CancelledError:
            pass  # the server ends: the last event is still sent, and uvicorn gives it time for that
        finally:
            await self._writer.close()
            await self._finish()

    async def _finish(self) -> None:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LAST_EVENT_WITHIN):
                if self._last_event is not None:
                    await self._write(_rendered(self._last_event, self._last_event.data))
                await self._send({"type": "http.response.body", "body": b""})

    def _wake(self) -> None:
        if self._writer is not None:
            self._writer.wake()

    async def _send_packet(self, lane: Lane, packet: Packet) -> None:
        # A client that reconnects goes on from the last id that it has seen. So of a transaction's changes
        # only the last has an id: a client that saw half of them gets them all again.
        last = next((event for event in reversed(packet.events) if event.change), None)
        parts = [
            _rendered(event, message.text, with_id=event is last or not event.change)
            for event, message in zip(packet.events, packet.messages(lane.label), strict=True)
        ]
        await self._write(b"".join(parts))

    async def _comment(self) -> None:
        await self._write(b": still here\n\n")

    async def _write(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


def read_events_request(scope: Scope) -> SubscribeRequest:
    """Read what a stream is to carry.

    A client that reconnects sends ``Last-Event-ID`` (WHATWG HTML, section 9.2.3); it goes before ``since``.

    Raises:
        ProtocolError: ``invalid_request`` with the ``field`` at fault.
    """
    parameters = {"pattern": "*", **read_query(scope["query_string"])}
    for name, value in scope["headers"]:
        # Its ids are cursors of memX's. An empty one means that the client has seen none.
        if name == b"last-event-id" and value:
            parameters["since"] = _last_event_id(value.decode("latin-1"))
    try:
        return msgspec.convert(parameters, SubscribeRequest, strict=False)
    except msgspec.ValidationError as error:
        raise explain(error, SubscribeRequest) from None


def _last_event_id(text: str) -> str:
    """Return the cursor of a ``Last-Event-ID``; what is wrong with it is told by the name under which it was sent."""
    try:
        decode_cursor(text)
    except ProtocolError as error:
        raise ProtocolError(
            error.code,
            "the header Last-Event-ID holds no cursor that memX gave out; reconnect without it",
            field="last-event-id",
        ) from None
    return text


def _wants_events(scope: Scope) -> bool:
    return any(
        name == b"accept" and b"text/event-stream" in value.lower()
        for name, value in scope["headers"]
    )


def _rendered(event: Event, text: bytes, *, with_id: bool = True) -> bytes:
    """Write one event in the format of event streams."""
    return b"%bevent: %b\ndata: %b\n\n" % (
        b"id: %b\n" % event.cursor.encode() if with_id and event.cursor else b"",
        event.kind.encode(),
        _LINE_END.sub(b"\ndata: ", text),
    )
