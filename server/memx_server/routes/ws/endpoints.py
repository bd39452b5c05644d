"""The WebSocket endpoints by path, answered before the web framework's machinery starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from memx_server.routes.api.errors import not_found
from memx_server.routes.http.endpoint import Receive, Scope, Send
from memx_server.routes.streaming.socket_writers import SendPump
from memx_server.routes.ws import multiplexed, subscribe
from memx_server.routes.ws.connection import WebSocketConnection
from memx_server.routes.ws.multiplexed import SocketEndpoint
from memx_server.routes.ws.subscribe import SubscribeEndpoint
from memx_server.services import Services

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class WebSockets:
    """Finds the endpoint of a path."""

    def __init__(self, services: Services) -> None:
        pump = self._pump = SendPump()
        self._exact: dict[str, Endpoint] = {multiplexed.PATH: SocketEndpoint(services, pump)}
        self._below: dict[str, Endpoint] = {subscribe.PREFIX: SubscribeEndpoint(services, pump)}

    @property
    def paths(self) -> frozenset[str]:
        """The paths that are served; one that ends with a slash stands for all below it."""
        return frozenset({*self._exact, *self._below})

    def find(self, path: str) -> Endpoint:
        """Return what serves ``path``; where nothing does, what says so."""
        if endpoint := self._exact.get(path):
            return endpoint
        below = (each for prefix, each in self._below.items() if path.startswith(prefix))
        return next(below, self._nowhere)

    async def _nowhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = WebSocketConnection(scope, receive, send, self._pump, queue_bytes=0)
        await connection.requested()
        await connection.refuse(not_found(scope["path"]))
