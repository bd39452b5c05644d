"""The SDK's transport to a server in the same process: no socket, nothing to start.

``AsyncMemxContext(base_url="embedded:FOLDER")`` keeps its memory in that folder, ``embedded:`` in a
temporary one. All contexts of a process that name one folder share one server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from memx_sdk.core.responses import success_body
from memx_sdk.errors import MemxClosedError, MemxConnectionError, MemxTimeout
from memx_sdk.transport import AsyncMessageStream, Request, Response, TransportOptions
from memx_server.storage.sqlite import CannotOpen
from memx_server.transports.embedded_server import EmbeddedServer, EmbeddedServers
from memx_server.transports.in_process import InProcessSocket, ServingHost, exchange

T = TypeVar("T")

_servers = EmbeddedServers()


def open_embedded(options: TransportOptions) -> EmbeddedTransport:
    """Make a transport to the server of the folder that ``options.location`` names."""
    return EmbeddedTransport(options)


class EmbeddedTransport:
    """Calls the application directly; starts its server at the first request."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._server: EmbeddedServer | None = None
        self._opening: asyncio.Future[EmbeddedServer] | None = None
        self._closed = False

    async def request(self, request: Request) -> Response:
        """Send ``request`` once; see `AsyncTransport.request`."""
        server = await self._here()
        extra = {"content-type": "application/json"}
        if request.idempotency_key is not None:
            extra["idempotency-key"] = request.idempotency_key
        in_body = request.method not in {"GET", "DELETE"}
        scope = self._scope("http", request.path, {} if in_body else request.query(), extra)
        scope["method"] = request.method
        answer = exchange(server.app, scope, request.body() if in_body else b"")
        return await self._patiently(server, answer, request.patience)

    async def connect(self, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        """Open a stream; see `AsyncTransport.connect`."""
        server = await self._here()
        scope = self._scope("websocket", path, query, {})
        scope["extensions"] = {"websocket.http.response": {}}
        scope["subprotocols"] = []
        socket = InProcessSocket(server)
        refusal = await self._patiently(server, socket.open(scope), 0)
        if refusal is not None:
            success_body(refusal)
            raise MemxConnectionError("connection", "the server opened no stream")
        return socket

    async def close(self) -> None:
        """Release everything; see `AsyncTransport.close`."""
        self._closed = True
        if self._opening is not None:
            await asyncio.wait({self._opening})
            if self._opening.exception() is None:
                self._server = self._opening.result()
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(_servers.release, self._options.location, server)

    async def _here(self) -> ServingHost:
        if self._closed:
            raise MemxClosedError("closed", "the context was closed")
        if self._server is not None:
            return self._server
        if self._opening is None:
            opening = asyncio.to_thread(_servers.acquire, self._options.location)
            self._opening = asyncio.ensure_future(opening)
        try:
            self._server = await asyncio.shield(self._opening)
        except (CannotOpen, OSError) as error:
            self._opening = None
            raise MemxConnectionError("connection", str(error)) from error
        self._opening = None
        return self._server

    async def _patiently(
        self, server: ServingHost, work: Coroutine[Any, Any, T], patience: float
    ) -> T:
        try:
            async with asyncio.timeout(self._options.timeout + patience):
                return await server.run(work)
        except TimeoutError:
            raise MemxTimeout("timeout", "no answer in time") from None

    def _scope(
        self, kind: str, path: str, query: Mapping[str, str], extra: Mapping[str, str]
    ) -> dict[str, Any]:
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
            "extensions": {},
        }
