"""The hub stays on the log whatever happens to the notices that wake it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from memx_server.domain.feed.feed import Feed
from memx_server.domain.feed.hub import FeedSettings
from memx_server.storage.base import Store, StoreUnavailable

from memx_sdk.protocol.cursors import decode_cursor
from tests.feed.conftest import QUICK
from tests.feed.fake_subscriber import SPACE, listening, put, reader, values
from tests.feed.faults import FaultyStore

BLIND = FeedSettings(check_seconds=(60.0, 60.0))
"""For a feed that has to notice by itself, since it does not look at the head in time."""


@pytest.fixture
def faulty(store: Store) -> FaultyStore:
    """The store, with notices that a test can break."""
    return FaultyStore(store)


@pytest.fixture
async def shaky(faulty: FaultyStore) -> AsyncIterator[Feed]:
    """A feed on the faulty store."""
    feed = Feed(faulty, QUICK)
    yield feed
    await feed.close()


async def test_a_lost_last_notice_is_found_by_looking_at_the_head(
    faulty: FaultyStore, shaky: Feed
) -> None:
    async with listening(shaky) as subscriber:
        faulty.lose = True
        await put(faulty, "k", 1)
        assert values(await subscriber.until(key="k")) == [("k", 1)]


async def test_a_gap_is_repaired_at_the_next_notice(faulty: FaultyStore, store: Store) -> None:
    feed = Feed(faulty, BLIND)
    async with listening(feed) as subscriber:
        faulty.lose = True
        await put(faulty, "a", 1)
        await put(faulty, "b", 2)
        faulty.lose = False
        assert feed.counters.repairs == 0
        await put(faulty, "c", 3)
        assert values(await subscriber.until(key="c")) == [("a", 1), ("b", 2), ("c", 3)]
        assert feed.counters.repairs == 1
    await feed.close()


async def test_a_notice_without_its_changes_is_read_from_the_log(
    faulty: FaultyStore, shaky: Feed
) -> None:
    faulty.bare = True
    async with listening(shaky) as subscriber:
        await put(faulty, "big", "x" * 100_000)
        assert values(await subscriber.until(key="big")) == [("big", "x" * 100_000)]


@pytest.mark.parametrize("seed", range(4))
async def test_scrambled_notices_are_put_in_order(store: Store, seed: int) -> None:
    """Some notices are lost, others come twice, and all of them late and in any order."""
    faulty = FaultyStore(store, seed)
    feed = Feed(faulty, QUICK)
    async with listening(feed) as early:
        faulty.scramble = True
        for number in range(150):
            await put(faulty, f"k{number % 7}", number)
            if number == 70:
                late = listening(feed, queue_bytes=3_000)
                subscriber = await late.__aenter__()
                joined = await store.head("feed")
        await put(faulty, "end", "end")
        whole = values(await early.until(key="end"))
        part = await subscriber.until(key="end")
        await late.__aexit__(None, None, None)
    assert [value for _, value in whole] == [*range(150), "end"]
    after = [f for f in part if f["event"] == "value" and f["revision"] > joined.revision]
    assert values(after) == whole[71:]
    await feed.close()


async def test_who_has_read_ahead_of_the_notices_gets_nothing_twice(
    faulty: FaultyStore, shaky: Feed
) -> None:
    since = await faulty.head("feed")
    async with listening(shaky) as early:
        faulty.delay = 0.05
        for number in range(10):
            await put(faulty, "k", number)
        async with listening(shaky, since=since) as ahead:
            await ahead.until(event="live")
            await early.until(value=9)
            await put(faulty, "end", 1)
            await ahead.until(key="end")
    assert [value for _, value in values(ahead.frames)] == [*range(10), 1]


async def test_a_write_while_a_hub_opens_is_not_missed(faulty: FaultyStore, store: Store) -> None:
    feed = Feed(faulty)  # looks at the head after 5 seconds at the earliest
    faulty.meanwhile = lambda: put(store, "k", 1)
    async with asyncio.timeout(4), listening(feed) as subscriber:
        await subscriber.until(event="live")
        written = (await store.head(SPACE)).revision
        # Its notice may come before the subscriber is there: then that must begin behind it.
        if decode_cursor(subscriber.frames[-1]["cursor"]).revision < written:
            await subscriber.until(key="k")
    await feed.close()


async def test_one_reader_repairs_for_all(faulty: FaultyStore, shaky: Feed) -> None:
    """A hundred subscribers and a flood of notices out of turn do not make a storm of reads."""
    subscribers = [listening(shaky) for _ in range(100)]
    heard = [await each.__aenter__() for each in subscribers]
    faulty.lose = True
    await put(faulty, "lost", 1)
    faulty.lose = False
    faulty.calls.clear()
    for number in range(50):
        await put(faulty, "k", number)
    await put(faulty, "end", 1)
    for subscriber in heard:
        assert len(values(await subscriber.until(key="end"))) == 52
    assert faulty.calls["log"] < 20
    for each in subscribers:
        await each.__aexit__(None, None, None)


async def test_an_outage_is_waited_out(faulty: FaultyStore, shaky: Feed, store: Store) -> None:
    async with listening(shaky) as subscriber:
        await subscriber.until(event="live")
        faulty.lose = faulty.unavailable = True
        await put(store, "a", 1)
        for listener in faulty.listeners:
            listener.on_gap()
        await asyncio.sleep(0.1)
        assert not subscriber.lane.queue
        faulty.lose = faulty.unavailable = False
        assert values(await subscriber.until(key="a")) == [("a", 1)]


async def test_nobody_can_subscribe_while_the_store_is_away(
    faulty: FaultyStore, shaky: Feed
) -> None:
    faulty.unavailable = True
    with pytest.raises(StoreUnavailable):
        async with listening(shaky):
            pass
    faulty.unavailable = False
    async with listening(shaky) as subscriber:
        await subscriber.until(event="live")


async def test_a_hub_closes_some_time_after_its_last_subscriber(
    faulty: FaultyStore, shaky: Feed
) -> None:
    async with listening(shaky):
        pass
    async with listening(shaky):
        assert len(faulty.listeners) == 1
    await asyncio.sleep(2 * QUICK.linger_seconds)
    async with listening(shaky):
        assert len(faulty.listeners) == 2


async def test_spaces_are_apart(store: Store, feed: Feed) -> None:
    async with listening(feed, principal=reader("*", space="elsewhere")) as subscriber:
        await put(store, "k", 1)
        await asyncio.sleep(0.3)
        await subscriber.until(event="live")
        assert not values(subscriber.frames)
        assert not subscriber.lane.queue
