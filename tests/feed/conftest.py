"""Stores and feeds for the feed's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from memx_server.domain.feed import Feed
from memx_server.domain.feed_hub import FeedSettings
from memx_server.storage.base import Store
from memx_server.storage.sqlite import SqliteStore

QUICK = FeedSettings(check_seconds=(0.1, 0.2), linger_seconds=0.2)


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    store = SqliteStore(tmp_path / "memory.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def feed(store: Store) -> AsyncIterator[Feed]:
    """A feed on the store that looks at the head often."""
    feed = Feed(store, QUICK)
    yield feed
    await feed.close()
