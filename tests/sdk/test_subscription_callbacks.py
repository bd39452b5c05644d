"""Callbacks in the background, and what is left when all is closed; in both halves."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from memx_sdk import (
    Change,
    ForbiddenError,
    memxContext,
)
from tests.sdk.feed_server import FeedServer
from tests.sdk.halves import Half, make_context
from tests.sdk.streams import DEADLINE, Recorder, no_leaks, subscribed


async def test_a_callback_survives_breaks_and_its_own_faults(
    half: Half, feed_server: FeedServer, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()

    def fail_at_first(change: Change) -> None:
        recorder(change)
        if len(recorder.items) == 1:
            raise RuntimeError("a fault of the callback")

    async with subscribed(half, feed_server.url, "k", fail_at_first) as subscription:
        await subscription.ready(timeout=DEADLINE)
        await feed_server.commit("k", value=1)
        await recorder.holds(1)
        feed_server.abort_all()
        await feed_server.commit("k", value=2)
        changes = await recorder.holds(2)

    assert [(change["event"], change["key"], change["value"]) for change in changes] == [
        ("value", "k", 1),
        ("value", "k", 2),
    ]
    assert "a fault of the callback" in caplog.text


async def test_a_callback_gets_snapshots_marked_but_no_resets(
    half: Half, feed_server: FeedServer
) -> None:
    await feed_server.commit("a")
    feed_server.space.floor = 1
    recorder = Recorder()
    async with subscribed(half, feed_server.url, "*", recorder, since="a-0"):
        (entry,) = await recorder.holds(1)

    assert isinstance(entry, Change)
    assert entry.snapshot


async def test_an_asynchronous_callback_is_awaited(feed_server: FeedServer) -> None:
    recorder = Recorder()

    async def slowly(change: Change) -> None:
        await asyncio.sleep(0)
        recorder(change.key)

    async with subscribed("async", feed_server.url, "*", slowly) as subscription:
        await subscription.ready(timeout=DEADLINE)
        await feed_server.commit("a", "b")
        assert await recorder.holds(2) == ["a", "b"]


async def test_the_error_hook_learns_of_a_final_refusal(
    half: Half, feed_server: FeedServer
) -> None:
    feed_server.refusals = [(403, {"error": "forbidden", "detail": "not yours"})]
    changes, errors = Recorder(), Recorder()
    async with subscribed(half, feed_server.url, "*", changes, on_error=errors):
        (error,) = await errors.holds(1)

    assert isinstance(error, ForbiddenError)


async def test_without_a_hook_a_final_refusal_is_logged(
    half: Half, feed_server: FeedServer, caplog: pytest.LogCaptureFixture
) -> None:
    feed_server.refusals = [(403, {"error": "forbidden", "detail": "not yours"})]
    async with subscribed(half, feed_server.url, "*", Recorder()) as subscription:
        with pytest.raises(ForbiddenError):
            await subscription.ready(timeout=DEADLINE)
    assert "not yours" in caplog.text


async def test_a_callback_may_close_its_subscription(half: Half, feed_server: FeedServer) -> None:
    recorder = Recorder()
    async with make_context(half, "key", feed_server.url) as ctx:
        if half == "async":

            async def close_it(change: Change) -> None:
                recorder(change)
                await subscription.close()

            subscription = ctx.subscribe("*", close_it)
            await subscription.ready(DEADLINE)
        else:

            def close_here(change: Change) -> None:
                recorder(change)
                subscription.close()

            subscription = ctx.target.subscribe("*", close_here)
            await asyncio.to_thread(subscription.ready, DEADLINE)
        await feed_server.commit("a", "b")
        await recorder.holds(1)
        await feed_server.connected(0)

    assert [change.key for change in recorder.items] == ["a"]


async def test_a_slow_callback_holds_up_nobody_else(half: Half, feed_server: FeedServer) -> None:
    release = threading.Event()
    quick = Recorder()
    async with make_context(half, "key", feed_server.url) as ctx:
        target = ctx if half == "async" else ctx.target

        async def slow(change: Change) -> None:
            await asyncio.to_thread(release.wait, DEADLINE)

        def slow_here(change: Change) -> None:
            release.wait(DEADLINE)

        target.subscribe("*", slow if half == "async" else slow_here)
        target.subscribe("*", quick)
        await feed_server.connected(2)
        for _ in range(20):
            await feed_server.commit("a")
        assert len(await quick.holds(20)) == 20
        release.set()


async def test_nothing_is_left_running(half: Half, feed_server: FeedServer) -> None:
    recorder = Recorder()
    async with no_leaks():
        async with make_context(half, "key", feed_server.url) as ctx:
            target = ctx if half == "async" else ctx.target
            for number in range(10):
                target.subscribe("*", recorder if number % 2 else None)
            await feed_server.connected(5)
            await feed_server.commit("a")
            await recorder.holds(5)
        await feed_server.connected(0)


async def test_the_published_way_needs_no_context_to_be_kept(feed_server: FeedServer) -> None:
    recorder = Recorder()

    def subscribe() -> None:
        memxContext("key", feed_server.url).subscribe("k", recorder)
        gc.collect()

    await asyncio.to_thread(subscribe)
    await feed_server.connected()
    await feed_server.commit("k", value={"n": 1})
    (change,) = await recorder.holds(1)
    assert change["value"] == {"n": 1}
    await feed_server.close_all(4403)  # ends the thread


async def test_a_subscription_that_nobody_keeps_goes_on(
    half: Half, feed_server: FeedServer
) -> None:
    recorder = Recorder()
    async with make_context(half, "key", feed_server.url) as ctx:
        (ctx if half == "async" else ctx.target).subscribe("*", recorder)
        await feed_server.connected()
        gc.collect()
        await feed_server.commit("a")
        await recorder.holds(1)
        feed_server.abort_all()
        gc.collect()
        await feed_server.commit("b")
        assert [change.key for change in await recorder.holds(2)] == ["a", "b"]
