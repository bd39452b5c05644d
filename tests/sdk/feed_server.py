"""A feed of a made-up log over real WebSockets, for what a real server does not do on request."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
from collections import Counter
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from tests.sdk.made_up_log import Frame, Space


class FeedServer:
    """Serves ``/subscribe/...`` of a `Space`.

    Attributes:
        space: The log.
        refusals: Answers to the next handshakes, as status and JSON body; when they run out, all pass.
        cut_after: Breaks each stream after so many frames; None leaves them whole.
        queries: The queries of all streams so far.
        headers: The headers of the last handshake.
    """

    def __init__(self, space: Space | None = None) -> None:
        self.space = space or Space()
        self.refusals: list[tuple[int, dict[str, Any]]] = []
        self.cut_after: int | None = None
        self.queries: list[dict[str, str]] = []
        self.paths: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.connections: set[ServerConnection] = set()
        self._grown = asyncio.Condition()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = next(iter(self._server.sockets)).getsockname()[:2]
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, process_request=self._admit, ping_interval=None
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        for connection in self.connections:
            connection.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    async def commit(self, *keys: str, value: Any = None) -> int:
        """Commit a transaction and send it to every stream."""
        revision = self.space.commit(*keys, value=value)
        async with self._grown:
            self._grown.notify_all()
        return revision

    async def close_all(self, code: int = 1012) -> None:
        """Close every stream properly."""
        await asyncio.gather(*(each.close(code) for each in list(self.connections)))

    def abort_all(self) -> None:
        """Drop every connection."""
        for connection in list(self.connections):
            connection.transport.abort()

    async def connected(self, count: int = 1) -> None:
        """Wait until so many streams are open."""
        async with asyncio.timeout(10), self._grown:
            await self._grown.wait_for(lambda: len(self.connections) == count)

    async def reached(self, streams: int) -> None:
        """Wait until so many streams have been opened in all."""
        async with asyncio.timeout(10), self._grown:
            await self._grown.wait_for(lambda: len(self.queries) >= streams)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers = dict(request.headers.raw_items())
        if not self.refusals:
            return None
        status, body = self.refusals.pop(0)
        response = connection.respond(http.HTTPStatus(status), json.dumps(body))
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        parts = urlsplit(connection.request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.queries.append(query)
        self.paths[unquote(parts.path)] += 1
        async with self._opened(connection):
            sent = 0
            async for frame in self._frames(query):
                await connection.send(json.dumps(frame))
                sent += 1
                if sent == self.cut_after:
                    return

    @contextlib.asynccontextmanager
    async def _opened(self, connection: ServerConnection) -> AsyncIterator[None]:
        async with self._grown:
            self.connections.add(connection)
            self._grown.notify_all()
        gone = asyncio.create_task(connection.wait_closed())
        serving = asyncio.current_task()
        assert serving is not None
        gone.add_done_callback(lambda _: serving.cancel())
        try:
            yield
        except asyncio.CancelledError:
            if not gone.done():
                raise
        finally:
            gone.cancel()
            connection.transport.abort()
            self.connections.discard(connection)
            async with self._grown:
                self._grown.notify_all()

    async def _frames(self, query: dict[str, str]) -> AsyncIterator[Frame]:
        sent = self.space.head
        for frame in self.space.opening(query):
            yield frame
        while True:
            async with self._grown:
                while self.space.head == sent:
                    await self._grown.wait()
            sent += 1
            for frame in self.space.frames(sent):
                yield frame
