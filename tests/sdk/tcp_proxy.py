"""A TCP proxy that drops connections, or lets nothing more through."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class TcpProxy:
    """Passes bytes on.

    Attributes:
        accepting: Whether new connections are let in.
        connections: How many there have been.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()
        self.accepting = True
        self.connections = 0

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def reached(self, connections: int) -> None:
        """Wait until there have been so many connections."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: self.connections >= connections)

    def freeze(self) -> None:
        """Let nothing through, and tell nobody: connections are half open from now on."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything through again."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if not self.accepting:
            writer.transport.abort()
            return
        async with self._changed:
            self.connections += 1
            self._changed.notify_all()
        there, thither = await asyncio.open_connection(*self._upstream)
        self._writers |= {writer, thither}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, thither))
                both.create_task(self._pass_on(there, writer))
        except* (ConnectionError, EOFError):
            pass
        finally:
            self._writers -= {writer, thither}
            writer.transport.abort()
            thither.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        raise EOFError
