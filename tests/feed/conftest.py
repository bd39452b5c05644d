"""Stores and feeds for the feed's tests."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from memx_server.domain.feed.feed import Feed
from memx_server.domain.feed.hub import FeedSettings
from memx_server.storage.base import Store
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore

QUICK = FeedSettings(check_seconds=(0.1, 0.2), linger_seconds=0.2)

MakeStore = Callable[..., Store]
"""Makes a store of the kind that is tested; ``log_max_records`` bounds its log."""


@pytest.fixture(params=["sqlite", "redis"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Each kind of store in turn."""
    if request.param == "sqlite":
        return lambda **options: SqliteStore(tmp_path / "memory.db", **options)
    url = request.getfixturevalue("redis_any").url
    prefix = f"test-{secrets.token_hex(6)}"
    # A busy machine may stop for a second; what that does is tested elsewhere.
    return lambda **options: RedisStore(url, prefix=prefix, timeout=10.0, **options)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[Store]:
    """An empty store."""
    async with AsyncExitStack() as stack:
        store = make_store()
        await store.open()
        stack.push_async_callback(store.close)
        yield store


@pytest.fixture
async def short_log(make_store: MakeStore) -> AsyncIterator[Store]:
    """A store that keeps only the last ten transactions."""
    async with AsyncExitStack() as stack:
        store = make_store(log_max_records=10)
        await store.open()
        stack.push_async_callback(store.close)
        yield store


@pytest.fixture
async def feed(store: Store) -> AsyncIterator[Feed]:
    """A feed on the store that looks at the head often."""
    feed = Feed(store, QUICK)
    yield feed
    await feed.close()
