"""uvicorn's HTTP protocol, with bounds for what an unfinished request may hold, and one write for a short response.

uvicorn and httptools (llhttp) bound neither the head of a request nor the time that a request may take to arrive. A
client needs no API key to open a connection, so these bounds hold before anything is known about it.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.api.decoding import KNOWN_HEAD, KnownHead
from memx_server.routes.api.errors import error_body, error_headers
from memx_server.routes.http.response_writing import JoiningTransport, ResponseCycle
from memx_server.routes.peers import PEER, Peer, PeerRegister

DEADLINES = "memx.deadlines"
"""In the ``state`` of a scope: the server bounds the time in which the body arrives."""

_UNREAD_SECONDS = 60.0
"""How long a client may leave a response unread before its connection is dropped."""
_LINGER_SECONDS = 5.0
"""How long a client may take to read why its connection is closed."""
_PIPELINED = 32
"""Requests of one connection that may wait for the response to the one before."""

_SMALL_PIECE = 1024
_SMALL_PIECES = 16
_TRICKLE_SECONDS = 0.1
"""So long nothing more is read of a request that has come in more than so many small pieces."""

_TURN_AWAY_SECONDS = 1.0
"""How long a client for which there is no room may take to send, before it is told so."""


class WireBounds(NamedTuple):
    """What a request may be on its way in.

    Attributes:
        head_bytes: The request line and the headers.
        head_seconds: From the connection, or the first byte, to the end of the head.
        body_seconds: From the end of the head to the end of the body.
        connections: Connections of the process.
        unknown_connections: Connections whose peers have not shown an API key.
    """

    head_bytes: int = 32 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    connections: int = 20_000
    unknown_connections: int = 1000


class _Refused(Exception):  # noqa: N818 - it unwinds the parser, and nobody sees it
    """Ends the parsing of a request that is refused."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with deadlines and bounds, on a transport that joins a head and its body.

    The common request, whose bytes come in one piece, costs a few comparisons: timers are set, and bytes are counted,
    only once a piece has ended within a request.

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: uvicorn's.
        bounds: The bounds.
    """

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bounds: WireBounds = WireBounds(),  # noqa: B008 - it is immutable
    ) -> None:
        self._register = _register_of(server_state, bounds)
        self._peer = Peer(self._register)
        # uvicorn copies it into the scope of each request: what it holds is shared by those of this connection.
        state = {**app_state, DEADLINES: True, PEER: self._peer, KNOWN_HEAD: KnownHead()}
        super().__init__(config, server_state, state, _loop)
        self._bounds = bounds
        # Whether the last piece of data ended within a request, and how large the pieces are that began within its
        # head, or within its body.
        self._is_unfinished = False
        self._piece_bytes = 0
        self._body_bytes = 0
        self._is_large_piece = False
        self._small_pieces = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_part = ""
        self._unread: asyncio.TimerHandle | None = None
        self._refusal: ProtocolError | None = None
        self._is_handed_over = False
        self._turned_away: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to serve a connection."""
        super().connection_made(JoiningTransport(transport, self.loop))
        if not self._register.admit(self._peer, self, len(self.connections)):
            self._turn_away()
            return
        # Also a connection on which nothing is ever sent has to end.
        self._set_deadline("head")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._register.forget(self._peer)
        if self._turned_away is not None:
            self._turned_away.cancel()
        self._clear_deadline()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    # As the register of connections sees it

    def is_busy(self) -> bool:
        """Return whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def make_room(self) -> None:
        """Close the connection, since the process has no room for it."""
        self._refuse(_too_many_connections(self._bounds))

    def _turn_away(self) -> None:
        """Close the connection as soon as its client has begun to send, or at once where many are turned away.

        Few clients understand a response ahead of their request.
        """
        if not self._register.may_wait(self._peer):
            self.make_room()
            return
        self._refusal = _too_many_connections(self._bounds)
        self._turned_away = self.loop.call_later(_TURN_AWAY_SECONDS, self.make_room)

    # Bytes in

    def data_received(self, data: bytes) -> None:
        """Take the next piece of what the client sends."""
        if self._refusal is not None:
            if self._turned_away is not None:
                self._turned_away.cancel()
                self._turned_away = None
                self.make_room()
            return  # the connection is about to close
        if self._is_unfinished:
            self._piece_bytes += len(data)
        self._is_large_piece = len(data) > self._bounds.head_bytes
        super().data_received(data)
        if self._deadline is None and self._has_whole_request():  # nearly always
            self._is_unfinished = False
        elif not (self._refusal or self._is_handed_over or self.transport.is_closing()):
            self._check_unfinished(len(data))

    def _has_whole_request(self) -> bool:
        """Whether the data ended with a whole request, so that it is this side's turn."""
        cycle = self.cycle
        # uvicorn makes a scope as a request begins and, once it has the head, a cycle with that scope.
        return (
            cycle is not None
            and cycle.scope is self.scope
            and not cycle.more_body
            and not cycle.response_complete
        )

    def _has_begun(self) -> bool:
        """Whether a first request has begun; uvicorn's scope is None before, against its type."""
        return cast(Any, self.scope) is not None

    def _is_in_head(self) -> bool:
        cycle = self.cycle
        return self._has_begun() and (cycle is None or cycle.scope is not self.scope)

    def _check_unfinished(self, last_piece: int) -> None:
        """Bound what has come of an unfinished request, and the time until the rest of it comes."""
        if self._has_whole_request():
            self._is_unfinished = False
            self._clear_deadline()
            return
        if not self._has_begun():
            # No request has begun yet: there were empty lines ahead of it, if anything.
            self._set_deadline("head")
            return
        # Within a head or a body; or behind a response, where empty lines came, or the rest of a body that was refused.
        self._is_unfinished = True
        self._slow_down(last_piece)
        if self._framing_bytes() > self._bounds.head_bytes:
            self._refuse(_head_too_large(self._bounds.head_bytes))
        else:
            self._set_deadline("head" if self._is_in_head() else "body")

    def _slow_down(self, last_piece: int) -> None:
        """Read a request that trickles in with pauses, in which its pieces gather.

        A byte costs as much time as a whole head does, and a thousand connections may send one in each turn.
        """
        if last_piece >= _SMALL_PIECE:
            return
        self._small_pieces += 1
        if self._small_pieces > _SMALL_PIECES:
            # Not by `flow`: its pauses move deadlines, since they are the application's.
            self.transport.pause_reading()
            self.loop.call_later(_TRICKLE_SECONDS, self._read_on)

    def _read_on(self) -> None:
        handed_over = self._is_handed_over or self.transport.is_closing()
        if not (handed_over or self.flow.read_paused):
            self.transport.resume_reading()

    def _framing_bytes(self) -> int:
        """The bytes of the present request that are no body, of those pieces which began within it.

        In a body these are the sizes and extensions of chunks, and trailers. A chunk takes five to sixteen bytes beside
        what it carries, which may be a single one; so many are not counted.
        """
        if self._is_in_head():
            return self._piece_bytes
        return self._piece_bytes - 17 * self._body_bytes

    def on_headers_complete(self) -> None:
        """The head has come; the application starts."""
        # A head that came in one piece is within the limit if the piece is.
        in_pieces = self._piece_bytes or self._is_large_piece
        if in_pieces and self._head_size() > self._bounds.head_bytes:
            self._refusal = _head_too_large(self._bounds.head_bytes)
            raise _Refused
        if len(self.pipeline) >= _PIPELINED:
            self._refusal = _too_many_pipelined()
            raise _Refused
        self._piece_bytes = self._body_bytes = self._small_pieces = 0
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            # The task that answers has been made, and has not run yet.
            self.cycle.__class__ = ResponseCycle
            # Trailers come by `on_header` too. They are no headers of the request, which the application has read
            # by then or not (RFC 9110, section 6.5.1): an API key or a Host among them means nothing.
            self.headers = []

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        self._body_bytes += len(body)
        super().on_body(body)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, with the transport as it came."""
        self._is_handed_over = True
        self._register.forget(self._peer)
        self._clear_deadline()
        if isinstance(self.transport, JoiningTransport):
            self.transport = self.transport.release()
        super().handle_websocket_upgrade()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # Deadlines

    def _set_deadline(self, part: str) -> None:
        """Set the deadline of a request's head or body, unless it is set: further bytes don't move it."""
        if self._deadline is not None:
            if self._deadline_part == part:
                return
            self._deadline.cancel()
        bounds = self._bounds
        seconds = bounds.head_seconds if part == "head" else bounds.body_seconds
        self._deadline_part = part
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        part = self._deadline_part
        if self.flow.read_paused:
            # It is this side that does not read: the application is behind, or an earlier request is unanswered.
            self._set_deadline(part)
        elif part == "body":
            self._refuse(_too_slow(part, self._bounds.body_seconds))
        elif self._is_in_head():
            self._refuse(_too_slow(part, self._bounds.head_seconds))
        else:
            self.transport.close()  # nothing was requested, so nothing is to be answered

    # Refusals

    def _refuse(self, error: ProtocolError) -> None:
        self._refusal = error
        self.send_400_response(str(error))

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is refused before, or while, it is read, and close the connection.

        uvicorn calls it for what is no HTTP. Where an earlier request is still unanswered, its client would take
        this response for the one to that: then the connection closes without one.
        """
        error = self._refusal or ProtocolError("invalid_request", msg, field="request")
        self._refusal = error
        self._clear_deadline()
        cycle = self.cycle
        if cycle is None or self._is_in_head():
            is_next = cycle is None or cycle.response_complete
        else:
            is_next = not self.pipeline and not cycle.response_started
        if is_next:
            self.transport.write(_response(error))
        if cycle is not None:
            # The application stops to wait for the rest of the body, and what it sends goes nowhere.
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    # Bytes out

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(_UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read enough."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def _response(error: ProtocolError) -> bytes:
    body = error_body(error)
    return b"".join(
        (
            STATUS_LINE[error.status],
            b"content-type: application/json\r\n",
            *(b"%b: %b\r\n" % header for header in error_headers(error)),
            b"content-length: %d\r\n" % len(body),
            b"connection: close\r\n\r\n",
            body,
        )
    )


def _head_too_large(limit: int) -> ProtocolError:
    return ProtocolError(
        "head_too_large",
        f"the request line and the headers, or the trailers, are longer than {limit} bytes",
        limit="head_bytes",
    )


def _too_slow(part: str, seconds: float) -> ProtocolError:
    return ProtocolError(
        "request_timeout",
        f"the {part} of the request took longer than {seconds:g} seconds to arrive",
        limit=f"{part}_seconds",
    )


def _too_many_connections(bounds: WireBounds) -> ProtocolError:
    return ProtocolError(
        "unavailable",
        f"the server has {bounds.connections} connections, or {bounds.unknown_connections} on which nobody has shown "
        "an API key, which is the limit; connect again in a moment, and keep a connection for several requests",
        limit="connections",
        retry_after=1,
    )


_REGISTERS: WeakKeyDictionary[Any, PeerRegister] = WeakKeyDictionary()


def _register_of(server: Any, bounds: WireBounds) -> PeerRegister:
    """Return the register that all connections of a server share; several servers may run in a process."""
    register = _REGISTERS.get(server)
    if register is None:
        register = PeerRegister(bounds.connections, bounds.unknown_connections)
        _REGISTERS[server] = register
    return register


def _too_many_pipelined() -> ProtocolError:
    return ProtocolError(
        "invalid_request",
        f"more than {_PIPELINED} requests were sent ahead of their responses",
        field="request",
        limit="pipelined_requests",
    )
