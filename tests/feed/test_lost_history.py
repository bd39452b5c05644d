"""When Redis loses what it had acknowledged, subscribers are told so, at once and by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from memx_server.domain.feed.feed import Feed
from memx_server.storage.base import Store, StoreUnavailable
from memx_server.storage.redis import RedisStore

from tests.feed.conftest import QUICK
from tests.feed.fake_subscriber import kinds, listening, put, values
from tests.support.redis_server import RedisServer, newest_redis

RESET = {"event": "reset", "reason": "diverged"}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of its own that keeps nothing on disk."""
    with RedisServer(newest_redis()) as server:
        yield server


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[Store]:
    """A store on it."""
    store = RedisStore(redis.url)
    await store.open()
    yield store
    await store.close()


async def _lose_by_flush(redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()


async def _lose_by_crash(redis: RedisServer) -> None:
    redis.kill()
    await asyncio.to_thread(redis.start)


@pytest.mark.parametrize("lose", [_lose_by_flush, _lose_by_crash])
async def test_a_live_subscriber_starts_over_before_anything_is_written(
    redis: RedisServer, store: Store, feed: Feed, lose: Callable[[RedisServer], Awaitable[None]]
) -> None:
    async with (
        listening(feed) as subscriber,
        listening(feed, conflate=True) as newest,
        listening(feed, controls=False) as original,
    ):
        await put(store, "k", "lost")
        for each in (subscriber, newest, original):
            await each.until(key="k")
        await lose(redis)
        for each in (subscriber, newest):
            frames = await each.until(event="live")
            assert frames == [RESET, frames[-1]]
        await _put_when_possible(store, "k", "new")
        for each in (subscriber, newest, original):
            assert values(await each.until(value="new")) == [("k", "new")]
        assert kinds(original.frames) == ["value", "value"]


async def test_a_cursor_of_the_lost_history_is_diverged(
    redis: RedisServer, store: Store, feed: Feed
) -> None:
    await put(store, "k", "lost")
    since = await store.head("feed")
    await _lose_by_flush(redis)
    await put(store, "k", "new")
    async with listening(feed, since=since) as subscriber:
        frames = await subscriber.until(event="live")
    assert frames[0] == RESET
    assert values(frames) == [("k", "new")]


async def test_a_slow_one_learns_it_too(redis: RedisServer, store: Store, feed: Feed) -> None:
    async with listening(feed, queue_bytes=300) as subscriber:
        for number in range(20):
            await put(store, "k", number)
        await _lose_by_flush(redis)
        await put(store, "k", "new")
        assert (await subscriber.until(value="new", snapshot=True))[-2] == RESET
        await subscriber.until(event="live")


async def _put_when_possible(store: Store, key: str, value: str) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                await put(store, key, value)
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.fixture
async def feed(store: Store) -> AsyncIterator[Feed]:
    """A feed that looks at the head often."""
    feed = Feed(store, QUICK)
    yield feed
    await feed.close()
