"""The SDK's transport to a folder that several processes use: ``shared:FOLDER``.

The first process opens the folder's database and answers the others over loopback, with an address and a key that
only the folder's owner can read in the lock file. When it ends, the next request of another one takes its place.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import uvicorn

from memx_sdk.errors import MemxClosedError, MemxConnectionError
from memx_sdk.transport import (
    AsyncMessageStream,
    AsyncTransport,
    Request,
    Response,
    TransportOptions,
    open_transport,
)
from memx_server import serving
from memx_server.routes.http.endpoint import Receive, Scope, Send, send_json
from memx_server.storage.sqlite import InUse, SqliteStore
from memx_server.transports.embedded import EmbeddedTransport
from memx_server.transports.embedded_server import EmbeddedServer
from memx_server.transports.in_process import Application

_KEY = b"x-api-key"


def open_shared(options: TransportOptions) -> SharedTransport:
    """Make a transport to the folder that ``options.location`` names."""
    return SharedTransport(options)


class SharedTransport:
    """Opens the folder, or talks to the process that has it open."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._there: AsyncTransport | None = None
        self._finding = asyncio.Lock()
        self._closed = False

    async def request(self, request: Request) -> Response:
        """Send ``request`` once; see `AsyncTransport.request`."""
        there = await self._find()
        try:
            return await there.request(request)
        except MemxConnectionError:
            await self._lose(there)
            raise

    async def connect(self, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        """Open a stream; see `AsyncTransport.connect`."""
        there = await self._find()
        try:
            return await there.connect(path, query)
        except MemxConnectionError:
            await self._lose(there)
            raise

    async def close(self) -> None:
        """Release everything; see `AsyncTransport.close`."""
        self._closed = True
        there, self._there = self._there, None
        if there is not None:
            await there.close()

    async def _find(self) -> AsyncTransport:
        async with self._finding:
            if self._closed:
                raise MemxClosedError("closed", "the context was closed")
            if self._there is None:
                self._there = await self._open()
            return self._there

    async def _open(self) -> AsyncTransport:
        own = _FirstTransport(self._options)
        try:
            await own.start()
        except MemxConnectionError as error:
            await own.close()
            if not isinstance(error.__cause__, InUse):
                raise
            holder = error.__cause__.holder
            if "address" not in holder or "key" not in holder:
                raise
            found = replace(self._options, base_url=holder["address"], api_key=holder["key"])
            return open_transport("http", found)
        return own

    async def _lose(self, there: AsyncTransport) -> None:
        """Look for the folder's process anew at the next request."""
        if self._there is there:
            self._there = None
        await there.close()


class _FirstTransport(EmbeddedTransport):
    """The transport of the process that has the folder open."""

    async def start(self) -> None:
        """Open the folder and let the other processes in.

        Raises:
            MemxConnectionError: Another process has it open (``InUse``), or it cannot be used.
        """
        server = await self._here()
        if isinstance(server, EmbeddedServer):
            await server.run(_share(server))


async def _share(server: EmbeddedServer) -> None:
    """Answer over loopback for as long as the server lives; doing it again changes nothing."""
    store = server.app.services.store
    if server.shares or not isinstance(store, SqliteStore):
        return
    server.shares = True
    key = secrets.token_urlsafe(32)
    listener = serving.listen("127.0.0.1", 0)
    config = serving.configure(_Guarded(server.app, key))
    config.lifespan = "off"  # the embedded server sees to it
    door = uvicorn.Server(config)
    server.when_stopping(lambda: setattr(door, "should_exit", True), door.serve([listener]))
    store.announce(address=serving.url_of(listener), key=key)


class _Guarded:
    """Lets in who knows the key, as the folder's owner: other users of the machine reach loopback too."""

    def __init__(self, app: Application, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        given = next((value for name, value in headers if name == _KEY), b"")
        if hmac.compare_digest(given, self._key):
            inside: dict[str, Any] = {
                **scope,
                "headers": [header for header in headers if header[0] != _KEY],
            }
            await self._app(inside, receive, send)
        elif scope["type"] == "http":
            body = b'{"error":"unauthenticated","detail":"this folder is its owner\'s alone"}'
            await send_json(send, 401, body)
        else:
            await send({"type": "websocket.close", "code": 4401})
