"""The WebSocket endpoints by path, answered before the web framework's machinery starts."""

from __future__ import annotations

from memx_server.routes.api.errors import not_found
from memx_server.routes.api.gateway import Gateway
from memx_server.routes.asgi import Endpoint, Receive, Scope, Send
from memx_server.routes.streaming.socket_writers import SendPump
from memx_server.routes.ws import multiplexed, subscribe
from memx_server.routes.ws.connection import refuse_handshake
from memx_server.routes.ws.multiplexed import SocketEndpoint
from memx_server.routes.ws.subscribe import SubscribeEndpoint


class WebSockets:
    """The endpoints by path.

    Args:
        gateway: The way in.
    """

    def __init__(self, gateway: Gateway) -> None:
        pump = SendPump()
        self._exact: dict[str, Endpoint] = {multiplexed.PATH: SocketEndpoint(gateway, pump)}
        self._below: dict[str, Endpoint] = {subscribe.PREFIX: SubscribeEndpoint(gateway, pump)}

    @property
    def paths(self) -> frozenset[str]:
        """The paths that are served; one that ends with a slash stands for all below it."""
        return frozenset({*self._exact, *self._below})

    def find(self, path: str) -> Endpoint:
        """Return what serves ``path``; where nothing does, what says so."""
        # One look-up for `/ws`, which carries the traffic; prefixes are few.
        if endpoint := self._exact.get(path):
            return endpoint
        below = (each for prefix, each in self._below.items() if path.startswith(prefix))
        return next(below, self._nowhere)

    async def _nowhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # the request for the handshake
        await refuse_handshake(scope, send, not_found(scope["path"]))
