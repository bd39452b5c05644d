"""A folder's application over loopback, for the other processes of the folder's owner."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from memx_server import serving
from memx_server.routes.http.response_writing import send_json
from memx_server.transports.embedded_server import EmbeddedServer
from memx_server.transports.in_process import Application

_KEY = b"x-api-key"


async def share(server: EmbeddedServer) -> None:
    """Answer over loopback for as long as ``server`` lives; doing it again changes nothing.

    It runs on the server's loop.
    """
    if not server.has_companion:
        server.accompany(LoopbackServer(server))


class LoopbackServer:
    """Serves an embedded server's application on a free port of loopback.

    The address and a fresh key stand in the lock file for as long as requests are accepted there. Whoever
    reads them may connect; whoever finds them gone waits for the lock.

    Args:
        server: The embedded server.
    """

    def __init__(self, server: EmbeddedServer) -> None:
        self._lock = server.lock
        key = secrets.token_urlsafe(32)
        self._listener = serving.listen("127.0.0.1", 0)
        config = serving.configure(_OwnerOnly(server.app, key))
        config.lifespan = "off"  # the embedded server sees to it
        self._server = uvicorn.Server(config)
        # The socket listens already: a connection that comes before uvicorn accepts waits in its backlog.
        self._lock.announce(address=serving.url_of(self._listener), key=key)

    async def run(self) -> None:
        """Serve until ``end`` is called."""
        await self._server.serve([self._listener])

    def end(self) -> None:
        """Accept nothing more; `run` returns when what was begun is answered."""
        self._lock.announce(address=None, key=None)
        self._server.should_exit = True

    def forget_in_child(self) -> None:
        """Close the parent's sockets in a forked child.

        Connections to them must be refused, and open ones end, when the parent ends; as long as a child
        has them, they would be accepted by nobody and wait for ever.
        """
        _close(self._listener)
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                _close(transport.get_extra_info("socket"))


def _close(sock: socket.socket | None) -> None:
    """Close a socket's descriptor without its object, which an event loop may still think its own."""
    if sock is not None and sock.fileno() >= 0:
        with contextlib.suppress(OSError):
            os.close(sock.fileno())


class _OwnerOnly:
    """Serves requests that carry the folder's key, as the folder's owner, and refuses all others.

    Other users of the machine reach loopback too; only the owner can read the key in the lock file.
    """

    def __init__(self, app: Application, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        given = next((value for name, value in headers if name == _KEY), b"")
        if hmac.compare_digest(given, self._key):
            # Without the key the application takes the caller for the owner, as an in-process one.
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
