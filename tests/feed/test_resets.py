"""A reset that does not help is followed by a growing pause; nothing above the head is ever shown."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
from memx_server.domain.access import Caller
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.feed.feed import Feed
from memx_server.domain.memory.memory import Memory
from memx_server.domain.requests import ChangesRequest
from memx_server.domain.schema.cache import SchemaCache
from memx_server.evaluation.pool import EvaluationPool
from memx_server.settings import Settings
from memx_server.storage.base import Diverged, LogPage, Record, Store

from memx_sdk.protocol.cursors import Position, decode_cursor, encode_cursor
from memx_sdk.protocol.errors import ProtocolError
from tests.feed.conftest import QUICK
from tests.feed.fake_subscriber import SPACE, kinds, listening, put, reader, values
from tests.feed.faults import FaultyStore


class HalfWay(FaultyStore):
    """A store with a space in which a commit failed half-way.

    Attributes:
        refusing: Whether its log cannot be read from any position.
        above: Records that lie above the head.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.refusing = False
        self.above: list[Record] = []
        self._real = store

    async def log(self, space: str, since: Position | None, limit: int) -> LogPage:
        self.calls["log"] += 1
        if self.refusing:
            raise Diverged
        page = await self._real.log(space, since, limit)
        if not self.above or page.position.revision < page.head:
            return page
        records = [*page.records, *self.above]
        return replace(page, records=records, position=records[-1].position)


@pytest.fixture
def half_way(store: Store) -> HalfWay:
    return HalfWay(store)


def memory_of(store: Store) -> Memory:
    return Memory(
        store, SchemaCache(store), Evaluator(EvaluationPool(1.0), Settings().limits), Settings()
    )


async def test_a_subscriber_whose_resets_do_not_help_pauses_and_goes_on_when_they_do(
    half_way: HalfWay, caplog: pytest.LogCaptureFixture
) -> None:
    await put(half_way, "k", 1)
    feed = Feed(half_way, QUICK)
    half_way.refusing = True
    with caplog.at_level(logging.WARNING):
        async with listening(feed, since=Position("another", 5)) as subscriber:
            for _ in range(100):
                await asyncio.sleep(0.02)
                await put(half_way, "k", 1)  # each notice wakes the hub
            resets = half_way.calls["log"]
            assert 2 <= resets <= 40
            assert feed.counters.fruitless_resets >= 2
            half_way.refusing = False
            frames = await subscriber.until(event="live")
            await put(half_way, "k", "after")
            await subscriber.until(value="after")
    assert kinds(frames).count("reset") <= 10
    assert any("has started over" in each.message for each in caplog.records)
    await feed.close()


async def test_a_hub_that_cannot_read_on_resets_its_listeners_ever_less_often(
    half_way: HalfWay,
) -> None:
    feed = Feed(half_way, QUICK)
    async with listening(feed) as subscriber:
        await subscriber.until(event="live")
        half_way.refusing = half_way.bare = True
        for number in range(100):
            await put(half_way, "k", number)
            await asyncio.sleep(0.02)
        assert half_way.calls["log"] <= 40
        half_way.refusing = half_way.bare = False
        await put(half_way, "k", "after")
        await subscriber.until(value="after")
    await feed.close()


async def test_one_reset_that_helps_is_not_counted(store: Store) -> None:
    feed = Feed(store, QUICK)
    await put(store, "k", 1)
    for _ in range(3):
        async with listening(feed, since=Position("another", 5)) as subscriber:
            assert kinds(await subscriber.until(event="live")) == ["reset", "value", "live"]
    assert feed.counters.fruitless_resets == 0
    await feed.close()


async def test_changes_hand_out_no_cursor_that_is_refused(half_way: HalfWay) -> None:
    await put(half_way, "k", 1)
    memory, caller = memory_of(half_way), Caller(reader())
    lost = ChangesRequest(since=encode_cursor(Position("another", 5)))
    with pytest.raises(ProtocolError) as gap:
        await memory.changes(caller, lost)
    assert gap.value.code == "diverged"
    await memory.changes(caller, ChangesRequest(since=str(gap.value.extra["cursor"])))

    half_way.refusing = True
    with pytest.raises(ProtocolError) as gap:
        await memory.changes(caller, lost)
    assert gap.value.code == "unavailable"
    assert "cursor" not in gap.value.extra


async def test_nobody_is_given_a_record_above_the_head(half_way: HalfWay) -> None:
    await put(half_way, "k", 1)
    head = await half_way.head(SPACE)
    (change,) = (await half_way.log(SPACE, None, 1)).records[0].changes or ()
    above = Position(head.lineage, head.revision + 1)
    half_way.above = [Record(above, head.revision, [replace(change, data=b'{"never":1}')])]

    page = await memory_of(half_way).changes(Caller(reader()), ChangesRequest())
    assert (len(page.changes), decode_cursor(page.cursor), page.more) == (1, head, False)
    feed = Feed(half_way, QUICK)
    for start in ({"oldest": True}, {"snapshot": True}):
        async with listening(feed, **start) as subscriber:  # type: ignore[arg-type]  # of several kinds
            frames = await subscriber.until(event="live")
            assert values(frames) == [("k", 1)]
            assert decode_cursor(frames[-1]["cursor"]) == head
    await feed.close()
