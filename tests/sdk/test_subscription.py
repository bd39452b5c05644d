"""Subscriptions over real sockets that break, in both halves."""

from __future__ import annotations

import asyncio

import pytest

from memx_sdk import (
    ForbiddenError,
    InvalidRequestError,
    MemxClosedError,
    MemxError,
    MemxTimeout,
    Reset,
    UnauthenticatedError,
)
from tests.sdk.feed_server import FeedServer
from tests.sdk.halves import Beside, Half, make_context
from tests.sdk.streams import DEADLINE, Recorder, subscribed, taken
from tests.sdk.tcp_proxy import TcpProxy


async def test_changes_arrive_in_order(half: Half, feed_server: FeedServer) -> None:
    async with subscribed(half, feed_server.url, "k*") as subscription:
        await subscription.ready(timeout=DEADLINE)
        for number in range(5):
            await feed_server.commit(f"k{number}", value=number)

        assert await taken(subscription, 5) == [(f"k{n}", n + 1) for n in range(5)]
        assert subscription.cursor == "a-5"
        assert feed_server.headers["x-api-key"] == "key"


async def test_every_break_is_resumed_without_gap_or_repetition(
    half: Half, feed_server: FeedServer
) -> None:
    feed_server.cut_after = 3
    async with subscribed(half, feed_server.url) as subscription:
        await subscription.ready(timeout=DEADLINE)
        for number in range(12):
            await feed_server.commit(f"a{number}", f"b{number}")

        async with asyncio.timeout(
            DEADLINE
        ):  # a stream that got somewhere is not waited for longer
            seen = await taken(subscription, 24)

    expected = [(f"{letter}{n}", n + 1) for n in range(12) for letter in "ab"]
    assert seen == expected
    assert len(feed_server.queries) > 4
    assert all(query["since"] for query in feed_server.queries)


async def test_a_transaction_cut_in_the_middle_comes_whole(
    half: Half, feed_server: FeedServer
) -> None:
    async with subscribed(half, feed_server.url) as subscription:
        await subscription.ready(timeout=DEADLINE)
        feed_server.cut_after = 2  # live, or the first part of three
        feed_server.abort_all()
        await feed_server.commit("a", "b")
        feed_server.space.commit("c")

        assert await taken(subscription, 3) == [("a", 1), ("b", 1), ("c", 2)]


async def test_a_server_that_is_away_is_waited_for(half: Half, feed_server: FeedServer) -> None:
    async with TcpProxy(feed_server.url) as proxy:
        proxy.accepting = False
        async with subscribed(half, proxy.url) as subscription:
            with pytest.raises(MemxTimeout):
                await subscription.ready(timeout=0.3)
            proxy.accepting = True

            await subscription.ready(timeout=DEADLINE)
            await feed_server.commit("a")
            assert await taken(subscription, 1) == [("a", 1)]


async def test_a_half_open_connection_is_noticed(
    half: Half, feed_server: FeedServer, beside: Beside
) -> None:
    async with (
        TcpProxy(feed_server.url) as proxy,
        subscribed(half, proxy.url, timeout=0.4) as subscription,
    ):
        await subscription.ready(timeout=DEADLINE)
        proxy.freeze()
        await feed_server.commit("a")
        waiting = beside(subscription.next(timeout=DEADLINE))
        await proxy.reached(2)  # the SDK has given the silent one up
        proxy.thaw()

        assert (await waiting).key == "a"


async def test_an_unavailable_server_is_asked_again(half: Half, feed_server: FeedServer) -> None:
    busy = {"error": "unavailable", "detail": "no store", "retry_after": 0.01}
    feed_server.refusals = [(503, busy), (429, {"error": "rate_limited", "detail": "slower"})]

    async with subscribed(half, feed_server.url) as subscription:
        await subscription.ready(timeout=DEADLINE)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthenticated", UnauthenticatedError),
        (403, "forbidden", ForbiddenError),
        (400, "invalid_cursor", InvalidRequestError),
    ],
)
async def test_a_refusal_is_final(
    half: Half, feed_server: FeedServer, status: int, code: str, kind: type[MemxError]
) -> None:
    feed_server.refusals = [(status, {"error": code, "detail": "no"})]
    async with subscribed(half, feed_server.url) as subscription:
        with pytest.raises(kind) as raised:
            await subscription.ready(timeout=DEADLINE)
        with pytest.raises(kind):
            await subscription.next(timeout=DEADLINE)

    assert raised.value.code == code
    assert not feed_server.queries


