"""uvicorn's HTTP protocol, able to send a response with one system call.

uvicorn writes the head of a response and then its body, and uvloop hands each write to the kernel at
once: for a short answer that is a quarter of all that the request costs. Here a head waits for its
body until the turn of the event loop ends.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol on a transport that joins a head and its body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to serve a connection."""
        super().connection_made(JoiningTransport(transport, self.loop))

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, with the transport as it came."""
        if isinstance(self.transport, JoiningTransport):
            self.transport = self.transport.release()
        super().handle_websocket_upgrade()


class JoiningTransport(asyncio.Transport):
    """A transport that joins two writes of one turn of the event loop.

    The first is held back until the second comes, at the latest to the end of the turn.

    Args:
        transport: Where the bytes go.
        loop: Whose turns count.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Tell what the transport beneath knows."""
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Tell whether it is closed, or about to be."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def write(self, data: Any) -> None:
        """Write bytes, now or before this turn ends."""
        held, self._held = self._held, None
        if held is not None:
            self._transport.writelines((held, data))
        else:
            self._held = data
            self._loop.call_soon(self._flush)

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
        if held is not None:
            self._transport.write(held)
