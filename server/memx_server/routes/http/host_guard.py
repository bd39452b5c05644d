"""The guard that answers only requests which call this server by one of its names."""

from __future__ import annotations

from collections.abc import Sequence

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.api.errors import error_body
from memx_server.routes.api.origin_checks import check_host
from memx_server.routes.asgi import Endpoint, Receive, Scope, Send
from memx_server.routes.http.response_writing import send_json


class HostGuard:
    """Refuses every HTTP request that does not call this server by one of its names.

    The API key of a developer's server is known to everybody. This keeps it from the pages that the developer visits:
    one of them can make its own name point here (DNS rebinding), but not change the name that the browser sends.

    Args:
        app: The application behind the guard.
        hosts: The server's names; ``*`` for any.
    """

    def __init__(self, app: Endpoint, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        try:
            if scope["type"] == "http":  # a WebSocket of a page names its origin, which is checked
                check_host(scope, self._hosts)
        except ProtocolError as error:
            await send_json(send, error.status, error_body(error))
            return
        await self._app(scope, receive, send)
