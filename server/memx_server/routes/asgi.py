"""The types of ASGI, and the whole JSON response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]

IN_PROCESS = "memx.in_process"
"""Among the ``extensions`` of a scope: the call comes from the server's own process and not from a network."""

OAUTH_SUBJECT = "memx.oauth_subject"
"""Among the ``extensions`` of a call from the server's own process: whom a token names that was checked."""

Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")

JSON_HEADERS = 2
"""The headers that ``send_json`` makes by itself: the type and the length of the body."""


async def send_json(
    send: Send,
    status: int,
    body: bytes,
    headers: Headers | None = None,
    *,
    piece: int | None = None,
) -> None:
    """Send a whole JSON response over HTTP.

    Args:
        send: The ASGI callable of the request.
        status: The HTTP status.
        body: JSON text.
        headers: Further headers.
        piece: Bytes of the body to send at once; None for all. Behind each piece but the last one a server waits
            for a client that reads slowly.
    """
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [_JSON, (b"content-length", b"%d" % len(body)), *(headers or ())],
        }
    )
    if piece is not None:
        for start in range(0, len(body), piece):
            part, more = body[start : start + piece], start + piece < len(body)
            await send({"type": "http.response.body", "body": part, "more_body": more})
        return
    await send({"type": "http.response.body", "body": body})


def is_json_head(message: Message) -> bool:
    """Tell whether a message is the head that ``send_json`` makes; its body is the message that follows."""
    headers: Headers = message.get("headers", [])
    return bool(headers) and headers[0] is _JSON
