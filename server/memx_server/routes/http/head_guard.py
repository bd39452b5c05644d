"""The guard against heads that name two things where one is meant, or no host at all."""

from __future__ import annotations

from collections.abc import Awaitable

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.api.errors import error_body
from memx_server.routes.asgi import IN_PROCESS, Endpoint, Receive, Scope, Send, send_json
from memx_server.routes.ws.connection import refuse_handshake

_SINGLE = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"last-event-id",
        b"origin",
        b"x-api-key",
        b"x-memx-agent",
    }
)
"""Headers that may come once. A proxy that reads the first of two, ahead of a server that reads the last, lets through
what it is there to refuse."""


class HeadGuard:
    """Refuses such requests and handshakes before anything reads them, whatever their path.

    Args:
        app: The application behind the guard.
    """

    def __init__(self, app: Endpoint) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand a request on, or refuse it."""
        error = None if scope["type"] == "lifespan" else _fault_of(scope)
        if error is None:
            return self._app(scope, receive, send)
        return _refuse(error, scope, receive, send)


async def _refuse(error: ProtocolError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()  # the request for the handshake
        await refuse_handshake(scope, send, error)
    else:
        await send_json(send, error.status, error_body(error))


def _fault_of(scope: Scope) -> ProtocolError | None:
    headers = scope["headers"]
    distinct = dict(headers)
    if len(distinct) < len(headers):
        names = [name for name, _ in headers]
        for name in distinct.keys() & _SINGLE:
            if names.count(name) > 1:
                return ProtocolError(
                    "invalid_request",
                    f"the header {name.decode()} comes more than once; send it once",
                    field=name.decode(),
                )
    # A request of HTTP/1.1 without one is refused (RFC 9112, section 3.2).
    if (
        b"host" not in distinct
        and scope["http_version"] != "1.0"
        and IN_PROCESS not in scope.get("extensions", ())
    ):
        return ProtocolError(
            "invalid_request",
            "a request of HTTP/1.1 names its host; send the header Host",
            field="host",
        )
    return None
