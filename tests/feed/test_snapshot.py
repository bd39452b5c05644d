"""A snapshot is the state of one moment, however long it takes to read."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from random import Random

import pytest
from memx_server.domain.feed.feed import Feed
from memx_server.domain.feed.hub import FeedSettings
from memx_server.storage.base import DeleteSchema, Put, PutSchema, Store

from memx_sdk.protocol.cursors import decode_cursor
from tests.feed.fake_subscriber import Frame, kinds, listening, put, put_all, reader, values, write
from tests.feed.faults import FaultyStore

ACCOUNTS = [f"account:{number}" for number in range(30)]
TOTAL = 100 * len(ACCOUNTS)


class _Bank:
    """Moves money between accounts, of which transactions only ever change two."""

    def __init__(self, store: Store, *, log_values: bool) -> None:
        self._store = store
        self._log_values = log_values
        self._balances = dict.fromkeys(ACCOUNTS, 100)
        self._random = Random(7)
        self.by_revision: dict[int, dict[str, int]] = {}
        self.closed = False

    async def open(self) -> None:
        await self._write(ACCOUNTS)

    async def run(self) -> None:
        while not self.closed:
            giver, taker = self._random.sample(ACCOUNTS, 2)
            self._balances[giver] -= 1
            self._balances[taker] += 1
            await self._write([giver, taker])

    async def _write(self, keys: list[str]) -> None:
        puts = [Put(k, b"%d" % self._balances[k], log_value=self._log_values) for k in keys]
        committed = await write(self._store, *puts)
        self.by_revision[committed.position.revision] = dict(self._balances)


@pytest.mark.parametrize("log_values", [True, False])
async def test_it_is_of_one_moment_while_transactions_run(store: Store, log_values: bool) -> None:
    faulty = FaultyStore(store)  # which lets others run at each read
    faulty.page, faulty.pause = 7, 0.001
    feed = Feed(faulty)
    bank = _Bank(store, log_values=log_values)
    await bank.open()
    running = asyncio.create_task(bank.run())
    states: dict[int, dict[str, int]] = {}
    for _ in range(25):
        async with listening(feed, "account:*", snapshot=True) as subscriber:
            frames = await subscriber.until(event="live")
        snapshot = dict(values(frame for frame in frames if frame.get("snapshot")))
        assert sum(snapshot.values()) == TOTAL
        states[_revision(frames)] = _replayed(snapshot, frames)
        await asyncio.sleep(0.002)
    bank.closed = True
    await running
    await feed.close()
    assert len(states) > 5
    assert feed.counters.fruitless_resets == 0  # to catch up with a busy log is no reset
    if log_values:
        assert states == {revision: bank.by_revision[revision] for revision in states}


def _replayed(snapshot: dict[str, int], frames: list[Frame]) -> dict[str, int]:
    return {**snapshot, **dict(values(f for f in frames if not f.get("snapshot")))}


def _revision(frames: list[Frame]) -> int:
    return decode_cursor(frames[-1]["cursor"]).revision


async def test_it_is_followed_by_every_later_change_once(store: Store) -> None:
    faulty = FaultyStore(store)
    faulty.page, faulty.pause = 1, 0.001
    feed = Feed(faulty)

    async def count() -> None:
        for number in itertools.count():
            await put(store, "abc"[number % 3], number)
            if done.is_set():
                return

    done = asyncio.Event()
    counting = asyncio.create_task(count())
    for _ in range(5):
        async with listening(feed, snapshot=True) as subscriber:
            await subscriber.until(event="live")
            for _ in range(10):
                await subscriber.receive()
        state = [f["value"] for f in subscriber.frames if f.get("snapshot")]
        events = [f["value"] for f in subscriber.frames if "action" in f and not f.get("snapshot")]
        first = max(state, default=-1) + 1
        assert events == list(range(first, first + len(events)))
        assert len(events) >= 10
    done.set()
    await counting
    await feed.close()


async def test_it_shows_no_more_than_may_be_read(store: Store, feed: Feed) -> None:
    await put_all(store, {"open:a": 1, "closed:a": 2, "open:b": 3})
    async with listening(feed, principal=reader("open:*"), snapshot=True) as subscriber:
        assert values(await subscriber.until(event="live")) == [("open:a", 1), ("open:b", 3)]


async def test_one_key(store: Store, feed: Feed) -> None:
    await put_all(store, {"a": 1, "ab": 2})
    async with listening(feed, "a", snapshot=True) as subscriber:
        (entry, live) = await subscriber.until(event="live")
    assert entry == {
        "event": "value",
        "action": "set",
        "snapshot": True,
        "key": "a",
        "value": 1,
        "revision": (await store.head("feed")).revision,
        "version": 1,
        "ts": entry["ts"],
        "writer": "w",
        "expires_at": None,
    }
    assert decode_cursor(live["cursor"]) == await store.head("feed")


async def test_nothing(store: Store, feed: Feed) -> None:
    async with listening(feed, snapshot=True) as subscriber:
        assert kinds(await subscriber.until(event="live")) == ["live"]


async def test_schemas_come_with_it_where_they_are_asked_for(store: Store, feed: Feed) -> None:
    await write(store, PutSchema("k", b"true"), PutSchema("j", b"false"))
    await write(store, DeleteSchema("j"))
    await put(store, "k", 1)
    async with listening(feed, event="all", snapshot=True) as subscriber:
        schema, value, live = await subscriber.until(event="live")
    assert schema == {
        "event": "schema",
        "action": "schema",
        "key": "k",
        "schema": True,
        "snapshot": True,
    }
    assert value["key"] == "k"
    assert live["event"] == "live"


async def test_one_reading_serves_all_who_ask_meanwhile(store: Store) -> None:
    faulty = FaultyStore(store)
    feed = Feed(faulty)
    await put(store, "k", 1)
    async with listening(feed):
        faulty.calls.clear()
        async with AsyncExitStack() as stack:
            subscribers = [
                await stack.enter_async_context(listening(feed, snapshot=True)) for _ in range(50)
            ]
            for subscriber in subscribers:
                await subscriber.until(event="live")
            assert faulty.calls["list"] == 1
    await feed.close()


async def test_one_that_is_too_large_is_refused(store: Store) -> None:
    feed = Feed(store, FeedSettings(snapshot_bytes=1000))
    await put(store, "k", "x" * 2000)
    async with listening(feed, snapshot=True) as subscriber:
        failure = await subscriber.failed()
    assert failure.code == "too_large"
    assert failure.extra["limit"] == 1000
    await feed.close()
