"""Calls of an application in this process: HTTP exchanges, and WebSockets between two event loops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

from starlette.types import Message, Receive, Scope, Send

from memx_sdk.core.responses import success_body
from memx_sdk.errors import MemxConnectionError, MemxTimeout
from memx_sdk.protocol import durability
from memx_sdk.transport import AsyncMessageStream, Request, Response, TransportOptions
from memx_server.routes.asgi import IN_PROCESS, OAUTH_SUBJECT

T = TypeVar("T")

_QUEUED_MESSAGES = 64
"""How many messages wait for a slow reader before the application is held back."""
_CLOSING_SECONDS = 5.0
"""How long the application may take to see that its peer is gone."""
_NORMAL, _ABNORMAL = 1000, 1006
"""Close codes of RFC 6455, section 7.4.1."""


class Application(Protocol):
    """An ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket."""


class Host(Protocol):
    """An application and the event loop that it runs on."""

    @property
    def app(self) -> Application:
        """The application."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its event loop."""

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on that loop and return what it returns, to a coroutine of any loop."""


class InProcessCalls:
    """The requests and streams of one caller.

    Args:
        options: Whose API key and agent name each call carries, and how long it may take.
        oauth_subject: Whom a checked token names, in place of an API key.
    """

    def __init__(self, options: TransportOptions, oauth_subject: str | None = None) -> None:
        self._options = options
        self._extensions: dict[str, Any] = {IN_PROCESS: {}}
        if oauth_subject is not None:
            self._extensions[OAUTH_SUBJECT] = oauth_subject

    async def request(self, host: Host, request: Request) -> Response:
        """Send ``request`` once; see `AsyncTransport.request`."""
        extra = {"content-type": "application/json"}
        if request.idempotency_key is not None:
            extra["idempotency-key"] = request.idempotency_key
        if request.durability is not None:
            extra[durability.HEADER] = request.durability
        has_body = request.method not in {"GET", "DELETE"}
        scope = self._scope("http", request.path, {} if has_body else request.query(), extra)
        scope["method"] = request.method
        response = exchange(host.app, scope, request.body() if has_body else b"")
        return await self._within(host, response, request.patience)

    async def connect(self, host: Host, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        """Open a stream; see `AsyncTransport.connect`."""
        scope = self._scope("websocket", path, query, {})
        scope["extensions"]["websocket.http.response"] = {}
        scope["subprotocols"] = []
        socket = InProcessSocket(host)
        refusal = await self._within(host, socket.open(scope), 0)
        if refusal is not None:
            success_body(refusal)
            raise MemxConnectionError("connection", "the server opened no stream")
        return socket

    async def _within(self, host: Host, work: Coroutine[Any, Any, T], patience: float) -> T:
        """Run ``work`` on the application's loop, for as long as the caller waits."""
        try:
            async with asyncio.timeout(self._options.timeout + patience):
                return await host.run(work)
        except TimeoutError:
            raise MemxTimeout("timeout", "no answer in time") from None

    def _scope(
        self, kind: str, path: str, query: Mapping[str, str], extra: Mapping[str, str]
    ) -> dict[str, Any]:
        """The ASGI scope of a request or a handshake, as a server would make it of the bytes."""
        own = {"x-api-key": self._options.api_key, "x-memx-agent": self._options.agent}
        headers = {**extra, **{name: value for name, value in own.items() if value is not None}}
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": urlencode(query).encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": None,
            "server": None,
            "extensions": dict(self._extensions),
        }


async def exchange(app: Application, scope: dict[str, Any], body: bytes) -> Response:
    """Make one HTTP request of ``app``, on its loop."""
    collected = _CollectedResponse()
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if pending:
            return pending.pop()
        # A second `receive` asks whether the client has left. It has not: it waits for its response,
        # and where it gives up the whole exchange is cancelled.
        await asyncio.Event().wait()
        raise AssertionError

    await app(scope, receive, collected.send)
    return collected.response()


class _CollectedResponse:
    """What the application sends over HTTP, put together."""

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
    """A WebSocket to an application on another event loop; its reader's side is a message stream.

    Two loops share it, so each field belongs to one of them: ``_inbox`` and ``_closed`` to the reader's,
    all others to the application's. What crosses over goes through ``call_soon_threadsafe``.

    The semaphore is the flow control. The application takes a permit for each message, and the reader
    gives it back when it has read the message; so at most ``_QUEUED_MESSAGES`` wait in the inbox, and
    then the application waits as it would for a socket's buffer.

    Args:
        host: Runs the application.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._reader = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._permits = asyncio.Semaphore(_QUEUED_MESSAGES)
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._handshake: asyncio.Future[Response | None]
        self._refusal = _CollectedResponse()
        self._task: asyncio.Task[None] | None = None
        self._closed: MemxConnectionError | None = None
        self._pid = os.getpid()

    async def open(self, scope: dict[str, Any]) -> Response | None:
        """Make the handshake, on the application's loop; returns its response if it refuses."""
        self._handshake = self._host.loop.create_future()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._serve(scope))
        try:
            return await self._handshake
        except asyncio.CancelledError:
            self._task.cancel()  # nobody will close a stream that was never returned
            raise

    async def receive(self, timeout: float | None = None) -> str:
        """Return the next message; see `AsyncMessageStream.receive`."""
        if self._pid != os.getpid():  # no one would ever put a message into the inbox
            raise MemxConnectionError("connection", "the stream was left behind by a fork")
        if self._closed is not None:
            raise self._closed
        try:
            async with asyncio.timeout(timeout):
                message = await self._inbox.get()
        except TimeoutError:
            raise MemxTimeout("timeout", "no message came in time") from None
        if message["type"] == "websocket.send":
            self._on_app_loop(self._permits.release)
            text: str = message["text"]
            return text
        self._closed = _closed(message)
        raise self._closed

    async def close(self) -> None:
        """Close it; a pending ``receive`` raises. Closing twice is harmless."""
        self._inbox.put_nowait({"type": "websocket.close", "code": _NORMAL})
        if self._pid == os.getpid():
            self._on_app_loop(self._disconnect)

    def _disconnect(self) -> None:
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": _NORMAL})
        if self._task is not None:
            asyncio.get_running_loop().call_later(_CLOSING_SECONDS, self._task.cancel)
        # The application may wait for a permit that no reader will give back any more.
        for _ in range(_QUEUED_MESSAGES):
            self._permits.release()

    async def _serve(self, scope: dict[str, Any]) -> None:
        try:
            await self._host.app(scope, self._to_app.get, self._from_app)
        finally:
            # However the application ends, nobody may go on waiting for it.
            if not self._handshake.done():
                self._handshake.set_result(self._refusal.response())
            self._on_reader_loop({"type": "websocket.close", "code": _ABNORMAL})

    async def _from_app(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._handshake.set_result(None)
        elif kind.startswith("websocket.http.response"):
            await self._refusal.send(message)
        elif kind == "websocket.send":
            await self._permits.acquire()
            self._on_reader_loop(message)
        else:
            self._on_reader_loop(message)

    def _on_reader_loop(self, message: Message) -> None:
        with suppress(RuntimeError):  # the reader's loop may be gone
            self._reader.call_soon_threadsafe(self._inbox.put_nowait, message)

    def _on_app_loop(self, call: Any) -> None:
        with suppress(RuntimeError):  # the application's loop may be gone
            self._host.loop.call_soon_threadsafe(call)


def _closed(message: Message) -> MemxConnectionError:
    code = message.get("code", _ABNORMAL)
    reason = message.get("reason") or "the connection was closed"
    return MemxConnectionError("connection", reason, {"close_code": code})
