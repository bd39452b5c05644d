# Generated from memx_sdk/_async/transports/websocket.py by tools/unasync.py; change that file, not this one.
"""The WebSocket transport: every operation and every subscription over one socket."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from memx_sdk._sync._concurrency import Event, Lock, Worker, current_loop, spawn
from memx_sdk._sync.transports.websocket_connection import WebSocket, connect_websocket
from memx_sdk._sync.transports.websocket_stream import MultiplexedStream
from memx_sdk.core.forks import forked_error, watch_forks
from memx_sdk.core.multiplex import (
    Frame,
    read_frame,
    read_response,
    request_frame,
    subscribe_frame,
    unsubscribe_frame,
)
from memx_sdk.core.reconnect import refusal
from memx_sdk.core.responses import success_body
from memx_sdk.core.transport import MessageStream, Request, Response, TransportOptions
from memx_sdk.errors import MemxClosedError, MemxConnectionError, MemxError, MemxTimeout

_PATH: Final = "/ws"
_SUBSCRIBE: Final = "/subscribe/"
_CLOSING_SECONDS: Final = 2.0


class WebSocketTransport:
    """Opens the socket at its first use, and a new one at the first use after it broke.

    Args:
        options: Where to, as whom.
    """

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._opening = Lock()
        # Everything of one socket is in its session. A broken one is never mended: it is replaced
        # whole, so that no answer or number of the old socket can meet a request on the new one.
        self._session: _AsyncSession | None = None
        self._loop: object | None = None
        self._parents_loop: object | None = None
        self._closed = False
        watch_forks(self)

    def request(self, request: Request) -> Response:
        """Send ``request`` once; see `Transport.request`."""
        session = self._session_here()
        # Number and frame belong to this session. If it breaks, the caller makes the request anew
        # on the next one, with a new number and the same idempotency key.
        number = session.number()
        answer = session.ask(number, request_frame(number, request), request.patience)
        return read_response(request.op, answer)

    def connect(self, path: str, query: Mapping[str, str]) -> MessageStream:
        """Open a subscription on the socket; see `Transport.connect`."""
        session = self._session_here()
        return session.subscribe(path.removeprefix(_SUBSCRIBE), query)

    def close(self) -> None:
        """Close the socket; see `Transport.close`."""
        self._closed = True
        # Taken before it is closed, so that of two that close at the same time one does it.
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def forget_parent(self) -> None:
        """Let the next request, in a forked child, open a socket of its own."""
        # The mutex is new: one that another thread of the parent held would never be released here.
        self._opening = Lock()
        # Not closed: a close frame would end the parent's socket. The loop is remembered as in
        # `HttpTransport`.
        self._session, self._parents_loop = None, self._loop

    def _session_here(self) -> _AsyncSession:
        """Return a working session; it belongs to the event loop that runs."""
        # The usual case takes no lock. A session that breaks right after this look fails its request
        # with a connection error, which the caller repeats.
        session, loop = self._session, current_loop()
        if session is not None and session.broken is None and self._loop is loop:
            return session
        # One opens and the others wait for it: a context has one socket, however many callers begin
        # at the same time.
        with self._opening:
            session = self._session  # another caller may have opened one while this one waited
            if session is None or session.broken is not None or self._loop is not loop:
                if self._closed:
                    raise MemxClosedError("closed", "the context was closed")
                if loop is not None and loop is self._parents_loop:
                    raise forked_error("this event loop")
                # Under the lock on purpose. Where it fails, the next in line tries too and gets an
                # error of its own.
                socket = connect_websocket(self._options, _PATH, {})
                session = _AsyncSession(socket, self._options.timeout)
                self._session, self._loop = session, loop
        # `close` may have run while the socket was being opened, and found none.
        if self._closed:
            self.close()
        return session


class _Reply:
    """The place where the answer to a request arrives: its text, and an event once it is there."""

    def __init__(self) -> None:
        self.text: bytes | None = None
        self.arrived = Event()


class _AsyncSession:
    """One socket: the requests and the subscriptions that wait for its frames.

    A single task or thread reads the socket and hands each frame on by the number that it carries;
    callers only send and wait. Numbers are drawn once and never reused, so that an answer that
    comes after its caller gave up meets nobody.

    Attributes:
        broken: Why nothing can be sent any more; None while it works.
    """

    def __init__(self, socket: WebSocket, timeout: float) -> None:
        self.broken: MemxError | None = None
        self._socket = socket
        self._timeout = timeout
        self._numbers = itertools.count(1)
        # By number: the answers that are waited for; the subscriptions whose answer is not there
        # yet; and the open ones, by the number that the server has given them.
        self._replies: dict[int, _Reply] = {}
        self._opening: dict[int, MultiplexedStream] = {}
        self._streams: dict[int, MultiplexedStream] = {}
        # Last: the reader uses all of the above from its first frame on.
        self._reader: Worker = spawn("memx-socket", self._read)

    def number(self) -> int:
        """Draw the number of a request."""
        return next(self._numbers)

    def ask(self, number: int, frame: bytes, patience: float = 0.0) -> bytes:
        """Send a request, and return the frame that answers it."""
        # Registered before the look at ``broken``: `_break` sets that first and wakes the replies
        # afterwards, so a request either sees the break or is woken by it.
        reply = self._replies[number] = _Reply()
        try:
            if self.broken is None:
                self._send(frame)
                if not reply.arrived.wait(self._timeout + patience):
                    raise MemxTimeout("timeout", "the server did not answer in time")
        finally:
            # Answered or given up, the place goes. An answer that comes later finds none and is
            # dropped.
            self._replies.pop(number, None)
        if reply.text is None:
            # Woken without a text: only `_break` does that.
            raise self.broken or _broken(None)
        return reply.text

    def subscribe(self, pattern: str, query: Mapping[str, str]) -> MultiplexedStream:
        """Open a subscription; its first message may come right behind the answer."""
        number = self.number()
        # The stream exists before the request leaves: the reader must know where to put an event
        # that arrives right behind the answer, before the caller here has seen the answer.
        stream = self._opening[number] = MultiplexedStream(snapshot="snapshot" in query)
        try:
            # `_answer` moves the stream to its place among the open ones before it wakes this
            # caller: events are never without a place.
            answer = self.ask(number, subscribe_frame(number, pattern, query))
            success_body(read_response("subscribe", answer))
        except BaseException:  # if the server opens it yet, it is left at once
            stream.close()
            raise
        return stream

    def close(self) -> None:
        """Close the socket and wait for its reader to end."""
        self._socket.close()
        # The reader may come here itself, by whom it hands a frame to, and must not wait for its
        # own end.
        if not self._reader.is_current():
            self._reader.join(_CLOSING_SECONDS)

    def _send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
        except MemxConnectionError as error:
            raise _broken(error) from error

    def _read(self) -> None:
        """Hand every frame to whom it is for, until the socket breaks."""
        reason: Exception | None = None
        try:
            while True:
                # Without a timeout: that the other side is gone is noticed by the pings of the
                # library, which close the socket.
                text = self._socket.receive()
                # Handing on never waits. A single slow reader of a subscription would otherwise
                # hold up the answers of all requests on this socket.
                self._dispatch(read_frame(text), text)
        except (MemxConnectionError, ValueError) as error:
            reason = error
        finally:
            # In the ``finally``, so that a reader that is cancelled wakes everybody as well; they
            # would wait for answers that nobody reads any more.
            self._break(_broken(reason))
            self._socket.close()

    def _dispatch(self, frame: Frame, text: bytes) -> None:
        if frame.id is not None:
            self._answer(frame, text)
        # A frame of a subscription that has been left is dropped: the server sends on until it has
        # read the unsubscribe frame.
        elif frame.sub is not None and (stream := self._streams.get(frame.sub)):
            stream.put(frame.event, text)

    def _answer(self, frame: Frame, text: bytes) -> None:
        number = frame.id or 0
        # For any answer, also a refusal, or the refused stream would stay here for as long as the
        # socket lasts.
        stream = self._opening.pop(number, None)
        if stream is not None and frame.ok and frame.sub is not None:
            # In this order: `opened` leaves at once where the caller has given up meanwhile, and
            # `_leave` finds the stream by its number.
            self._streams[frame.sub] = stream
            stream.opened(partial(self._leave, frame.sub))
        if reply := self._replies.get(number):
            # The text is in place before the event wakes the caller that reads it.
            reply.text = text
            reply.arrived.set()

    def _leave(self, sub: int) -> None:
        """Unsubscribe without waiting, since the caller may be the task that reads the socket."""
        # Whoever pops the stream sends the frame, once, however often this is called.
        if self._streams.pop(sub, None) is not None and self.broken is None:
            spawn("memx-unsubscribe", self._send_quietly, unsubscribe_frame(self.number(), sub))

    def _send_quietly(self, frame: bytes) -> None:
        with suppress(MemxConnectionError):
            self._socket.send(frame)

    def _break(self, error: MemxError) -> None:
        """Wake everyone who waits."""
        self.broken = self.broken or error  # first: see `ask`
        # A copy, since those who wake take themselves out.
        for reply in list(self._replies.values()):
            reply.arrived.set()
        for stream in list(self._streams.values()):
            stream.end(error)


def _broken(reason: Exception | None) -> MemxError:
    """Why requests fail: a refusal is final, anything else may be tried again."""
    if isinstance(reason, MemxError) and (refused := refusal(reason, established=True)):
        return refused
    detail = "the connection broke" if reason is None else f"the connection broke: {reason}"
    return MemxConnectionError("connection", detail)
