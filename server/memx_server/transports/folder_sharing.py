"""A folder's application over loopback, for the other processes of the folder's owner."""

from __future__ import annotations

import hmac
import secrets
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from memx_server import serving
from memx_server.routes.asgi import send_json
from memx_server.transports.embedded_server import EmbeddedServer
from memx_server.transports.in_process import Application

_KEY = b"x-api-key"


async def share(server: EmbeddedServer) -> None:
    """Answer over loopback for as long as ``server`` lives; doing it again changes nothing.

    It runs on the server's loop. The address and a fresh key go into the lock file, which only the
    folder's owner can read.
    """
    if server.is_shared:
        return
    key = secrets.token_urlsafe(32)
    listener = serving.listen("127.0.0.1", 0)
    config = serving.configure(_OwnerOnly(server.app, key))
    config.lifespan = "off"  # the embedded server sees to it
    loopback = uvicorn.Server(config)

    def end() -> None:
        loopback.should_exit = True

    server.run_until_stop(loopback.serve([listener]), end)
    # Last, as others connect to what they read here. The socket listens already; a connection that
    # comes before uvicorn accepts waits in its backlog.
    server.lock.announce(address=serving.url_of(listener), key=key)


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
