"""The writing of responses: a whole JSON response, and how a head and its body leave with one system call."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from memx_server.routes.asgi import Headers, Message, Send

_JSON = (b"content-type", b"application/json")

_JSON_HEADERS = 2
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


def _is_json_head(message: Message) -> bool:
    """Tell whether a message is the head that ``send_json`` makes; its body is the message that follows."""
    headers: Headers = message.get("headers", [])
    return bool(headers) and headers[0] is _JSON


class ResponseCycle(RequestResponseCycle):
    """uvicorn's cycle of a request and its response, which writes a whole JSON response in one step.

    uvicorn makes the head when the application has sent it, before it knows the body, and looks for each header at what
    it might mean. Here the head of ``send_json`` waits for the body, which comes next. All others go uvicorn's way.
    """

    _waiting: Any = None
    _defaults: ClassVar[tuple[Any, bytes]] = (None, b"")
    """uvicorn's headers of every response, and their text. uvicorn makes them anew once a second, for the date."""

    async def send(self, message: Any) -> None:
        """Take the head of the response, or the next part of its body."""
        head, self._waiting = self._waiting, None
        if head is None:
            if message["type"] == "http.response.start" and _is_json_head(message):
                self._waiting = message
            else:
                await super().send(message)
            return
        if self._is_plain(head, message):
            self._write(STATUS_LINE[head["status"]], message["body"])
            return
        # Else it is uvicorn's own, after a fault, in place of the one that waits.
        if message["type"] != "http.response.start":
            await super().send(head)
        await super().send(message)

    def _is_plain(self, head: Any, message: Any) -> bool:
        """Tell whether nothing about a response asks for more than to write it."""
        return (
            self.keep_alive
            and not (self.response_started or self.disconnected or self.flow.write_paused)
            and len(head["headers"]) == _JSON_HEADERS
            and message["type"] == "http.response.body"
            and not message.get("more_body", False)
            and self.scope["method"] != "HEAD"
        )

    def _write(self, status_line: bytes, body: bytes) -> None:
        """Write a response, and begin with the next request."""
        self.waiting_for_100_continue = False
        self.response_started = self.response_complete = True
        headers, defaults = ResponseCycle._defaults
        if headers is not self.default_headers:
            defaults = b"".join(b"%b: %b\r\n" % header for header in self.default_headers)
            ResponseCycle._defaults = (self.default_headers, defaults)
        head = b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.writelines((head % (status_line, defaults, len(body)), body))
        self.message_event.set()
        self.on_response()


class JoiningTransport(asyncio.Transport):
    """A transport that joins two writes of one turn of the event loop.

    uvicorn writes the head of a response and then its body, and uvloop hands each write to the kernel at once: for a
    short response that is a quarter of all that the request costs. Here the first write waits for the second one, at
    the latest until the turn ends.

    Args:
        transport: The connection's transport.
        loop: The event loop whose turns count.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport beneath knows."""
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Return whether it is closed, or about to be."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Stop reading for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def write(self, data: Any) -> None:
        """Write bytes, now or before this turn ends."""
        held, self._held = self._held, None
        if held is not None:
            if (
                not self._transport.is_closing()
            ):  # else uvloop raises, where asyncio drops the bytes
                self._transport.writelines((held, data))
        else:
            self._held = data
            # If a second write comes first, the flush finds nothing; that is cheaper than to cancel it.
            self._loop.call_soon(self._flush)

    def writelines(self, pieces: Any) -> None:
        """Write bytes now, behind those that wait."""
        if self._held is not None:
            self._flush()
        if not self._transport.is_closing():
            self._transport.writelines(pieces)

    def close(self) -> None:
        """Close once all is written."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def release(self) -> asyncio.Transport:
        """Return the transport beneath, with nothing held back."""
        self._flush()
        return self._transport

    def _flush(self) -> None:
        held, self._held = self._held, None
        if held is not None and not self._transport.is_closing():
            self._transport.write(held)
