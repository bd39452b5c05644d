"""Fixtures of the SDK's tests."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from memx_server.storage.sqlite import SqliteStore

from tests.sdk.feed_server import FeedServer
from tests.sdk.halves import HALVES, Beside, Half, Link, make_context
from tests.support.memx_server import serve_store

TRANSPORTS = ("http", "websocket", "embedded")
GRANTS: dict[str, dict[str, Any]] = {
    "full_key": {"agent": "tester", "read": ["*"], "write": ["*"]},
    "reader_key": {"agent": "reader", "read": ["*"], "write": []},
    "writer_key": {"agent": "writer", "read": [], "write": ["*"]},
}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for the whole run; each test writes under a prefix of its own."""
    with serve_store(SqliteStore(tmp_path_factory.mktemp("sdk") / "memx.db")) as served:
        for key, grant in GRANTS.items():
            read, write = tuple(grant["read"]), tuple(grant["write"])
            served.keys.add(key=key, agent=grant["agent"], read=read, write=write)
        yield served.url


@pytest.fixture(scope="session")
def embedded_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for embedded stores that knows the same API keys as the server."""
    folder = tmp_path_factory.mktemp("embedded")
    (folder / "acl.json").write_text(json.dumps(GRANTS))
    return f"embedded:{folder}"


@pytest.fixture(params=HALVES)
def half(request: pytest.FixtureRequest) -> Any:
    """Runs a test for either half of the SDK."""
    chosen: Half = request.param
    return chosen


@pytest.fixture(params=TRANSPORTS)
def link(half: Half, request: pytest.FixtureRequest) -> Link:
    """Runs a test for either half of the SDK over every transport."""
    by_socket = request.param != "embedded"
    address: str = request.getfixturevalue("base_url" if by_socket else "embedded_url")
    return Link(half, request.param, address)


@pytest.fixture
def prefix() -> str:
    """What a test's keys begin with, so that tests do not meet."""
    return f"t{next(_numbers)}"


@pytest.fixture
async def ctx(link: Link) -> AsyncIterator[Any]:
    """A context of either half, over every transport, that may do everything."""
    async with link.context(agent="one") as opened:
        yield opened


@pytest.fixture
async def beside() -> AsyncIterator[Beside]:
    """Runs calls beside a test; what still runs at its end is cancelled and awaited."""
    running = Beside()
    yield running
    await running.close()


@pytest.fixture
async def http_ctx(half: Half, base_url: str) -> AsyncIterator[Any]:
    """A context of either half, over HTTP, that may do everything."""
    async with make_context(half, "full_key", base_url, agent="one") as opened:
        yield opened


@pytest.fixture
async def feed_server() -> AsyncIterator[FeedServer]:
    """A server of a made-up feed, whose streams break as a test tells it."""
    async with FeedServer() as server:
        yield server
