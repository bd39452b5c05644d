"""Agents: handlers that run on changes; in both halves, over every transport."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from memx_sdk import Change, ForbiddenError, TakenOverError
from tests.sdk.feed_server import FeedServer
from tests.sdk.halves import Half, InThread, Link, make_context
from tests.sdk.streams import DEADLINE, Recorder


@pytest.fixture
async def ctx(link: Link) -> AsyncIterator[Any]:
    async with link.context(agent="one") as opened:
        yield opened


class Desk:
    """An agent of either half, driven by coroutines; its handlers are written once.

    Attributes:
        handled: What the handlers have been called with.
    """

    def __init__(self, ctx: Any, name: str = "critic", concurrency: int = 4) -> None:
        is_sync = isinstance(ctx, InThread)
        target = ctx.target if is_sync else ctx
        self.agent = target.agent(name, concurrency=concurrency)
        self.awaited = InThread(self.agent) if is_sync else self.agent
        self.is_sync = is_sync
        self.handled = Recorder()

    def on(self, pattern: str, work: Callable[[Change], None] | None = None, **wish: Any) -> None:
        """Register a handler that does ``work``, which may block, and then notes the change."""

        def handle(change: Change) -> None:
            if work is not None:
                work(change)
            self.handled(change)

        async def handle_in_thread(change: Change) -> None:
            await asyncio.to_thread(handle, change) if work is not None else handle(change)

        self.agent.on(pattern, **wish)(handle if self.is_sync else handle_in_thread)

    async def holds(self, count: int) -> list[Any]:
        return [change.value for change in await self.handled.holds(count)]

    async def __aenter__(self) -> Desk:
        await self.awaited.start(DEADLINE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.awaited.stop()


async def test_handlers_run_on_what_they_asked_for(ctx: Any, prefix: str) -> None:
    desk = Desk(ctx)
    desk.on(f"{prefix}:a*")
    desk.on(f"{prefix}:b")
    async with desk:
        for name in ("a1", "c", "b", "a2"):
            await ctx.set(f"{prefix}:{name}", name)
        assert sorted(await desk.holds(3)) == ["a1", "a2", "b"]


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

    desk = Desk(ctx)
    desk.on(f"{prefix}:*", work)
    async with desk:
        for number in range(5):
            for name in "ab":
                await ctx.set(f"{prefix}:{name}", number)
        await desk.holds(10)

    assert set(most.values()) == {1}
    for name in "ab":
        values = [each.value for each in desk.handled.items if each.key == f"{prefix}:{name}"]
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

    desk = Desk(ctx, concurrency=2)
    desk.on(f"{prefix}:*", work)
    async with desk:
        for number in range(12):
            await ctx.set(f"{prefix}:{number}", number)
        await desk.holds(12)

    assert most == 2


async def test_what_fails_is_tried_again(ctx: Any, prefix: str) -> None:
    attempts: list[int] = []

    def work(change: Change) -> None:
        attempts.append(change.value)
        if attempts.count(1) < 3:
            raise RuntimeError("not yet")

    desk = Desk(ctx)
    desk.on(prefix, work, retries=2)
    async with desk:
        await ctx.set(prefix, 1)
        await ctx.set(prefix, 2)
        assert await desk.holds(2) == [1, 2]

    assert attempts == [1, 1, 1, 2], "the key's next change waits"


async def test_what_fails_for_good_is_handed_to_the_hook(ctx: Any, prefix: str) -> None:
    given_up = Recorder()

    def fail(change: Change) -> None:
        if change.value == 1:
            raise RuntimeError(f"cannot handle {change.value}")

    desk = Desk(ctx)
    hook = lambda change, error: given_up((change.value, str(error)))  # noqa: E731 - short
    desk.on(prefix, fail, retries=0, on_error=hook)
    async with desk:
        await ctx.set(prefix, 1)
        await ctx.set(prefix, 2)
        assert await given_up.holds(1) == [(1, "cannot handle 1")]
        assert await desk.holds(1) == [2]


async def test_and_is_logged_where_there_is_none(
    ctx: Any, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(change: Change) -> None:
        if change.value == 1:
            raise RuntimeError("the model is away")

    desk = Desk(ctx)
    desk.on(prefix, fail, retries=0)
    async with desk:
        await ctx.set(prefix, 1)
        await ctx.set(prefix, 2)
        await desk.holds(1)

    assert "the model is away" in caplog.text
    assert prefix in caplog.text


async def test_a_hook_that_raises_stops_the_agent_and_the_change_comes_again(
    ctx: Any, prefix: str
) -> None:
    def refuse(_: Change, error: Exception) -> None:
        raise error

    def fail(_: Change) -> None:
        raise ZeroDivisionError

    desk = Desk(ctx, prefix)
    desk.on(f"{prefix}:*", fail, retries=0, on_error=refuse, durable=True)
    running = asyncio.create_task(desk.awaited.run())
    await asyncio.sleep(0.1)
    while not running.done():
        await ctx.set(f"{prefix}:a", 1)
        await asyncio.wait([running], timeout=0.05)
    with pytest.raises(ZeroDivisionError):
        await running

    again = Desk(ctx, prefix)
    again.on(f"{prefix}:*", durable=True)
    async with again:
        assert (await again.holds(1))[0] == 1


async def test_a_durable_handler_goes_on_where_it_stopped(ctx: Any, prefix: str) -> None:
    desk = Desk(ctx, prefix)
    desk.on(f"{prefix}:*", durable=True)
    async with desk:
        await ctx.set(f"{prefix}:a", 1)
        await desk.holds(1)
    await ctx.set(f"{prefix}:b", 2)
    async with desk:  # the same agent may start again
        assert await desk.holds(2) == [1, 2]
        await ctx.set(f"{prefix}:c", 3)
        assert await desk.holds(3) == [1, 2, 3]

    names = [each["name"] for each in await ctx.durable_subscriptions()]
    assert f"{prefix}:{prefix}:*" in names


async def test_what_is_unfinished_is_not_acknowledged(ctx: Any, prefix: str) -> None:
    release = threading.Event()
    first_started = Recorder()

    def work(change: Change) -> None:
        if change.key == f"{prefix}:slow":
            first_started(change)
            release.wait(DEADLINE)
            raise RuntimeError("cut short")

    desk = Desk(ctx, prefix)
    desk.on(f"{prefix}:*", work, durable=True, retries=5)
    async with desk:
        await ctx.set(f"{prefix}:slow", "slow")
        await ctx.set(f"{prefix}:quick", "quick")
        await first_started.holds(1)
        assert await desk.holds(1) == ["quick"]
        stopping = asyncio.create_task(desk.awaited.stop())
        await asyncio.sleep(0.05)
        release.set()
        await stopping

    again = Desk(ctx, prefix)
    again.on(f"{prefix}:*", durable=True)
    async with again:
        assert sorted(await again.holds(2)) == ["quick", "slow"]


async def test_stopping_lets_handlers_finish(ctx: Any, prefix: str) -> None:
    started = Recorder()

    def work(change: Change) -> None:
        started(change)
        time.sleep(0.1)

    desk = Desk(ctx)
    desk.on(prefix, work)
    async with desk:
        await ctx.set(prefix, 1)
        await started.holds(1)
    assert await desk.holds(1) == [1]


async def test_a_newcomer_takes_over_and_the_old_agent_ends(
    ctx: Any, link: Link, prefix: str
) -> None:
    old, newcomer = Desk(ctx, prefix), Desk(ctx, prefix)
    for desk in (old, newcomer):
        desk.on(f"{prefix}:*", durable=prefix)
    running = asyncio.create_task(old.awaited.run())
    async with asyncio.timeout(DEADLINE):
        while not old.handled.items:  # until it is under way
            await ctx.set(f"{prefix}:a", 0)
            await asyncio.sleep(0.02)
    async with newcomer:
        with pytest.raises(TakenOverError):
            await asyncio.wait_for(running, DEADLINE)
        await ctx.set(f"{prefix}:a", 1)
        count = 1
        while (await newcomer.holds(count))[-1] != 1:  # what the old one had not acknowledged
            count += 1


async def test_run_ends_with_stop_or_with_the_context(link: Link, prefix: str) -> None:
    for way in ("stop", "context"):
        async with link.context() as ctx:
            desk = Desk(ctx)
            desk.on(f"{prefix}:*")
            running = asyncio.create_task(desk.awaited.run())
            async with asyncio.timeout(DEADLINE):
                while not desk.handled.items:
                    await ctx.set(f"{prefix}:{way}", 1)
                    await asyncio.sleep(0.02)
            if way == "stop":
                await desk.awaited.stop()
        await asyncio.wait_for(running, DEADLINE)


async def test_a_handler_may_stop_its_agent_and_has_done_its_work(link: Link, prefix: str) -> None:
    async with replace(link, half="sync").context() as ctx:
        agent = ctx.target.agent(prefix)
        seen = Recorder()

        @agent.on(f"{prefix}:*", durable=True)  # type: ignore[untyped-decorator]  # either half's
        def stop(change: Change) -> None:
            seen(change.value)
            agent.stop()

        for number in range(1, 3):
            running = asyncio.create_task(asyncio.to_thread(agent.run))
            async with asyncio.timeout(DEADLINE):
                while prefix not in str(await ctx.durable_subscriptions()):
                    await asyncio.wait([running], timeout=0.02)
            await ctx.set(f"{prefix}:a", number)
            await asyncio.wait_for(running, DEADLINE)
        assert seen.items == [1, 2]


async def test_a_refusal_is_raised_by_run_and_by_start(link: Link, prefix: str) -> None:
    async with link.context("writer_key") as ctx:
        for start in ("run", "start"):
            desk = Desk(ctx)
            desk.on(prefix)
            with pytest.raises(ForbiddenError):
                await getattr(desk.awaited, start)()
            await desk.awaited.stop()


async def test_handlers_are_registered_before_the_start(ctx: Any, prefix: str) -> None:
    desk = Desk(ctx)
    desk.on(prefix)
    async with desk:
        with pytest.raises(RuntimeError):
            desk.on(prefix)
        with pytest.raises(RuntimeError):
            await desk.awaited.start()
    with pytest.raises(ValueError, match="concurrency"):
        Desk(ctx, concurrency=0)


async def test_a_gap_is_told_when_what_came_before_is_handled(
    half: Half, feed_server: FeedServer
) -> None:
    started, events = Recorder(), Recorder()
    release = threading.Event()
    async with make_context(half, "key", feed_server.url) as ctx:
        desk = Desk(ctx)

        def work(change: Change) -> None:
            started(change)
            release.wait(DEADLINE)
            events(change.key)

        desk.on("*", work, on_reset=events)
        async with desk:
            await feed_server.commit("before")
            await started.holds(1)
            feed_server.space.commit("missed")
            feed_server.space.floor = 2
            feed_server.space.commit("kept")
            feed_server.abort_all()
            await feed_server.reached(2)
            await asyncio.sleep(0.1)  # the gap is known by now, and must not be told yet
            assert events.items == []
            release.set()
            told = await events.holds(5)

    assert told[:2] == ["before", "compacted"]
    assert sorted(told[2:]) == ["before", "kept", "missed"]
