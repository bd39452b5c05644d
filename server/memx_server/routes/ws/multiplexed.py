"""``WS /ws``: every operation, and many subscriptions, over one socket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any

import msgspec

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.errors import ProtocolError
from memx_server import __version__
from memx_server.domain.feed.messages import Event, Packet
from memx_server.domain.feed.send_queue import Lane
from memx_server.domain.requests import ChangesRequest
from memx_server.routes.api.credentials import read_idempotency_key
from memx_server.routes.api.errors import unexpected
from memx_server.routes.api.identity import identify
from memx_server.routes.api.operation import Call, Operation
from memx_server.routes.http.endpoint import Receive, Scope, Send
from memx_server.routes.streaming.socket_writers import SendPump
from memx_server.routes.streaming.stream import Stream, open_stream
from memx_server.routes.streaming.subscribe_request import SubscribeRequest
from memx_server.routes.ws import frames
from memx_server.routes.ws.connection import WebSocketConnection
from memx_server.routes.ws.read_batches import ReadBatch
from memx_server.routes.ws.write_pipeline import SocketWrite, WritePipeline, run_together, straight
from memx_server.services import Services

PATH = "/ws"

IN_FLIGHT = 192
"""Requests of one socket that are worked on at the same time; more wait unread."""

READS_SIDE_BY_SIDE = 48
"""Of these, reads that are each a question to the store of their own: what many large answers hold
outgrows the processor's cache, and the store has enough to do with so many."""

_PACKET_BYTES = 32 * 1024
"""Up to this length answers that are ready together are queued as one."""

_NOWHERE = Position("", 0)


