"""What the tests of the Redis store share: servers of their own, stores on them, a proxy that loses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from memx_server.storage.base import (
    Compacted,
    Diverged,
    Store,
    StoreUnavailable,
)
from memx_server.storage.redis import RedisStore

from memx_sdk.protocol.cursors import Position
from tests.storage.helpers import SPACE, eventually
from tests.support.redis_server import RedisServer


@asynccontextmanager
async def opened(server: RedisServer, **options: Any) -> AsyncIterator[RedisStore]:
    """An open store on ``server``."""
    store = RedisStore(server.url, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def verdict(store: Store, since: Position) -> str:
    """What becomes of a reader that resumes: ``resumes``, ``compacted`` or ``diverged``."""
    try:
        await store.log(SPACE, since, 10)
    except Compacted:
        return "compacted"
    except Diverged:
        return "diverged"
    return "resumes"


async def answers(store: Store) -> bool:
    """Whether the store can be reached; for ``eventually``."""
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True


async def restarted(store: Store, server: RedisServer) -> None:
    """Let a killed server start again, and the store find it."""
    server.kill()
    server.start()
    await eventually(lambda: answers(store))


class LossyProxy:
    """Stands between a store and Redis; while ``losing``, what Redis says is lost with the connection."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self.losing = False

    @property
    def url(self) -> str:
        assert self._listener is not None
        return f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> LossyProxy:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        for task in (
            asyncio.create_task(self._pump(reader, redis_writer, loses=False)),
            asyncio.create_task(self._pump(redis_reader, writer, loses=True)),
        ):
            self._tasks.add(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, loses: bool
    ) -> None:
        try:
            while (data := await reader.read(65536)) and not (loses and self.losing):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
