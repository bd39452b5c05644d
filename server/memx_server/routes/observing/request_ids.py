"""The id of a request or a connection: taken from its head, or made, and said in the response.

A proxy in front names requests by ``X-Request-Id``, a tracing client by ``traceparent`` (W3C Trace Context).
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from typing import NamedTuple

from memx_server.routes.asgi import Endpoint, Message, Receive, Scope, Send

_OWN_FORM = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


class RequestId(NamedTuple):
    """What a request, or the connection that it came over, is called.

    Attributes:
        id: Its id.
        trace: The trace that it belongs to; empty where the caller named none.
    """

    id: str
    trace: str = ""


NO_ID = RequestId("-")
current_id: ContextVar[RequestId] = ContextVar("memx_request_id", default=NO_ID)
"""The id of the request that the task works on. The tasks of a connection inherit it."""


class RequestIds:
    """Gives each request and each connection an id, and returns it in ``X-Request-Id``.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: Endpoint) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name a request or a socket, and hand it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        named = _named(scope)
        header = (b"x-request-id", named.id.encode())

        async def send_named(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        before = current_id.set(named)
        try:
            await self._app(scope, receive, send_named)
        finally:
            current_id.reset(before)


def _named(scope: Scope) -> RequestId:
    id, trace = b"", ""
    for name, value in scope["headers"]:
        # What somebody else chose goes into the log and back out: only a form that can break neither is taken.
        if name == b"x-request-id" and _OWN_FORM.fullmatch(value):
            id = value
        elif name == b"traceparent" and (parts := _TRACEPARENT.fullmatch(value)):
            trace = parts[1].decode()
    return RequestId(id.decode() or secrets.token_hex(8), trace)
