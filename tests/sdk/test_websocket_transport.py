"""All operations and subscriptions over one socket, which breaks; in both halves."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from memx_server.settings import Limits, Settings
from memx_server.storage.sqlite import SqliteStore
from websockets.asyncio.server import ServerConnection, serve

from memx_sdk import (
    ForbiddenError,
    MemxClosedError,
    MemxConnectionError,
    MemxTimeout,
    QuotaExceededError,
    UnauthenticatedError,
    memxContext,
)
from memx_sdk._async.transports.websocket_stream import MOST_WAITING_BYTES
from memx_sdk._sync.feed.subscription import Subscription
from tests.sdk.halves import Beside, Half, make_context
from tests.sdk.streams import DEADLINE, Recorder, no_leaks, subscribe
from tests.sdk.tcp_proxy import TcpProxy
from tests.support.memx_server import Served, serve_store


@pytest.fixture
async def proxy(base_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(base_url) as proxy:
        yield proxy


@pytest.fixture
async def ctx(half: Half, proxy: TcpProxy) -> AsyncIterator[Any]:
    """A context whose one socket goes through ``proxy``."""
    async with over_socket(half, "full_key", proxy.url) as opened:
        yield opened


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[Served]:
    """A server that allows ten subscriptions on a socket."""
    settings = Settings(limits=Limits(subscriptions=10))
    with serve_store(SqliteStore(tmp_path / "memx.db"), settings) as served:
        yield served


@asynccontextmanager
async def over_socket(half: Half, key: str, url: str, **options: Any) -> AsyncIterator[Any]:
    async with make_context(half, key, url, transport="websocket", **options) as ctx:
        yield ctx


async def test_one_socket_carries_it_all(ctx: Any, proxy: TcpProxy, prefix: str) -> None:
    recorders = [Recorder() for _ in range(30)]
    handles = [subscribe(ctx, f"{prefix}:{n}", each) for n, each in enumerate(recorders)]
    for handle in handles:
        await handle.ready(timeout=DEADLINE)
    await asyncio.gather(*(ctx.set(f"{prefix}:{n}", n) for n in range(30)))
    for recorder in recorders:
        await recorder.holds(1)
    assert (await ctx.wait_for(f"{prefix}:7", timeout=DEADLINE)).value == 7

    assert proxy.connections == 1


async def test_a_slow_request_holds_up_no_other(ctx: Any, prefix: str, beside: Beside) -> None:
    since = (await ctx.set(prefix, 1)).cursor
    waiting = beside(ctx.changes(prefix, since=since, wait=20))
    assert (await ctx.get(prefix)).value == 1
    assert not waiting.done()

    await ctx.set(prefix, 2)
    page = await asyncio.wait_for(waiting, DEADLINE)
    assert [change.value for change in page.changes] == [2]


async def test_requests_in_flight_at_a_break_are_answered_once(
    ctx: Any, proxy: TcpProxy, prefix: str, beside: Beside
) -> None:
    async def count() -> None:
        for _ in range(10):
            await ctx.increment(prefix)

    counting = [beside(count()) for _ in range(4)]
    for _ in range(4):
        await asyncio.sleep(0.03)
        proxy.cut()
    await asyncio.gather(*counting)

    assert (await ctx.get(prefix)).value == 40
    assert proxy.connections > 1


async def test_a_reply_that_is_lost_is_asked_for_again(
    half: Half, proxy: TcpProxy, prefix: str, beside: Beside
) -> None:
    async with over_socket(half, "full_key", proxy.url, timeout=0.5) as ctx:
        await ctx.set(prefix, 0)
        proxy.freeze()
        writing = beside(ctx.increment(prefix))
        await asyncio.sleep(0.1)
        proxy.cut()
        proxy.thaw()

        assert (await writing).value == 1


async def test_subscriptions_resume_after_a_break(ctx: Any, proxy: TcpProxy, prefix: str) -> None:
    recorders = [Recorder() for _ in range(20)]
    handles = [subscribe(ctx, f"{prefix}:*", each) for each in recorders]
    for handle in handles:
        await handle.ready(timeout=DEADLINE)
    expected = []
    for number in range(30):
        expected.append((await ctx.set(f"{prefix}:{number % 5}", number)).revision)
        if number % 7 == 3:
            proxy.cut()
    for recorder in recorders:
        changes = await recorder.holds(30)
        assert [change.revision for change in changes] == expected


async def test_hundreds_of_subscriptions(ctx: Any, proxy: TcpProxy, prefix: str) -> None:
    handles = [subscribe(ctx, f"{prefix}:{number}") for number in range(300)]
    for handle in handles:
        await handle.ready(timeout=DEADLINE)
    assert threading.active_count() < 60, "an iterator needs no thread of its own"
    for number in range(300):
        await ctx.set(f"{prefix}:{number}", number)
    for number, handle in enumerate(handles):
        assert (await handle.next(timeout=DEADLINE)).value == number
    assert proxy.connections == 1


async def test_a_slow_reader_is_parked_and_misses_nothing(ctx: Any, prefix: str) -> None:
    slow, quick = subscribe(ctx, f"{prefix}:*"), subscribe(ctx, f"{prefix}:*")
    await slow.ready(timeout=DEADLINE)
    await quick.ready(timeout=DEADLINE)
    value = "x" * 400_000
    expected = []
    for number in range(30):  # three times what may wait
        expected.append((await ctx.set(f"{prefix}:{number}", value)).revision)
        assert (await quick.next(timeout=DEADLINE)).revision == expected[-1]
    assert 30 * len(value) > 2.5 * MOST_WAITING_BYTES
    stream = getattr(slow, "target", slow)._reader._stream
    waiting = stream._put_bytes - stream._taken_bytes
    assert waiting < MOST_WAITING_BYTES + 2 * len(value)

    assert [(await slow.next(timeout=DEADLINE)).revision for _ in range(30)] == expected


async def test_a_large_snapshot_is_let_in_whole(ctx: Any, prefix: str) -> None:
    for number in range(15):
        await ctx.set(f"{prefix}:{number:02}", "x" * 400_000)
    async with subscribe(ctx, f"{prefix}:*", snapshot=True) as changes:
        keys = [(await changes.next(timeout=DEADLINE)).key]
        stream = getattr(changes, "target", changes)._reader._stream
        async with asyncio.timeout(DEADLINE):
            # More than may wait of anything else.
            while stream._put_bytes - stream._taken_bytes < 14 * 400_000:
                await ctx.get(prefix)
        keys += [(await changes.next(timeout=DEADLINE)).key for _ in range(14)]

    assert keys == [f"{prefix}:{number:02}" for number in range(15)]


async def test_what_is_closed_frees_its_place(half: Half, small_server: Served) -> None:
    async with over_socket(half, small_server.api_key, small_server.url) as ctx:
        for _ in range(25):
            async with subscribe(ctx, "a") as changes:
                await changes.ready(timeout=DEADLINE)
        held = [subscribe(ctx, f"k{number}") for number in range(10)]
        for each in held:
            await each.ready(timeout=DEADLINE)
        async with subscribe(ctx, "one too many") as changes:
            with pytest.raises(QuotaExceededError, match="10"):
                await changes.ready(timeout=DEADLINE)


async def test_an_unknown_key_is_refused(half: Half, base_url: str, prefix: str) -> None:
    async with over_socket(half, "nobody's", base_url) as ctx:
        with pytest.raises(ForbiddenError):
            await ctx.get(prefix)
        with pytest.raises(ForbiddenError):
            await subscribe(ctx, prefix).ready(timeout=DEADLINE)


async def test_a_key_that_expires_meanwhile_ends_it_all(half: Half, small_server: Served) -> None:
    key = small_server.fresh_key(expires_at=time.time() + 0.7)
    async with over_socket(half, key, small_server.url) as ctx:
        changes = subscribe(ctx, "a")
        await changes.ready(timeout=DEADLINE)

        with pytest.raises(UnauthenticatedError):
            await changes.next(timeout=DEADLINE)
        with pytest.raises(ForbiddenError):
            await ctx.get("a")


async def test_closing_the_context_ends_what_waits(
    half: Half, base_url: str, prefix: str, beside: Beside
) -> None:
    async with over_socket(half, "full_key", base_url) as ctx:
        since = (await ctx.set(prefix, 1)).cursor
        changes = subscribe(ctx, prefix)
        await changes.ready(timeout=DEADLINE)
        next_change = beside(changes.next())
        long_poll = beside(ctx.changes(prefix, since=since, wait=20))
        await ctx.get(prefix)
    with pytest.raises(MemxClosedError):
        await asyncio.wait_for(next_change, DEADLINE)
    with pytest.raises((MemxClosedError, MemxConnectionError)):
        await asyncio.wait_for(long_poll, DEADLINE)


async def test_nothing_is_left_running(half: Half, base_url: str, prefix: str) -> None:
    recorder = Recorder()
    async with no_leaks(), over_socket(half, "full_key", base_url) as ctx:
        for number in range(10):
            await subscribe(ctx, prefix, recorder if number % 2 else None).ready(timeout=DEADLINE)
        await ctx.set(prefix, 1)
        await recorder.holds(5)


async def test_a_callback_keeps_its_context_alive(base_url: str, prefix: str) -> None:
    recorder = Recorder()

    def subscribe_and_forget() -> None:
        ctx = memxContext("full_key", base_url, transport="websocket")
        ctx.subscribe(prefix, recorder).ready(DEADLINE)
        del ctx
        gc.collect()

    await asyncio.to_thread(subscribe_and_forget)
    async with over_socket("async", "full_key", base_url) as ctx:
        await ctx.set(prefix, 1)
        (change,) = await recorder.holds(1)
    assert change["value"] == 1
    for found in gc.get_objects():  # nobody else knows it any more
        if isinstance(found, Subscription) and found.pattern == prefix:
            await asyncio.to_thread(found.close)


@pytest.mark.parametrize("frame", ["no JSON", "[1]", '{"id":"x"}', json.dumps({"id": 1, "ok": 3})])
async def test_a_server_that_talks_nonsense_is_given_up(half: Half, frame: str) -> None:
    async def answer(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send(frame)

    async with serve(answer, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        async with over_socket(half, "key", url, max_retries=1, timeout=DEADLINE) as ctx:
            with pytest.raises(MemxConnectionError):
                await asyncio.wait_for(ctx.get("a"), DEADLINE)


async def test_a_silent_server_is_not_waited_for_for_ever(half: Half) -> None:
    async def say_nothing(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(say_nothing, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        async with over_socket(half, "key", url, max_retries=0, timeout=0.2) as ctx:
            with pytest.raises(MemxTimeout):
                await ctx.get("a")
            with pytest.raises(MemxTimeout):
                await subscribe(ctx, "a").ready(timeout=0.5)
