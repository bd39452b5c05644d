"""Those who are behind: slow ones, returning ones, and those whose past is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from memx_server.domain.feed.feed import Feed
from memx_server.storage.base import Put, Store

from memx_sdk.protocol.cursors import Position, decode_cursor
from tests.feed.conftest import QUICK
from tests.feed.fake_subscriber import Frame, delete, kinds, listening, put, put_all, values, write


async def test_a_slow_one_holds_no_more_than_its_share_and_loses_nothing(
    store: Store, feed: Feed
) -> None:
    async with listening(feed) as quick, listening(feed, queue_bytes=20_000) as slow:
        for number in range(100):
            await put(store, f"k{number}", "x" * 1000)
            assert slow.lane.queue.size <= 20_000 + 1_300  # one packet may pass the limit
            await quick.until(key=f"k{number}")
        heard: list[Frame] = []
        while not heard or heard[-1].get("key") != "k99":
            heard.append(await slow.receive())
            assert slow.lane.queue.size <= 20_000 + 1_300
    assert [key for key, _ in values(heard)] == [f"k{number}" for number in range(100)]
    assert kinds(heard).count("live") == 1
    assert feed.counters.fell_behind > 0


async def test_one_packet_larger_than_the_queue_still_passes(store: Store, feed: Feed) -> None:
    async with listening(feed, queue_bytes=100) as subscriber:
        await put(store, "a", "x" * 1000)
        await put(store, "b", "x" * 1000)
        assert len(values(await subscriber.until(key="b"))) == 2


async def test_what_was_not_sent_of_a_snapshot_survives_an_overflow(
    store: Store, feed: Feed
) -> None:
    for number in range(10):
        await put(store, f"k{number}", "x" * 500)
    async with listening(feed, snapshot=True, queue_bytes=10_000) as subscriber:
        await subscriber.queued("live")
        for number in range(20):
            await put(store, f"n{number}", "x" * 500)
        heard = await subscriber.until(key="n19")
    assert [key for key, _ in values(heard)] == [
        *(f"k{number}" for number in range(10)),
        *(f"n{number}" for number in range(20)),
    ]
    assert kinds(heard).count("live") == 1


@pytest.mark.parametrize("conflate", [False, True])
async def test_the_word_live_survives_an_overflow(store: Store, feed: Feed, conflate: bool) -> None:
    since = await store.head("feed")
    await put(store, "past", "x" * 500)
    async with listening(feed, since=since, queue_bytes=3_000, conflate=conflate) as subscriber:
        if conflate:
            await asyncio.sleep(0.1)
        else:
            await subscriber.queued("live")
        for number in range(20):
            await put(store, f"n{number}", "x" * 500)
        heard = await subscriber.until(key="n19")
        if "live" not in kinds(heard):
            heard += await subscriber.until(event="live")
    assert [key for key, _ in values(heard)] == ["past", *(f"n{n}" for n in range(20))]
    assert kinds(heard).count("live") == 1


async def test_conflated_ones_get_the_newest_state_in_consistent_steps(
    store: Store, feed: Feed
) -> None:
    async with listening(feed, conflate=True) as subscriber:
        await subscriber.until(event="live")
        for number in range(50):
            await put_all(store, {"a": number, "b": number})
        await put(store, "c", 1)
        await put(store, "a", 50)
        await asyncio.sleep(0.05)
        frames = subscriber.take_packet()
    assert values(frames) == [("b", 49), ("c", 1), ("a", 50)]
    assert [frame.get("more", False) for frame in frames] == [True, True, False]
    assert decode_cursor(frames[-1]["cursor"]) == await store.head("feed")


async def test_conflated_ones_that_overflow_still_end_with_the_newest_state(
    store: Store, feed: Feed
) -> None:
    state: dict[str, object] = {}
    async with listening(feed, conflate=True, snapshot=True, queue_bytes=3_000) as subscriber:
        for number in range(60):
            await put(store, f"k{number % 20}", [number, "x" * 200])
            if number % 7 == 0 and subscriber.lane.queue:
                state.update(values(subscriber.take_packet()))
        await delete(store, "k3")
        await put(store, "end", 1)
        await subscriber.until(key="end")
        state.update(values(subscriber.frames))
    assert state.pop("k3") is None
    assert state.pop("end") == 1
    assert {key: value[0] for key, value in state.items()} == {  # type: ignore[index]  # JSON
        f"k{number}": number + 40 for number in range(20) if number != 3
    }


async def test_marks_move_the_cursor_of_those_who_hear_nothing(store: Store, feed: Feed) -> None:
    async with listening(feed, "quiet") as subscriber:
        await subscriber.until(event="live")
        await put(store, "noise", 1)
        mark = await subscriber.receive()
        assert mark["event"] == "mark"
        assert decode_cursor(mark["cursor"]) == await store.head("feed")
        await asyncio.sleep(0.5)
        assert not subscriber.lane.queue  # nothing new to say


async def test_compacted(short_log: Store) -> None:
    feed = Feed(short_log, QUICK)
    await put(short_log, "gone", 0)
    since = await short_log.head("feed")
    await delete(short_log, "gone")
    for number in range(20):
        await put(short_log, f"k{number % 3}", number)
    async with listening(feed, since=since) as subscriber:
        frames = await subscriber.until(event="live")
        await put(short_log, "next", 1)
        await subscriber.until(key="next")
    assert frames[0] == {"event": "reset", "reason": "compacted"}
    assert values(frames[1:-1]) == [("k0", 18), ("k1", 19), ("k2", 17)]
    assert all(frame["snapshot"] and "cursor" not in frame for frame in frames[1:-1])
    assert kinds(subscriber.frames)[-1] == "value"
    await feed.close()


@pytest.mark.parametrize(
    "made_up",
    [
        lambda head: Position("nosuchlineage", head.revision),
        lambda head: Position(head.lineage, head.revision + 1),
        lambda head: Position("nosuchlineage", 0),
    ],
)
async def test_diverged(store: Store, feed: Feed, made_up: Callable[[Position], Position]) -> None:
    await put(store, "k", 1)
    async with listening(feed, since=made_up(await store.head("feed"))) as subscriber:
        frames = await subscriber.until(event="live")
    assert frames[0] == {"event": "reset", "reason": "diverged"}
    assert values(frames) == [("k", 1)]


async def test_a_cursor_of_another_space_is_diverged(store: Store, feed: Feed) -> None:
    await put(store, "k", 1)
    await write(store, Put("k", b"1"), space="other")
    async with listening(feed, since=await store.head("other")) as subscriber:
        frames = await subscriber.until(event="live")
    assert frames[0] == {"event": "reset", "reason": "diverged"}


async def test_a_slow_one_whose_place_is_trimmed_meanwhile_starts_over(short_log: Store) -> None:
    feed = Feed(short_log, QUICK)
    async with listening(feed, queue_bytes=500) as subscriber:
        for number in range(40):
            await put(short_log, f"k{number % 3}", number)
        await put(short_log, "z", 1)
        await subscriber.until(key="z")
    assert {"event": "reset", "reason": "compacted"} in subscriber.frames
    after = subscriber.frames[subscriber.frames.index({"event": "reset", "reason": "compacted"}) :]
    assert dict(values(after)) == {"k0": 39, "k1": 37, "k2": 38, "z": 1}
    await feed.close()


async def test_clients_of_the_original_get_values_and_nothing_else(short_log: Store) -> None:
    feed = Feed(short_log, QUICK)
    async with listening(feed, queue_bytes=500, controls=False) as subscriber:
        for number in range(40):
            await put(short_log, f"k{number % 3}", number)
        await put(short_log, "unkept", "now", log_value=False)
        await put(short_log, "z", 1)
        await subscriber.until(key="z")
    assert set(kinds(subscriber.frames)) == {"value"}
    assert all("value" in frame for frame in subscriber.frames)
    assert dict(values(subscriber.frames)) == {
        "k0": 39,
        "k1": 37,
        "k2": 38,
        "unkept": "now",
        "z": 1,
    }
    await feed.close()


async def test_the_oldest_kept_is_where_those_begin_who_want_all(short_log: Store) -> None:
    feed = Feed(short_log, QUICK)
    for number in range(25):
        await put(short_log, "k", number)
    async with listening(feed, oldest=True) as subscriber:
        frames = await subscriber.until(event="live")
    assert [value for _, value in values(frames)] == list(range(15, 25))
    await feed.close()