@pytest.mark.parametrize(("code", "kind"), [(4401, UnauthenticatedError), (4403, ForbiddenError)])
async def test_a_revoked_key_ends_the_subscription(
    half: Half, feed_server: FeedServer, code: int, kind: type[MemxError]
) -> None:
    async with subscribed(half, feed_server.url) as subscription:
        await subscription.ready(timeout=DEADLINE)
        await feed_server.close_all(code)

        with pytest.raises(kind):
            await subscription.next(timeout=DEADLINE)


async def test_a_restarting_server_is_returned_to(half: Half, feed_server: FeedServer) -> None:
    async with subscribed(half, feed_server.url) as subscription:
        await subscription.ready(timeout=DEADLINE)
        await feed_server.close_all(1012)
        await feed_server.commit("a")

        assert await taken(subscription, 1) == [("a", 1)]


async def test_a_reset_comes_before_the_snapshot(half: Half, feed_server: FeedServer) -> None:
    await feed_server.commit("a")
    await feed_server.commit("b")
    feed_server.space.floor = 2
    async with subscribed(half, feed_server.url, since="a-1") as subscription:
        reset = await subscription.next(timeout=DEADLINE)
        assert isinstance(reset, Reset)
        assert reset.reason == "compacted"
        assert subscription.cursor is None

        entries = [await subscription.next(timeout=DEADLINE) for _ in range(2)]
        assert [(entry.key, entry.snapshot) for entry in entries] == [("a", True), ("b", True)]

        await feed_server.commit("c")
        assert await taken(subscription, 1) == [("c", 3)]
        assert subscription.cursor == "a-3"


async def test_frames_of_several_mebibytes_arrive(half: Half, feed_server: FeedServer) -> None:
    value = "ä" * (3 * 1024 * 1024)
    async with subscribed(half, feed_server.url) as subscription:
        await subscription.ready(timeout=DEADLINE)
        await feed_server.commit("big", value=value)

        assert (await subscription.next(timeout=DEADLINE)).value == value


@pytest.mark.parametrize("pattern", ["a/b", "ä ö:?*", "50%", "#x", "a?b=[ab]&c"])
async def test_every_pattern_reaches_the_server_as_it_is(
    half: Half, feed_server: FeedServer, pattern: str
) -> None:
    async with subscribed(
        half, feed_server.url, pattern, event="all", conflate=True
    ) as subscription:
        await subscription.ready(timeout=DEADLINE)

    assert feed_server.paths[f"/subscribe/{pattern}"] == 1
    assert feed_server.queries == [{"event": "all", "since": "now", "conflate": "true"}]


async def test_a_pattern_that_cannot_be_is_refused_at_once(
    half: Half, feed_server: FeedServer
) -> None:
    with pytest.raises(InvalidRequestError):
        async with subscribed(half, feed_server.url, "a["):
            pass


async def test_closing_wakes_who_waits(half: Half, feed_server: FeedServer, beside: Beside) -> None:
    async with subscribed(half, feed_server.url) as subscription:
        await subscription.ready(timeout=DEADLINE)
        waiting = beside(subscription.next())
        await asyncio.sleep(0.05)
        await subscription.close()

        with pytest.raises(MemxClosedError):
            await asyncio.wait_for(waiting, DEADLINE)
        await subscription.close()
        await feed_server.connected(0)


async def test_closing_the_context_ends_iteration(
    half: Half, feed_server: FeedServer, beside: Beside
) -> None:
    seen = Recorder()
    async with make_context(half, "key", feed_server.url) as ctx:
        subscription = ctx.subscribe("*") if half == "async" else ctx.target.subscribe("*")
        if half == "async":

            async def iterate() -> None:
                async for change in subscription:
                    seen(change)

            iterating = beside(iterate())
        else:

            def iterate_in_thread() -> None:
                for change in subscription:
                    seen(change)

            iterating = beside(asyncio.to_thread(iterate_in_thread))
        await feed_server.connected()
        await feed_server.commit("a")
        await seen.holds(1)
    await asyncio.wait_for(iterating, DEADLINE)
    assert [change.key for change in seen.items] == ["a"]


async def test_ready_and_iteration_may_wait_at_the_same_time(
    half: Half, feed_server: FeedServer, beside: Beside
) -> None:
    async with TcpProxy(feed_server.url) as proxy:
        proxy.accepting = False
        async with subscribed(half, proxy.url) as subscription:
            first = beside(subscription.next(timeout=DEADLINE))
            second = beside(subscription.next(timeout=DEADLINE))
            ready = beside(subscription.ready(timeout=DEADLINE))
            await asyncio.sleep(0.1)
            proxy.accepting = True
            await ready
            await feed_server.commit("a", "b")

            assert {(await first).key, (await second).key} == {"a", "b"}