class SocketEndpoint:
    """Serves multiplexed sockets."""

    def __init__(self, services: Services, pump: SendPump) -> None:
        self._services = services
        self._pump = pump

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket from handshake to close."""
        services = self._services
        limit = services.feed.settings.queue_bytes
        connection = WebSocketConnection(scope, receive, send, self._pump, limit)
        await connection.requested()
        try:
            call = await identify(scope, services)
        except ProtocolError as error:
            await connection.refuse(error)
            return
        session = MultiplexedSocket(connection, call)
        try:
            with services.sessions.track(call.principal, connection.close):
                async with connection.serving():
                    await session.run()
        finally:
            await session.close()


class MultiplexedSocket:
    """One multiplexed socket: its requests in flight and its subscriptions.

    Reads run side by side and are answered as they end; writes happen in the order in which they
    were sent.
    """

    def __init__(self, connection: WebSocketConnection, call: Call) -> None:
        self._connection = connection
        self._call = call
        self._answers = Lane(connection.outbox, urgent=True)
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)
        self._side_by_side = asyncio.Semaphore(READS_SIDE_BY_SIDE)
        schemas = call.services.schemas
        self._writes = WritePipeline(self._write, straight, partial(schemas.cached, call.space))
        self._gathered = ReadBatch(call, self._send_all, self._release)
        self._reads: set[asyncio.Task[Any]] = set()
        self._numbers = itertools.count(1)
        self._streams: dict[int, Stream] = {}
        self._body_limit = call.services.settings.limits.body_bytes

    async def run(self) -> None:
        """Serve until the peer leaves."""
        self._send(self._hello())
        async for text in self._connection.frames():
            data = text.encode() if isinstance(text, str) else text
            await self._take(data)
            # A peer that does not read its answers is not read either.
            await self._connection.outbox.drain()

    async def close(self) -> None:
        """End what the socket has begun; writes run to their end, since they may have happened."""
        for task in self._reads:
            task.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)
        for stream in self._streams.values():
            await stream.aclose()
        self._streams.clear()

    async def _take(self, text: bytes) -> None:
        id: frames.Id | None = None
        try:
            self._check_size(text)
            head = frames.read_head(text)
            id = head.id
            request = frames.read_request(head, text)
            operation = frames.BY_NAME.get(head.op)
            if operation is not None:
                await self._in_flight.acquire()
                self._begin(id, operation, request)
            elif isinstance(request, SubscribeRequest):
                await self._subscribe(id, request)
            elif head.op == "unsubscribe":
                await self._unsubscribe(id, request.sub)
            else:
                self._send(frames.plain_answer(id))
        except ProtocolError as error:
            self._send(frames.error_answer(id, error))
        except Exception as error:  # noqa: BLE001 - one bad request must not cost the others
            self._send(frames.error_answer(id, unexpected(error)))

    def _check_size(self, text: bytes) -> None:
        if len(text) > self._body_limit:
            raise ProtocolError(
                "too_large",
                f"the frame is longer than {self._body_limit} bytes",
                field="frame",
                limit="body_bytes",
            )

    def _call_of(self, request: Any) -> Call:
        key: str | None = getattr(request, "idempotency_key", None)
        call = self._call
        if key is None:
            return call
        return Call(
            call.principal, call.agent, read_idempotency_key(key.encode()), services=call.services
        )

    def _begin(self, id: frames.Id, operation: Operation, request: Any) -> None:
        if self._call.services.rates is None and self._gathered.takes(request):
            self._keep(self._gathered.add(id, request.key))
            return
        try:
            call = self._call_of(request)
        except ProtocolError:
            self._release()
            raise
        if call.idempotency_key is not None:
            request = frames.without_envelope(request)
        asked = SocketWrite(id, operation, call, request)
        if operation.writes:
            self._writes.add(asked)
        else:
            self._keep(asyncio.create_task(self._read(asked)))

    def _keep(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None:
            self._reads.add(task)
            task.add_done_callback(self._reads.discard)

    def _release(self, count: int = 1) -> None:
        for _ in range(count):
            self._in_flight.release()

    async def _read(self, asked: SocketWrite) -> None:
        if isinstance(asked.request, ChangesRequest) and asked.request.wait:
            await self._answered(*asked)  # it holds nothing while it waits, perhaps for long
            return
        async with self._side_by_side:
            await self._answered(*asked)

    async def _write(self, asked: Sequence[SocketWrite]) -> bool:
        """Run writes and answer them; tell whether the store answered."""
        if len(asked) == 1:
            return await self._answered(*asked[0])
        try:
            return await run_together(asked, self._send_all)
        finally:
            self._release(len(asked))

    async def _answered(
        self, id: frames.Id, operation: Operation, call: Call, request: msgspec.Struct
    ) -> bool:
        """Run a request and answer it; tell whether the store answered."""
        begun, outcome = perf_counter(), "client_gone"
        call.services.presence.seen(call)
        try:
            await self._admit()
            answer = await operation.run(call, request)
        except ProtocolError as error:
            outcome = error.code
            self._send(frames.error_answer(id, error))
            return error.code != "unavailable"
        except Exception as error:  # noqa: BLE001 - nobody else is there to turn it into an answer
            outcome = "internal"
            self._send(frames.error_answer(id, unexpected(error)))
            return False
        else:
            outcome = "ok"
            self._send(frames.answer(id, operation, answer))
            return True
        finally:
            self._release()
            call.services.requests.count(operation.name, outcome, perf_counter() - begun)

    async def _admit(self) -> None:
        rates = self._call.services.rates
        if rates is not None:
            await rates.admit(self._call.principal)

    async def _subscribe(self, id: frames.Id, request: SubscribeRequest) -> None:
        await self._admit()
        limit = self._call.services.settings.limits.subscriptions
        if len(self._streams) >= limit:
            raise ProtocolError(
                "quota_exceeded",
                f"this socket has {limit} subscriptions, which is the limit; unsubscribe from some, "
                "use a pattern, or open another socket",
                limit="subscriptions",
            )
        number = next(self._numbers)
        lane = request.lane(self._connection.outbox, b'{"sub":%d,' % number)
        failed = partial(self._failed, number, lane)
        stream = self._streams[number] = await open_stream(self._call, request, lane, failed)
        self._send(frames.plain_answer(id, sub=number))
        stream.start()

    async def _unsubscribe(self, id: frames.Id, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            raise ProtocolError(
                "not_found", f"this socket has no subscription {number}", field="sub"
            )
        await stream.aclose()
        self._send(frames.plain_answer(id, sub=number))

    def _failed(self, number: int, lane: Lane, error: ProtocolError) -> None:
        """A subscription cannot go on; its number stays taken until the client lets go of it."""
        event = Event("end", frames.end_of(error))
        lane.put(Packet([event], _NOWHERE, _NOWHERE))

    def _send(self, text: bytes) -> None:
        self._send_all([text])

    def _send_all(self, texts: Sequence[bytes]) -> None:
        events = [Event("answer", text) for text in texts]
        if sum(map(len, texts)) > _PACKET_BYTES:
            for event in events:
                self._answers.put(Packet([event], _NOWHERE, _NOWHERE))
        else:
            self._answers.put(Packet(events, _NOWHERE, _NOWHERE))

    def _hello(self) -> bytes:
        principal = self._call.principal
        return msgspec.json.encode(
            {
                "event": "hello",
                "version": __version__,
                "principal": principal.name,
                "agent": self._call.agent,
                "space": principal.space,
                "limits": self._call.services.settings.limits.as_dict(),
            }
        )
