"""``WS /ws``: every operation, and many subscriptions, over one socket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.errors import ProtocolError
from memx_server import __version__
from memx_server.domain.byte_budget import LARGE_RESPONSE
from memx_server.domain.feed.messages import Event, Packet
from memx_server.domain.feed.send_queue import Lane
from memx_server.domain.requests import ChangesRequest
from memx_server.routes.api.decoding import read_durability, read_idempotency_key
from memx_server.routes.api.gateway import HANDSHAKE, SUBSCRIBE, Gateway
from memx_server.routes.api.operation import Call, Operation
from memx_server.routes.asgi import Receive, Scope, Send
from memx_server.routes.streaming.socket_writers import SendPump
from memx_server.routes.streaming.stream import Stream, open_stream
from memx_server.routes.streaming.subscribe_request import SubscribeRequest
from memx_server.routes.ws import frames
from memx_server.routes.ws.connection import WebSocketConnection
from memx_server.routes.ws.frames import SocketRequest
from memx_server.routes.ws.read_batches import ReadBatch
from memx_server.routes.ws.write_pipeline import WritePipeline, overlap_of

PATH = "/ws"

IN_FLIGHT = 192
"""Requests of one socket that are worked on at the same time; more wait unread."""

READS_SIDE_BY_SIDE = 48
"""Of these, reads that each call the store: many large responses together outgrow the processor's cache,
and so many keep the store busy."""

_ANSWERED_A_TURN = 16
"""Frames of one socket that are answered at once before other work of the process has its turn."""

_PACKET_BYTES = 32 * 1024
"""Up to this length responses that are ready together are queued as one."""

_NOWHERE = Position("", 0)

_STORE_FAILED = frozenset({"unavailable", "internal"})
"""Errors after which the store may have to be prepared anew."""

_UNKNOWN = "unknown"
"""Stands in the counters for the operation of a frame that names none."""


class SocketEndpoint:
    """Serves multiplexed sockets.

    Args:
        gateway: The way in.
        pump: Writes to the sockets of the process.
    """

    def __init__(self, gateway: Gateway, pump: SendPump) -> None:
        self._gateway = gateway
        self._pump = pump

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket from handshake to close."""
        services = self._gateway.services
        limit = services.feed.settings.queue_bytes
        connection = WebSocketConnection(scope, receive, send, self._pump, limit)
        await connection.requested()
        identify = partial(self._gateway.identify_connection, scope)
        (call,) = await self._gateway.run((HANDSHAKE,), identify, _admit_only)
        if isinstance(call, ProtocolError):
            await connection.refuse(call)
            return
        session = MultiplexedSocket(connection, call, self._gateway)
        try:
            with services.sessions.track(call.principal, connection.close):
                async with connection.serving(call):
                    await session.run()
        finally:
            await session.close()


async def _admit_only(call: Call, _count: int) -> tuple[Call]:
    """The work of a handshake: nothing, once the caller is let in."""
    return (call,)


