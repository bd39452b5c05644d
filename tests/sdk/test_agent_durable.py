"""Agents that go on where they stopped; in both halves, over every transport."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from memx_sdk import Change, TakenOverError
from tests.sdk.agent_harness import AgentHarness
from tests.sdk.halves import Beside, Link
from tests.sdk.streams import DEADLINE, Recorder


@pytest.fixture
async def ctx(link: Link) -> AsyncIterator[Any]:
    async with link.context(agent="one") as opened:
        yield opened


async def test_a_hook_that_raises_stops_the_agent_and_the_change_comes_again(
    ctx: Any, prefix: str, beside: Beside
) -> None:
    def refuse(_: Change, error: Exception) -> None:
        raise error

    def fail(_: Change) -> None:
        raise ZeroDivisionError

    agent = AgentHarness(ctx, prefix)
    agent.on(f"{prefix}:*", fail, retries=0, on_error=refuse, durable=True)
    running = beside(agent.awaited.run())
    await asyncio.sleep(0.1)
    while not running.done():
        await ctx.set(f"{prefix}:a", 1)
        await asyncio.wait([running], timeout=0.05)
    with pytest.raises(ZeroDivisionError):
        await running

    again = AgentHarness(ctx, prefix)
    again.on(f"{prefix}:*", durable=True)
    async with again:
        assert (await again.holds(1))[0] == 1


async def test_a_durable_handler_goes_on_where_it_stopped(ctx: Any, prefix: str) -> None:
    agent = AgentHarness(ctx, prefix)
    agent.on(f"{prefix}:*", durable=True)
    async with agent:
        await ctx.set(f"{prefix}:a", 1)
        await agent.holds(1)
    await ctx.set(f"{prefix}:b", 2)
    async with agent:  # the same agent may start again
        assert await agent.holds(2) == [1, 2]
        await ctx.set(f"{prefix}:c", 3)
        assert await agent.holds(3) == [1, 2, 3]

    names = [each["name"] for each in await ctx.durable_subscriptions()]
    assert f"{prefix}:{prefix}:*" in names


async def test_what_is_unfinished_is_not_acknowledged(
    ctx: Any, prefix: str, beside: Beside
) -> None:
    release = threading.Event()
    first_started = Recorder()

    def work(change: Change) -> None:
        if change.key == f"{prefix}:slow":
            first_started(change)
            release.wait(DEADLINE)
            raise RuntimeError("cut short")

    agent = AgentHarness(ctx, prefix)
    agent.on(f"{prefix}:*", work, durable=True, retries=5)
    async with agent:
        await ctx.set(f"{prefix}:slow", "slow")
        await ctx.set(f"{prefix}:quick", "quick")
        await first_started.holds(1)
        assert await agent.holds(1) == ["quick"]
        stopping = beside(agent.awaited.stop())
        await asyncio.sleep(0.05)
        release.set()
        await stopping

    again = AgentHarness(ctx, prefix)
    again.on(f"{prefix}:*", durable=True)
    async with again:
        assert sorted(await again.holds(2)) == ["quick", "slow"]


async def test_a_newcomer_takes_over_and_the_old_agent_ends(
    ctx: Any, link: Link, prefix: str, beside: Beside
) -> None:
    old, newcomer = AgentHarness(ctx, prefix), AgentHarness(ctx, prefix)
    for agent in (old, newcomer):
        agent.on(f"{prefix}:*", durable=prefix)
    running = beside(old.awaited.run())
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


async def test_a_handler_may_stop_its_agent_and_has_done_its_work(
    link: Link, prefix: str, beside: Beside
) -> None:
    async with replace(link, half="sync").context() as ctx:
        agent = ctx.target.agent(prefix)
        seen = Recorder()

        @agent.on(f"{prefix}:*", durable=True)  # type: ignore[untyped-decorator]  # either half's
        def stop(change: Change) -> None:
            seen(change.value)
            agent.stop()

        async def has_begun() -> bool:
            listed = {each["name"]: each for each in await ctx.durable_subscriptions()}
            return bool(listed.get(f"{prefix}:{prefix}:*", {}).get("cursor"))

        for number in range(1, 3):
            running = beside(asyncio.to_thread(agent.run))
            async with asyncio.timeout(DEADLINE):  # a new name gets what comes after it has begun
                while not await has_begun():
                    await asyncio.wait([running], timeout=0.02)
            await ctx.set(f"{prefix}:a", number)
            await asyncio.wait_for(running, DEADLINE)
        assert seen.items == [1, 2]
