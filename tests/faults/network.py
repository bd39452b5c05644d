"""A faulty network between memX and Redis: connections cut, replies dropped, held and late."""

from __future__ import annotations

import asyncio
from typing import Self


class FaultyLink:
    """A TCP proxy in front of one Redis.

    Args:
        upstream: The port of the Redis server on this machine.

    Attributes:
        passed: Bytes of replies that went through.
        harmed: Connections that a fault has cut, or on which it dropped or held replies.
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._dropping = False
        self.passed = 0
        self.harmed = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listener is not None
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> int:
        """Reset every connection, in the middle of whatever is on its way; return how many there were."""
        writers, self._writers = self._writers, set()
        for writer in writers:
            writer.transport.abort()
        self.harmed += len(writers)
        return len(writers)

    def hold(self) -> None:
        """Keep replies back; commands still reach Redis."""
        self._flowing.clear()

    def release(self) -> None:
        """Let what was kept back go on its way."""
        self._dropping = False
        self._flowing.set()

    def drop(self) -> None:
        """Lose replies, with the connection that they come on; commands still reach Redis."""
        self._dropping = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, thither = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, thither}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._commands(reader, thither))
                both.create_task(self._replies(there, writer))
        except* (ConnectionError, EOFError, OSError, asyncio.CancelledError):
            pass  # what cancels it is ``__aexit__`` alone, which waits for its end
        finally:
            self._writers -= {writer, thither}
            writer.transport.abort()
            thither.transport.abort()

    async def _commands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        raise EOFError

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._dropping:
                self.harmed += 1
                raise EOFError
            if not self._flowing.is_set():
                self.harmed += 1
                await self._flowing.wait()
            self.passed += len(data)
            writer.write(data)
            await writer.drain()
        raise EOFError
