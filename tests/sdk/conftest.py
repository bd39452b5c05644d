"""Fixtures of the SDK's tests."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from memx_server.storage.sqlite import SqliteStore

from tests.sdk.feed_server import FeedServer
from tests.sdk.halves import HALVES, Half, make_context
from tests.support.memx_server import serve_store

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for the whole run; each test writes under a prefix of its own."""
    with serve_store(SqliteStore(tmp_path_factory.mktemp("sdk") / "memx.db")) as served:
        served.keys.add(key="full_key")
        served.keys.add(key="reader_key", agent="reader", write=())
        served.keys.add(key="writer_key", agent="writer", read=())
        yield served.url


@pytest.fixture(params=HALVES)
def half(request: pytest.FixtureRequest) -> Any:
    """Runs a test for either half of the SDK."""
    chosen: Half = request.param
    return chosen


@pytest.fixture
def prefix() -> str:
    """What a test's keys begin with, so that tests do not meet."""
    return f"t{next(_numbers)}"


@pytest.fixture(params=["http", "websocket"])
def transport(request: pytest.FixtureRequest) -> str:
    """Runs a test over each transport to a server."""
    return str(request.param)


@pytest.fixture
async def ctx(half: Half, transport: str, base_url: str) -> AsyncIterator[Any]:
    """A context of either half, over either transport, that may do everything."""
    async with make_context(half, "full_key", base_url, agent="one", transport=transport) as opened:
        yield opened


@pytest.fixture
async def feed_server() -> AsyncIterator[FeedServer]:
    """A server of a made-up feed, whose streams break as a test tells it."""
    async with FeedServer() as server:
        yield server
