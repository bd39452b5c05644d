"""One suite for every store: ``store`` and ``backend`` run each test on SQLite and on both Redis versions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
from memx_server.storage.base import Store

from tests.storage.backends import Backend, RedisBackend, SqliteBackend
from tests.storage.redis_cluster import Start, low_port
from tests.support.redis_server import RedisServer, redis_fixtures

OpenStore = Callable[..., Awaitable[Store]]


@pytest.fixture(params=["sqlite", *redis_fixtures()])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Where the data of the test goes."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    return RedisBackend(request.getfixturevalue(request.param).url)


@pytest.fixture
async def open_store(backend: Backend) -> AsyncIterator[OpenStore]:
    """Opens a store with options of its own; closed at the end of the test."""
    async with AsyncExitStack() as opened:

        async def open_one(**options: Any) -> Store:
            store = backend.store(**options)
            await store.open()
            opened.push_async_callback(store.close)
            return store

        yield open_one


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """An open and empty store."""
    return await open_store()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers that end with the test."""
    with ExitStack() as servers:

        def start_one(binary: str, options: dict[str, str]) -> RedisServer:
            server = RedisServer(binary, options)
            server.port = low_port()
            return servers.enter_context(server)

        yield start_one
