"""The WebSocket endpoints by path, answered before the web framework's machinery starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from memx_server.routes import socket, subscribe
from memx_server.routes.http import Receive, Scope, Send
from memx_server.routes.socket import SocketEndpoint
from memx_server.routes.subscribe import SubscribeEndpoint
from memx_server.routes.writers import Pump
from memx_server.services import Services

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class WebSockets:
    """Finds the endpoint of a path."""

    def __init__(self, services: Services) -> None:
        pump = Pump()
        self._subscribe = SubscribeEndpoint(services, pump)
        self._socket = SocketEndpoint(services, pump)

    def find(self, path: str) -> Endpoint | None:
        """Return what serves ``path``, or None."""
        if path == socket.PATH:
            return self._socket
        return self._subscribe if path.startswith(subscribe.PREFIX) else None
