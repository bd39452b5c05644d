"""Conflated feeds: behind means that the newest of each key is next, and no position is passed too early."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memx_sdk import Change, Reset
from memx_sdk.core.conflation import ConflatedSteps
from memx_sdk.core.subscription import Received
from memx_sdk.core.work_queue import WorkQueue
from tests.sdk.agent_harness import AgentHarness
from tests.sdk.feed_server import FeedServer
from tests.sdk.halves import Half, make_context
from tests.sdk.streams import DEADLINE, Recorder, subscribe, subscribed

WRITES = 2000
SLOW = 0.05


def step(key: str, revision: int) -> Received:
    return Received(Change(event="value", key=key, revision=revision), f"a-{revision}")


def taken(steps: ConflatedSteps) -> tuple[str, int, str | None]:
    received = steps.popleft()
    assert isinstance(received.item, Change)
    return received.item.key, received.item.revision, received.cursor


def test_a_newer_change_takes_the_place_of_the_older_one() -> None:
    steps = ConflatedSteps()
    steps.extend(step(key, revision) for revision, key in enumerate("abaca", start=1))

    assert taken(steps) == ("a", 5, "a-1"), "b at 2 still waits"
    assert taken(steps) == ("b", 2, "a-3"), "c at 4 still waits"
    assert taken(steps) == ("c", 4, "a-5")
    with pytest.raises(IndexError):
        steps.popleft()


def test_a_key_that_changes_all_the_time_gets_its_turn() -> None:
    steps = ConflatedSteps()
    steps.append(step("busy", 1))
    found = []
    for revision in range(2, 100, 2):
        steps.append(step(f"other-{revision % 10}", revision))
        steps.append(step("busy", revision + 1))
        found.append(taken(steps)[0])
    assert found.count("busy") >= 5


def test_positions_alone_move_on_when_nothing_waits() -> None:
    steps = ConflatedSteps()
    steps.append(step("a", 1))
    steps.append(Received(None, "a-7"))
    assert steps.passed("a-0") == "a-0"
    assert taken(steps) == ("a", 1, "a-7")
    steps.append(Received(None, "a-9"))
    assert steps.passed("a-7") == "a-9"
    assert steps.popleft() == Received(None, "a-9")


def test_nothing_passes_a_reset() -> None:
    steps = ConflatedSteps()
    steps.append(step("a", 1))
    steps.append(Received(Reset(event="reset", reason="compacted"), None))
    steps.append(step("a", 9))
    found = [steps.popleft().item for _ in range(3)]
    assert [item.get("revision") for item in found if item is not None] == [1, None, 9]


KEYS = st.sampled_from("abc")
MOVES = st.lists(st.one_of(KEYS, st.none()), max_size=60)


@given(MOVES)
def test_wherever_it_stops_resuming_brings_the_newest_of_every_key(moves: list[str | None]) -> None:
    steps, newest, dealt_with = ConflatedSteps(), dict[str, int](), dict[str, int]()
    revision = 0
    for move in moves:
        if move is not None:
            revision += 1
            newest[move] = revision
            steps.append(step(move, revision))
        elif len(steps):
            key, at, cursor = taken(steps)
            assert at == newest[key], "the newest of each key is next"
            dealt_with[key] = at
            resumed = 0 if cursor is None else int(cursor.removeprefix("a-"))
            for other, last in newest.items():
                assert last > resumed or dealt_with.get(other) == last
    while len(steps):
        key, at, cursor = taken(steps)
        dealt_with[key] = at
    assert dealt_with == newest
    if revision:
        assert steps.passed(cursor) == f"a-{revision}"


@given(st.lists(st.one_of(KEYS, st.integers(0, 5)), max_size=80))
def test_workers_get_the_newest_and_no_cursor_passes_what_is_not_done(
    moves: list[str | int],
) -> None:
    queue, newest, done = WorkQueue(conflate=True), dict[str, int](), dict[str, int]()
    running: list[Any] = []
    revision = 0
    for move in moves:
        if isinstance(move, str):
            revision += 1
            newest[move] = revision
            queue.add(Change(event="value", key=move, revision=revision), f"a-{revision}")
        elif move < 3 and (item := queue.take()) is not None:
            assert item.change is not None
            assert item.change.revision == newest[item.change.key]
            assert item.change.key not in {each.change.key for each in running}
            running.append(item)
        elif running:
            item = running.pop(move % len(running))
            queue.finish(item)
            done[item.change.key] = item.change.revision
        position = 0 if queue.cursor is None else int(queue.cursor.removeprefix("a-"))
        for key, last in newest.items():
            assert last > position or done.get(key) == last
        assert len(queue) <= len(newest) + len(running)


def test_a_slow_worker_lets_no_list_grow() -> None:
    queue = WorkQueue(conflate=True)
    queue.add(Change(event="value", key="slow", revision=1), "a-1")
    slow = queue.take()
    assert slow is not None
    for revision in range(2, 50_000):
        queue.add(Change(event="value", key="busy", revision=revision), f"a-{revision}")
    assert len(queue._arrived) < 1000
    queue.finish(slow)
    assert queue.cursor is not None
    last = queue.take()
    assert last is not None
    queue.finish(last)
    assert queue.cursor == "a-49999"


async def flood(server: FeedServer) -> None:
    for number in range(1, WRITES + 1):
        await server.commit("k", value=number)


async def test_an_iterator_that_is_behind_gets_the_newest_next(
    half: Half, feed_server: FeedServer
) -> None:
    async with subscribed(half, feed_server.url, conflate=True) as changes:
        await changes.ready(DEADLINE)
        await flood(feed_server)
        values: list[int] = []
        started = time.monotonic()
        while not values or values[-1] != WRITES:
            values.append((await changes.next(DEADLINE)).value)
            await asyncio.sleep(SLOW)
    assert time.monotonic() - started < 5.0
    assert values == sorted(values)
    assert len(values) < 60


async def test_a_slow_callback_hears_the_newest_soon(half: Half, feed_server: FeedServer) -> None:
    heard = Recorder()
    waited = threading.Event()

    def slow(change: Change) -> None:
        waited.wait(SLOW)
        heard(change.value)

    async def slow_coroutine(change: Change) -> None:
        await asyncio.sleep(SLOW)
        heard(change.value)

    async with make_context(half, "key", feed_server.url) as ctx:
        callback = slow if half == "sync" else slow_coroutine
        await subscribe(ctx, "*", callback, conflate=True).ready(DEADLINE)
        await flood(feed_server)
        async with asyncio.timeout(5):
            while WRITES not in heard.items:
                await heard.holds(len(heard.items) + 1)
    assert len(heard.items) < 60


async def test_an_agent_that_is_behind_works_on_the_newest(
    half: Half, feed_server: FeedServer
) -> None:
    def work(_: Change) -> None:
        time.sleep(SLOW)

    async with make_context(half, "key", feed_server.url) as ctx:
        agent = AgentHarness(ctx, concurrency=1)
        agent.on("*", work, conflate=True)
        async with agent:
            await flood(feed_server)
            async with asyncio.timeout(5):
                while WRITES not in [change.value for change in agent.handled.items]:
                    await agent.handled.holds(len(agent.handled.items) + 1)
    assert len(agent.handled.items) < 60


async def test_every_key_comes_and_the_newest_of_it_last(ctx: Any, prefix: str) -> None:
    """Over every transport, against a real server."""
    last: dict[str, int] = {}
    async with subscribe(ctx, f"{prefix}:*", conflate=True) as changes:
        await changes.ready(DEADLINE)
        for number in range(1, 101):
            await asyncio.gather(*(ctx.set(f"{prefix}:{key}", number) for key in "abc"))
        count = 0
        while set(last.values()) != {100}:
            change = await changes.next(DEADLINE)
            assert change.value > last.get(change.key, 0)
            last[change.key] = change.value
            count += 1
    assert count < 300
    assert changes.cursor is not None
