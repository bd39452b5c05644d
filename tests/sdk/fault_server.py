"""A TCP proxy before a real server that breaks requests and replies on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

Fault = Literal[
    "pass",
    "lose_request",  # hang up before the server sees it
    "lose_reply",  # the server acts, its reply never arrives
    "cut_reply",  # half of the reply arrives
    "garble_reply",  # something that is not HTTP arrives
    "stall",  # the server acts, then there is silence
    "proxy_error",  # a proxy's page arrives in place of the reply
]
FAULTS: tuple[Fault, ...] = (
    "lose_request",
    "lose_reply",
    "cut_reply",
    "garble_reply",
    "stall",
    "proxy_error",
)

_LEAVE_SECONDS = 5.0
_PAGE = b"<html>Bad Gateway</html>"
_PROXY_ERROR = (
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n%s"
)


class FaultProxy:
    """Passes HTTP requests on to a server; breaks the next ones as ``plan`` says.

    ``seen`` counts requests, ``accepted`` connections; ``busy`` is set by the first request.

    Args:
        upstream: The base URL of the server.
        plan: A fault for each request; when it runs out, requests pass.
        port: Where to listen; 0 takes a free one.
    """

    def __init__(self, upstream: str, plan: Iterable[Fault] = (), *, port: int = 0) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self.plan = iter(plan)
        self.seen = 0
        self.accepted = 0
        self.busy = asyncio.Event()
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def alone(self) -> None:
        """Return when no client is connected any more."""
        async with asyncio.timeout(_LEAVE_SECONDS):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        task.add_done_callback(self._tasks.discard)
        try:
            while request := await _read_message(reader):
                self.seen += 1
                self.busy.set()
                await self._answer(request, next(self.plan, "pass"), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            writer.transport.abort()

    async def _answer(
        self,
        request: bytes,
        fault: Fault,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if fault == "lose_request":
            raise ConnectionResetError
        reply = await self._forward(request)
        if fault == "lose_reply":
            raise ConnectionResetError
        if fault == "stall":
            await reader.read(1)  # until the client hangs up
            raise ConnectionResetError
        shown: dict[Fault, Callable[[], bytes]] = {
            "cut_reply": lambda: reply[: len(reply) // 2],
            "garble_reply": lambda: b"\x00\x01 no HTTP\r\n\r\n",
            "proxy_error": lambda: _PROXY_ERROR % (len(_PAGE), _PAGE),
        }
        writer.write(shown.get(fault, lambda: reply)())
        await writer.drain()
        if fault in ("cut_reply", "garble_reply"):
            raise ConnectionResetError

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request)
            await writer.drain()
            return await _read_message(reader)
        finally:
            writer.close()


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    """Read one HTTP message with its body; empty at the end of the stream."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head + await reader.readexactly(length)
