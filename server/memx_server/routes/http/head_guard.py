"""The guard against heads that name two things where one is meant, or no host at all."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from memx_sdk.protocol.errors import ProtocolError
from memx_server.routes.api.decoding import FORWARDED, KNOWN_HEAD, KnownHead
from memx_server.routes.api.errors import error_body
from memx_server.routes.asgi import IN_PROCESS, Endpoint, Receive, Scope, Send
from memx_server.routes.http.response_writing import send_json
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

    Where a proxy says for whom it asks, uvicorn's middleware notes it before the application is asked. That stands
    here, behind a look at the head, since it costs every request as much as this guard does.

    Args:
        app: The application behind the guard.
        trusted: The addresses of proxies that are believed, as uvicorn's ``forwarded_allow_ips``.
    """

    def __init__(self, app: Endpoint, trusted: str) -> None:
        self._app = app
        self._forwarded: Endpoint = cast(Any, ProxyHeadersMiddleware(cast(Any, app), trusted))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand a request on, or refuse it."""
        if scope["type"] == "lifespan":
            return self._app(scope, receive, send)
        headers = scope["headers"]
        known: KnownHead | None = scope["state"].get(KNOWN_HEAD) if "state" in scope else None
        if known is not None and known.matches(headers):
            scope[KNOWN_HEAD] = known
            if known.is_forwarded:
                return self._forwarded(scope, receive, send)
            return self._app(scope, receive, send)
        distinct = dict(headers)
        error = _fault_of(scope, distinct)
        if error is not None:
            return _refuse(error, scope, receive, send)
        if FORWARDED.isdisjoint(distinct):
            return self._app(scope, receive, send)
        return self._forwarded(scope, receive, send)


async def _refuse(error: ProtocolError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()  # the request for the handshake
        await refuse_handshake(scope, send, error)
    else:
        await send_json(send, error.status, error_body(error))


def _fault_of(scope: Scope, distinct: Mapping[bytes, bytes]) -> ProtocolError | None:
    headers = scope["headers"]
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
