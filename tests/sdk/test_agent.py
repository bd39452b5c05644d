"""Agents: handlers that run on changes; in both halves, over every transport."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from memx_sdk import Change, ForbiddenError
from tests.sdk.agent_harness import AgentHarness
from tests.sdk.feed_server import FeedServer
from tests.sdk.halves import Beside, Half, Link, make_context
from tests.sdk.streams import DEADLINE, Recorder


@pytest.fixture
async def ctx(link: Link) -> AsyncIterator[Any]:
    async with link.context(agent="one") as opened:
        yield opened


async def test_handlers_run_on_what_they_asked_for(ctx: Any, prefix: str) -> None:
    agent = AgentHarness(ctx)
    agent.on(f"{prefix}:a*")
    agent.on(f"{prefix}:b")
    async with agent:
        for name in ("a1", "c", "b", "a2"):
            await ctx.set(f"{prefix}:{name}", name)
        assert sorted(await agent.holds(3)) == ["a1", "a2", "b"]


async def test_one_key_in_order_and_different_keys_side_by_side(ctx: Any, prefix: str) -> None:
    running: Counter[str] = Counter()
    most = Counter[str]()
    both = threading.Barrier(2)
    lock = threading.Lock()

    def work(change: Change) -> None:
        with lock:
            running[change.key] += 1
            most[change.key] = max(most[change.key], running[change.key])
        if change.value == 0:
            both.wait(DEADLINE)  # passes only if two keys are worked on at the same time
        with lock:
            running[change.key] -= 1

    agent = AgentHarness(ctx)
    agent.on(f"{prefix}:*", work)
    async with agent:
        for number in range(5):
            for name in "ab":
                await ctx.set(f"{prefix}:{name}", number)
        await agent.holds(10)

    assert set(most.values()) == {1}
    for name in "ab":
        values = [each.value for each in agent.handled.items if each.key == f"{prefix}:{name}"]
        assert values == list(range(5))


async def test_no_more_than_so_many_at_the_same_time(ctx: Any, prefix: str) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(_: Change) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    agent = AgentHarness(ctx, concurrency=2)
    agent.on(f"{prefix}:*", work)
    async with agent:
        for number in range(12):
            await ctx.set(f"{prefix}:{number}", number)
        await agent.holds(12)

    assert most == 2


async def test_what_fails_is_tried_again(ctx: Any, prefix: str) -> None:
    attempts: list[int] = []

    def work(change: Change) -> None:
        attempts.append(change.value)
        if attempts.count(1) < 3:
            raise RuntimeError("not yet")

    agent = AgentHarness(ctx)
    agent.on(prefix, work, retries=2)
    async with agent:
        await ctx.set(prefix, 1)
        await ctx.set(prefix, 2)
        assert await agent.holds(2) == [1, 2]

    assert attempts == [1, 1, 1, 2], "the key's next change waits"


async def test_what_fails_for_good_is_handed_to_the_hook(ctx: Any, prefix: str) -> None:
    given_up = Recorder()

    def fail(change: Change) -> None:
        if change.value == 1:
            raise RuntimeError(f"cannot handle {change.value}")

    agent = AgentHarness(ctx)
    hook = lambda change, error: given_up((change.value, str(error)))  # noqa: E731 - short
    agent.on(prefix, fail, retries=0, on_error=hook)
    async with agent:
        await ctx.set(prefix, 1)
        await ctx.set(prefix, 2)
        assert await given_up.holds(1) == [(1, "cannot handle 1")]
        assert await agent.holds(1) == [2]


async def test_and_is_logged_where_there_is_none(
    ctx: Any, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(change: Change) -> None:
        if change.value == 1:
            raise RuntimeError("the model is away")

    agent = AgentHarness(ctx)
    agent.on(prefix, fail, retries=0)
    async with agent:
        await ctx.set(prefix, 1)
        await ctx.set(prefix, 2)
        await agent.holds(1)

    assert "the model is away" in caplog.text
    assert prefix in caplog.text


async def test_stopping_lets_handlers_finish(ctx: Any, prefix: str) -> None:
    started = Recorder()

    def work(change: Change) -> None:
        started(change)
        time.sleep(0.1)

    agent = AgentHarness(ctx)
    agent.on(prefix, work)
    async with agent:
        await ctx.set(prefix, 1)
        await started.holds(1)
    assert await agent.holds(1) == [1]


async def test_run_ends_with_stop_or_with_the_context(
    link: Link, prefix: str, beside: Beside
) -> None:
    for way in ("stop", "context"):
        async with link.context() as ctx:
            agent = AgentHarness(ctx)
            agent.on(f"{prefix}:*")
            running = beside(agent.awaited.run())
            async with asyncio.timeout(DEADLINE):
                while not agent.handled.items:
                    await ctx.set(f"{prefix}:{way}", 1)
                    await asyncio.sleep(0.02)
            if way == "stop":
                await agent.awaited.stop()
        await asyncio.wait_for(running, DEADLINE)


async def test_a_refusal_is_raised_by_run_and_by_start(link: Link, prefix: str) -> None:
    async with link.context("writer_key") as ctx:
        for start in ("run", "start"):
            agent = AgentHarness(ctx)
            agent.on(prefix)
            with pytest.raises(ForbiddenError):
                await getattr(agent.awaited, start)()
            await agent.awaited.stop()


async def test_handlers_are_registered_before_the_start(ctx: Any, prefix: str) -> None:
    agent = AgentHarness(ctx)
    agent.on(prefix)
    async with agent:
        with pytest.raises(RuntimeError):
            agent.on(prefix)
        with pytest.raises(RuntimeError):
            await agent.awaited.start()
    with pytest.raises(ValueError, match="concurrency"):
        AgentHarness(ctx, concurrency=0)


async def test_a_gap_is_reported_when_what_came_before_is_handled(
    half: Half, feed_server: FeedServer
) -> None:
    started, events = Recorder(), Recorder()
    release = threading.Event()
    async with make_context(half, "key", feed_server.url) as ctx:
        agent = AgentHarness(ctx)

        def work(change: Change) -> None:
            started(change)
            release.wait(DEADLINE)
            events(change.key)

        agent.on("*", work, on_reset=events)
        async with agent:
            await feed_server.commit("before")
            await started.holds(1)
            feed_server.space.commit("missed")
            feed_server.space.floor = 2
            feed_server.space.commit("kept")
            feed_server.abort_all()
            await feed_server.reached(2)
            await asyncio.sleep(0.1)  # the gap is known by now, and must not be reported yet
            assert events.items == []
            release.set()
            reported = await events.holds(5)

    assert reported[:2] == ["before", "compacted"]
    assert sorted(reported[2:]) == ["before", "kept", "missed"]
