"""Connections are kept, shared by threads and tasks, and never left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from memx_sdk import AsyncMemxContext, MemxClosedError, memxContext
from tests.sdk.fault_server import FaultProxy
from tests.sdk.halves import Beside, Half, Link, make_context

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def proxy(base_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(base_url) as standing:
        yield standing


async def test_one_connection_serves_many_requests(
    half: Half, proxy: FaultProxy, prefix: str
) -> None:
    async with make_context(half, "full_key", proxy.url) as ctx:
        for number in range(5):
            await ctx.set(prefix, number)
            await ctx.get(prefix)
        assert (proxy.seen, proxy.accepted) == (10, 1)
    await proxy.alone()


async def test_threads_and_tasks_share_a_context(
    half: Half, proxy: FaultProxy, prefix: str
) -> None:
    async with make_context(half, "full_key", proxy.url) as ctx:
        await asyncio.gather(*(ctx.increment(prefix) for _ in range(100)))
        assert (await ctx.get(prefix)).value == 100
        assert proxy.accepted <= 100
    await proxy.alone()


async def test_a_dropped_context_leaves_no_connection(proxy: FaultProxy, prefix: str) -> None:
    def forgetful() -> None:
        memxContext("full_key", proxy.url).set(prefix, 1)
        gc.collect()

    await asyncio.to_thread(forgetful)
    assert proxy.accepted == 1
    await proxy.alone()


async def test_a_program_that_closes_nothing_ends(base_url: str, prefix: str) -> None:
    program = f"""
from memx_sdk import memxContext
ctx = memxContext()
ctx.subscribe("{prefix}:*", print)
ctx.set("{prefix}", 1)
print(ctx.get("{prefix}")["value"])
"""
    environ = {**os.environ, "MEMX_BASE_URL": base_url, "MEMX_API_KEY": "full_key"}
    environ["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-W", "error", "-c", program]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=20)

    ended = await asyncio.to_thread(run)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "1", "")


def test_an_async_context_serves_one_event_loop_after_another(base_url: str, prefix: str) -> None:
    ctx = AsyncMemxContext("full_key", base_url)
    for number in range(1, 4):
        assert asyncio.run(ctx.increment(prefix)).value == number
    asyncio.run(ctx.aclose())


def test_a_context_made_outside_of_a_loop_is_usable_inside(base_url: str, prefix: str) -> None:
    ctx = AsyncMemxContext("full_key", base_url)

    async def use() -> Any:
        async with ctx:
            await ctx.set(prefix, 1)
            return await ctx.get(prefix)

    assert asyncio.run(use()).value == 1


def test_many_threads_at_once(base_url: str, prefix: str) -> None:
    before = threading.active_count()
    with memxContext("full_key", base_url) as ctx, ThreadPoolExecutor(16) as pool:
        revisions = list(pool.map(lambda _: ctx.increment(prefix).revision, range(200)))
        assert len(set(revisions)) == 200
        assert ctx.increment(prefix)["value"] == 201
    assert threading.active_count() == before


async def test_cancelling_a_call_leaves_the_context_usable(
    base_url: str, prefix: str, beside: Beside
) -> None:
    async with (
        FaultProxy(base_url, ["stall"]) as proxy,
        AsyncMemxContext("full_key", proxy.url) as ctx,
    ):
        writing = beside(ctx.set(prefix, 1))
        await asyncio.wait_for(proxy.busy.wait(), 5)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert (await ctx.increment(f"{prefix}:n")).value == 1


async def test_closing_ends_a_call_that_waits(link: Link, beside: Beside) -> None:
    ctx = link.context()
    start = await ctx.cursor()
    waiting = beside(ctx.changes(since=start, wait=1))
    await asyncio.sleep(0.1)  # let it reach the server
    await ctx.aclose()
    with pytest.raises(MemxClosedError):
        await asyncio.wait_for(waiting, 5)


async def test_agents_may_have_names_of_every_script(link: Link, prefix: str) -> None:
    async with link.context(agent="Zoë 日本") as ctx:
        await ctx.set(prefix, 1)
        assert (await ctx.get(prefix)).writer == "tester/Zoë 日本"


def test_environment_variables_say_where_and_who(
    base_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMX_BASE_URL", base_url + "/")
    monkeypatch.setenv("MEMX_API_KEY", "full_key")
    with memxContext(agent="env") as ctx:
        assert ctx.set(prefix, 1).updated is True
        assert ctx.history(prefix)[0]["writer"] == "tester/env"
        assert (ctx.base_url, ctx.api_key) == (base_url, "full_key")
        assert repr(ctx) == f"memxContext(base_url={base_url!r}, agent='env')"


async def test_no_log_shows_the_api_key(
    link: Link, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with link.context() as ctx:
        watching = ctx.target if link.half == "sync" else ctx
        subscription = watching.subscribe(f"{prefix}:*")
        ready = subscription.ready(10) if link.half == "async" else None
        await (ready or asyncio.to_thread(subscription.ready, 10))
        await ctx.set(prefix, 1)
    assert "full_key" not in caplog.text


def test_what_is_not_used_is_not_imported(base_url: str) -> None:
    program = f"""
import sys
import memx_sdk
assert not {{"httpx", "websockets", "asyncio"}} & set(sys.modules), "importing needs no network"
ctx = memx_sdk.memxContext("full_key", {base_url!r})
ctx.get("k")
unwanted = {{"pydantic", "websockets", "memx_server", "memx_sdk._async.client"}}
assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 0, ended.stderr
