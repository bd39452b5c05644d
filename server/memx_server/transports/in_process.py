"""The application called without a socket: HTTP exchanges, and WebSockets between two loops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from memx_sdk.errors import MemxConnectionError, MemxTimeout
from memx_sdk.transport import Response
from memx_server.routes.http.endpoint import Message, Receive, Scope, Send

T = TypeVar("T")

_QUEUED_MESSAGES = 64
"""How many messages wait for a slow reader before the server is held back."""
_CLOSING_SECONDS = 5.0
"""How long the application may take to see that its peer is gone."""
_NORMAL, _ABNORMAL = 1000, 1006


class Application(Protocol):
    """An ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket."""


class Host(Protocol):
    """Where an application runs."""

    @property
    def app(self) -> Application:
        """The application."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its event loop."""


class ServingHost(Host, Protocol):
    """A host that runs what it is given on its application's loop."""

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` there and return what it returns."""


async def exchange(app: Application, scope: dict[str, Any], body: bytes) -> Response:
    """Make one HTTP request of ``app``, on its loop."""
    answer = _Answer()
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if pending:
            return pending.pop()
        await asyncio.Event().wait()  # the client stays until it is answered
        raise AssertionError

    await app(scope, receive, answer.send)
    return answer.response()


class _Answer:
    """Collects what the application sends over HTTP."""

    def __init__(self) -> None:
        self._status = 500
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    async def send(self, message: Message) -> None:
        if message["type"].endswith(".start"):
            self._status = message["status"]
            self._headers = {
                name.decode().lower(): value.decode() for name, value in message["headers"]
            }
        else:
            self._body.append(message.get("body", b""))

    def response(self) -> Response:
        return Response(
            self._status,
            b"".join(self._body),
            self._headers.get("content-type", ""),
            self._headers,
        )


class InProcessSocket:
    """A WebSocket to an application on another event loop; a stream of messages to its reader.

    Args:
        host: Runs the application.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._reader = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._room = asyncio.Semaphore(_QUEUED_MESSAGES)
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._answered: asyncio.Future[Response | None]
        self._answer = _Answer()
        self._task: asyncio.Task[None] | None = None
        self._closed: MemxConnectionError | None = None

    async def open(self, scope: dict[str, Any]) -> Response | None:
        """Make the handshake, on the application's loop; returns its answer if it refuses."""
        self._answered = self._host.loop.create_future()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._serve(scope))
        try:
            return await self._answered
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def receive(self, timeout: float | None = None) -> str:
        """Return the next message; see `AsyncMessageStream.receive`."""
        if self._closed is not None:
            raise self._closed
        try:
            async with asyncio.timeout(timeout):
                message = await self._inbox.get()
        except TimeoutError:
            raise MemxTimeout("timeout", "no message came in time") from None
        if message["type"] == "websocket.send":
            self._tell_app(self._room.release)
            text: str = message["text"]
            return text
        self._closed = _closed(message)
        raise self._closed

    async def close(self) -> None:
        """Close it; a pending ``receive`` raises. Closing twice is harmless."""
        self._inbox.put_nowait({"type": "websocket.close", "code": _NORMAL})
        self._tell_app(self._leave)

    def _leave(self) -> None:
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": _NORMAL})
        if self._task is not None:
            # Whoever still waits for room to send must see that nobody reads any more.
            asyncio.get_running_loop().call_later(_CLOSING_SECONDS, self._task.cancel)
        for _ in range(_QUEUED_MESSAGES):
            self._room.release()

    async def _serve(self, scope: dict[str, Any]) -> None:
        try:
            await self._host.app(scope, self._to_app.get, self._from_app)
        finally:
            if not self._answered.done():
                self._answered.set_result(self._answer.response())
            self._tell_reader({"type": "websocket.close", "code": _ABNORMAL})

    async def _from_app(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._answered.set_result(None)
        elif kind.startswith("websocket.http.response"):
            await self._answer.send(message)
        elif kind == "websocket.send":
            await self._room.acquire()
            self._tell_reader(message)
        else:
            self._tell_reader(message)

    def _tell_reader(self, message: Message) -> None:
        with suppress(RuntimeError):  # the reader's loop may be gone
            self._reader.call_soon_threadsafe(self._inbox.put_nowait, message)

    def _tell_app(self, what: Any) -> None:
        with suppress(RuntimeError):  # the application's loop may be gone
            self._host.loop.call_soon_threadsafe(what)


def _closed(message: Message) -> MemxConnectionError:
    code = message.get("code", _ABNORMAL)
    reason = message.get("reason") or "the connection was closed"
    return MemxConnectionError("connection", reason, {"close_code": code})
