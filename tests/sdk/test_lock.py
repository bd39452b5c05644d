"""Locks that agents share, in both halves, over every transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from memx_sdk import ForbiddenError, LockLostError, MemxTimeout
from tests.sdk.halves import Beside, InThread, Link
from tests.sdk.streams import DEADLINE
from tests.sdk.tcp_proxy import TcpProxy


@pytest.fixture
async def ctx(link: Link) -> AsyncIterator[Any]:
    async with link.context(agent="one") as opened:
        yield opened


def lock(ctx: Any, key: str, ttl: float = 30.0, **options: Any) -> Any:
    """Make a lock in either half; its methods are awaited."""
    if isinstance(ctx, InThread):
        return InThread(ctx.target.lock(key, ttl, **options))
    return ctx.lock(key, ttl, **options)


async def test_one_holder_at_a_time(ctx: Any, prefix: str) -> None:
    inside = 0

    async def work() -> int:
        nonlocal inside
        async with lock(ctx, prefix) as held:
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.01)
            inside -= 1
            return int(held.token)

    async with asyncio.timeout(DEADLINE):
        tokens = await asyncio.gather(*(work() for _ in range(4)))

    assert len(set(tokens)) == 4
    assert await ctx.get(prefix) is None


async def test_tokens_grow_from_holder_to_holder(ctx: Any, prefix: str) -> None:
    tokens = []
    for _ in range(3):
        async with lock(ctx, prefix) as held:
            tokens.append(held.token)
            entry = await ctx.get(prefix)
            assert entry.revision == held.token
            assert entry.value == {"holder": "one"}

    assert tokens == sorted(set(tokens))


async def test_who_waits_is_woken_by_the_release(ctx: Any, prefix: str, beside: Beside) -> None:
    first = lock(ctx, prefix)
    await first.acquire()
    second = lock(ctx, prefix)
    waiting = beside(second.acquire(timeout=DEADLINE))
    await asyncio.sleep(0.2)
    assert not waiting.done()

    released = time.monotonic()
    await first.release()
    await waiting
    assert time.monotonic() - released < 1.0
    assert not second.lost
    await second.release()


async def test_waiting_has_an_end(ctx: Any, prefix: str) -> None:
    async with lock(ctx, prefix):
        with pytest.raises(MemxTimeout, match=prefix):
            await lock(ctx, prefix).acquire(timeout=0.2)
        with pytest.raises(MemxTimeout):
            async with lock(ctx, prefix, timeout=0.1):
                pass


async def test_a_living_holder_keeps_it_far_beyond_its_ttl(ctx: Any, prefix: str) -> None:
    async with lock(ctx, prefix, ttl=0.4) as held:
        assert not await held.wait_lost(timeout=1.2)
        assert not held.lost
        assert (await ctx.get(prefix)).revision == held.token


async def test_a_crashed_holder_frees_it_by_falling_silent(
    ctx: Any, link: Link, prefix: str
) -> None:
    await ctx.set(
        prefix, {"holder": "crashed"}, if_revision=0, ttl=0.5
    )  # and no sign of life after

    async with asyncio.timeout(DEADLINE), lock(ctx, prefix) as held:
        assert (await ctx.get(prefix)).revision == held.token


async def test_a_lock_taken_away_is_noticed(ctx: Any, prefix: str) -> None:
    with pytest.raises(LockLostError):
        async with lock(ctx, prefix, ttl=0.3) as held:
            await ctx.delete(prefix)
            taker = await ctx.set(prefix, "someone else")
            assert await held.wait_lost(timeout=DEADLINE)
            assert held.lost

    entry = await ctx.get(prefix)
    assert entry.revision == taker.revision  # the loser has not released what is another's


async def test_the_block_s_own_error_comes_first(ctx: Any, prefix: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with lock(ctx, prefix, ttl=0.3) as held:
            await ctx.delete(prefix)
            await held.wait_lost(timeout=DEADLINE)
            raise ZeroDivisionError
    async with asyncio.timeout(DEADLINE), lock(ctx, prefix):
        pass


async def test_a_holder_cut_off_for_its_ttl_knows_that_it_has_lost(
    link: Link, base_url: str, prefix: str
) -> None:
    if link.transport == "embedded":
        return  # there is nothing to cut
    async with TcpProxy(base_url) as proxy:
        cut_off = Link(link.half, link.transport, proxy.url)
        async with cut_off.context(timeout=0.3, max_retries=0) as ctx:
            held = lock(ctx, prefix, ttl=0.6)
            await held.acquire()
            proxy.freeze()
            assert await held.wait_lost(timeout=DEADLINE)
            proxy.thaw()
            with pytest.raises(LockLostError):
                await held.release()


async def test_nobody_starves(ctx: Any, prefix: str) -> None:
    turns = dict.fromkeys("abcd", 0)
    over = asyncio.Event()

    async def work(name: str) -> None:
        while not over.is_set():
            async with lock(ctx, prefix):
                turns[name] += 1
                await asyncio.sleep(0.002)
            if min(turns.values()) >= 3:
                over.set()

    async with asyncio.timeout(30):
        await asyncio.gather(*(work(name) for name in turns))

    assert max(turns.values()) <= 20 * min(turns.values())


async def test_a_lock_is_not_taken_twice(ctx: Any, prefix: str) -> None:
    held = lock(ctx, prefix)
    await held.acquire()
    with pytest.raises(RuntimeError):
        await held.acquire()
    await held.release()
    await held.release()
    with pytest.raises(LockLostError):
        _ = held.token
    await held.acquire(timeout=DEADLINE)
    await held.release()


async def test_without_permission_there_is_no_lock(link: Link, prefix: str) -> None:
    async with link.context("reader_key") as ctx:
        with pytest.raises(ForbiddenError):
            await lock(ctx, prefix).acquire(timeout=DEADLINE)


async def test_a_ttl_must_be_positive(ctx: Any, prefix: str) -> None:
    with pytest.raises(ValueError, match="ttl"):
        lock(ctx, prefix, ttl=0)