class MultiplexedSocket:
    """One multiplexed socket: its requests in flight and its subscriptions.

    Reads run side by side and are answered as they end; writes take effect in the order in which they were sent.

    Args:
        connection: The socket.
        call: The caller that the handshake named.
        gateway: The way in.
    """

    def __init__(self, connection: WebSocketConnection, call: Call, gateway: Gateway) -> None:
        self._connection = connection
        self._call = call
        self._gateway = gateway
        self._responses = Lane(connection.send_queue, urgent=True)
        # Counts requests from the frame to the response. It bounds what one peer makes the server hold.
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)
        self._side_by_side = asyncio.Semaphore(READS_SIDE_BY_SIDE)
        schemas = partial(gateway.services.schemas.cached, call.space)
        self._writes = WritePipeline(self._write, overlap_of, schemas)
        # Overlapping batches ask the rate limit one after the other, or the store's answers could reverse them.
        self._write_turn = asyncio.Lock()
        self._read_batch = ReadBatch(self._read_together)
        self._reads: set[asyncio.Task[Any]] = set()
        self._numbers = itertools.count(1)
        self._answered = 0
        self._streams: dict[int, Stream] = {}
        self._body_limit = gateway.services.settings.limits.body_bytes

    async def run(self) -> None:
        """Serve until the peer leaves."""
        self._send([self._hello()])
        async for text in self._connection.frames():
            await self._take(text.encode() if isinstance(text, str) else text)
            # A peer that does not read its responses is not read either.
            await self._connection.send_queue.drain()

    async def close(self) -> None:
        """End what the socket has begun; writes run to their end, since they may have happened."""
        # The pipeline of writes is left alone. Its tasks hold what they need, and their responses go into a queue
        # that nobody empties.
        for task in self._reads:
            task.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)
        for stream in self._streams.values():
            await stream.aclose()
        self._streams.clear()

    async def _take(self, text: bytes) -> None:
        """Read a frame, and begin what it requests."""
        head: frames.Frame | None = None
        try:
            self._check_size(text)
            # The envelope first: a frame whose request is malformed is still answered under its id.
            head = frames.read_head(text)
            await self._call.services.evaluator.read(self._call.space, text)
            request = frames.read_request(head, text)
            operation = frames.BY_NAME.get(head.op)
            if operation is not None:
                write_or_read = self._socket_request(head.id, operation, request)
        except Exception as error:  # noqa: BLE001 - the gateway knows the kinds of errors, and logs what nobody expected
            await self._refuse(head, error)
            await self._let_others_in()
            return
        if operation is not None:
            # Frames are read one by one, so this holds up the peer and nobody else.
            await self._in_flight.acquire()
            self._begin(write_or_read)
            return
        if isinstance(request, SubscribeRequest):
            await self._subscribe(head.id, request)
        elif head.op == "unsubscribe":
            await self._control(head, partial(self._unsubscribe, head.id, request.sub))
        else:
            await self._control(head, partial(self._ping, head.id))
        await self._let_others_in()

    async def _let_others_in(self) -> None:
        """Give other work of the process its turn now and then.

        Operations wait for a place, or the store. A frame that is answered at once waits for nothing, and thousands may
        have come together.
        """
        self._answered += 1
        if not self._answered % _ANSWERED_A_TURN:
            await asyncio.sleep(0)

    def _check_size(self, text: bytes) -> None:
        if len(text) > self._body_limit:
            raise ProtocolError(
                "too_large",
                f"the frame is longer than {self._body_limit} bytes",
                field="frame",
                limit="body_bytes",
            )

    def _socket_request(self, id: frames.Id, operation: Operation, request: Any) -> SocketRequest:
        """Put a request together with its caller, its idempotency key and its durability where it has them."""
        key: str | None = getattr(request, "idempotency_key", None)
        durability: str | None = getattr(request, "durability", None)
        call = self._call
        if key is None and durability is None:
            return SocketRequest(id, operation, call, request)
        named = None if key is None else read_idempotency_key(key.encode())
        wanted = call.durability if durability is None else read_durability(durability)
        call = Call(call.principal, call.agent, named, wanted, services=call.services)
        return SocketRequest(id, operation, call, frames.without_envelope(request))

    # Operations

    def _begin(self, request: SocketRequest) -> None:
        if request.operation.writes:
            self._writes.add(request)
            return
        if self._read_batch.takes(request.request):
            task = self._read_batch.add(request)
        else:
            task = asyncio.create_task(self._read(request))
        if task is not None:
            self._reads.add(task)
            task.add_done_callback(self._reads.discard)

    async def _read(self, read: SocketRequest) -> None:
        if isinstance(read.request, ChangesRequest) and read.request.wait:
            # A long poll holds nothing while it waits, perhaps for a minute, so it takes none of the places.
            await self._respond([read], _run_alone)
            return
        async with self._side_by_side:
            await self._respond([read], _run_alone)

    async def _read_together(self, reads: Sequence[SocketRequest]) -> None:
        await self._respond(reads, self._run_reads)

    async def _run_reads(
        self, reads: Sequence[SocketRequest]
    ) -> Sequence[bytes | ProtocolError | None]:
        """Run the reads of a batch; what would make too long a response together is sent as it is read."""
        call = reads[0].call
        sent: list[ProtocolError | None] = []
        while True:
            rest = reads[len(sent) :]
            found = await call.memory.get_each(call, [each.request.key for each in rest])
            if len(found) == len(rest):
                return [*sent, *found]
            texts = [_text_of(each, result) for each, result in zip(rest, found, strict=False)]
            refusal = await self._send_large(texts)
            sent += [refusal] * len(found)

    async def _write(self, writes: Sequence[SocketRequest]) -> bool:
        """Run the writes of a batch and answer them; return whether the store answered."""
        work = _run_alone if len(writes) == 1 else _run_writes
        errors = await self._respond(writes, work, self._write_turn)
        return _STORE_FAILED.isdisjoint(errors)

    async def _respond(
        self,
        requests: Sequence[SocketRequest],
        work: Callable[
            [Sequence[SocketRequest]], Awaitable[Sequence[bytes | ProtocolError | None]]
        ],
        turn: asyncio.Lock | None = None,
    ) -> set[str]:
        """Run requests by ``work`` and queue their responses; return the codes of the errors among them."""
        names = [each.operation.name for each in requests]

        async def run_admitted(_: Call, count: int) -> Sequence[bytes | ProtocolError | None]:
            return await work(requests[:count])

        try:
            results = await self._gateway.run(
                names, self._identify, run_admitted, turn=turn, requests=requests
            )
        finally:
            # Also for a read that is cancelled: the places of its requests are free again.
            for _ in requests:
                self._in_flight.release()
        errors = {result.code for result in results if isinstance(result, ProtocolError)}
        # None stands for what is sent already.
        left = [
            (request, result)
            for request, result in zip(requests, results, strict=True)
            if result is not None
        ]
        texts = [_text_of(request, result) for request, result in left]
        # A write is answered in any case, for it has happened.
        if sum(map(len, texts)) <= LARGE_RESPONSE or requests[0].operation.writes:
            self._send(texts)
        elif (refusal := await self._send_large(texts)) is not None:
            self._send([frames.error_response(request.id, refusal) for request, _ in left])
        return errors

    async def _send_large(self, texts: Sequence[bytes]) -> ProtocolError | None:
        """Send responses that count as long as the peer has not taken them; return what forbids it, if anything."""
        budget, space = self._gateway.services.responses, self._call.space
        size = sum(map(len, texts))
        try:
            budget.take(space, size)
        except ProtocolError as refusal:
            return refusal
        try:
            self._send(texts)
            await self._connection.sent()
        finally:
            budget.give_back(space, size)
        return None

    async def _identify(self) -> Call:
        """The caller of every frame is that of the handshake; one whose API key is revoked loses the socket."""
        return self._call

    # Controls of the socket

    async def _refuse(self, head: frames.Frame | None, error: Exception) -> None:
        """Answer a malformed frame; it counts like every other request."""

        async def fail(_: Call, _count: int) -> Sequence[bytes]:
            raise error

        # The names of counters are a fixed set, whatever a client calls its operations.
        known = head is not None and (head.op in frames.BY_NAME or head.op in frames.CONTROLS)
        name = head.op if head is not None and known else _UNKNOWN
        (result,) = await self._gateway.run((name,), self._identify, fail)
        if isinstance(result, ProtocolError):
            self._send([frames.error_response(None if head is None else head.id, result)])

    async def _control(self, head: frames.Frame, work: Callable[[], Awaitable[bytes]]) -> None:
        async def run_admitted(_: Call, _count: int) -> Sequence[bytes]:
            return [await work()]

        (result,) = await self._gateway.run((head.op,), self._identify, run_admitted)
        if isinstance(result, ProtocolError):
            result = frames.error_response(head.id, result)
        self._send([result])

    async def _ping(self, id: frames.Id) -> bytes:
        return frames.control_response(id)

    async def _unsubscribe(self, id: frames.Id, number: int) -> bytes:
        # Taken out first: a second frame for the same number, while this one waits, finds none.
        stream = self._streams.pop(number, None)
        if stream is None:
            raise ProtocolError(
                "not_found", f"this socket has no subscription {number}", field="sub"
            )
        await stream.aclose()
        return frames.control_response(id, sub=number)

    async def _subscribe(self, id: frames.Id, request: SubscribeRequest) -> None:
        async def open_one(_: Call, _count: int) -> Sequence[tuple[int, Stream]]:
            return [await self._open(request)]

        (opened,) = await self._gateway.run((SUBSCRIBE,), self._identify, open_one)
        if isinstance(opened, ProtocolError):
            self._send([frames.error_response(id, opened)])
            return
        number, stream = opened
        # The response goes first: the client learns from it the number that the events carry.
        self._send([frames.control_response(id, sub=number)])
        stream.start()

    async def _open(self, request: SubscribeRequest) -> tuple[int, Stream]:
        limit = self._gateway.services.settings.limits.subscriptions
        if len(self._streams) >= limit:
            raise ProtocolError(
                "quota_exceeded",
                f"this socket has {limit} subscriptions, which is the limit; unsubscribe from some, "
                "use a pattern, or open another socket",
                limit="subscriptions",
            )
        number = next(self._numbers)
        lane = request.lane(self._connection.send_queue, b'{"sub":%d,' % number)
        failed = partial(self._end_subscription, lane)
        stream = self._streams[number] = await open_stream(self._call, request, lane, failed)
        return number, stream

    def _end_subscription(self, lane: Lane, error: ProtocolError) -> None:
        """Say that a subscription cannot go on; its number stays taken until the client unsubscribes."""
        event = Event("end", frames.end_of(error))
        lane.put(Packet([event], _NOWHERE, _NOWHERE))

    def _send(self, texts: Sequence[bytes]) -> None:
        """Queue responses."""
        events = [Event("answer", text) for text in texts]
        # A packet is written as a whole: between packets of large responses the limit of the queue can act.
        if sum(map(len, texts)) > _PACKET_BYTES:
            for event in events:
                self._responses.put(Packet([event], _NOWHERE, _NOWHERE))
        else:
            self._responses.put(Packet(events, _NOWHERE, _NOWHERE))

    def _hello(self) -> bytes:
        principal = self._call.principal
        return msgspec.json.encode(
            {
                "event": "hello",
                "version": __version__,
                "principal": principal.name,
                "agent": self._call.agent,
                "space": principal.space,
                "limits": self._gateway.services.settings.limits.as_dict(),
            }
        )


async def _run_alone(requests: Sequence[SocketRequest]) -> Sequence[bytes]:
    (request,) = requests
    return [await request.operation.run(request.call, request.request)]


def _text_of(request: SocketRequest, result: bytes | ProtocolError) -> bytes:
    if isinstance(result, ProtocolError):
        return frames.error_response(request.id, result)
    return frames.response(request.id, request.operation, result)


async def _run_writes(writes: Sequence[SocketRequest]) -> Sequence[bytes | ProtocolError]:
    memory = writes[0].call.memory
    return await memory.write_each([(each.call, each.request) for each in writes])
