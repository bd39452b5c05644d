"""Several processes on one Redis: tails that see every record, gaps that are told, expiries of the dead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from memx_server.storage.base import Put, Touch

from tests.storage.helpers import SPACE, Listener, commit, eventually, put, value, whole_log
from tests.storage.redis_helpers import answers, opened
from tests.support.redis_server import RedisServer, redis_binaries


@pytest.fixture(params=redis_binaries())
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(redis_binaries()[request.param]) as server:
        yield server


class Gaps(Listener):
    """Also counts the gaps."""

    def __init__(self) -> None:
        super().__init__()
        self.gaps = 0

    def on_gap(self) -> None:
        self.gaps += 1
        super().on_gap()


async def test_two_processes_see_every_commit_of_both(redis: RedisServer) -> None:
    async with opened(redis) as one, opened(redis) as two:
        listeners = Gaps(), Gaps()
        for store, listener in zip((one, two), listeners, strict=True):
            await store.tail(SPACE, listener)

        async def write(number: int) -> None:
            for step in range(10):
                await put((one, two)[step % 2], f"k{number}", step)

        await asyncio.gather(*(write(number) for number in range(10)))
        log = await whole_log(one)
        assert len(log) == 100
        for listener in listeners:
            await listener.heard(log[-1].position.revision)
            assert listener.records == log
            assert listener.gaps == 0


async def test_a_notice_that_would_be_too_big_names_the_revision_only(redis: RedisServer) -> None:
    async with opened(redis) as store:
        listener = Gaps()
        await store.tail(SPACE, listener)
        small = await commit(store, Put("a", b'"%b"' % (b"x" * 60_000)))
        big = await commit(store, Put("a", b'"%b"' % (b"x" * 70_000)))
        await listener.heard(big.position.revision)

        assert [record.changes is None for record in listener.records] == [False, True]
        assert listener.records[1].position == big.position
        assert listener.records[1].previous == small.position.revision


async def test_a_lost_subscription_is_made_again_and_the_gap_told(redis: RedisServer) -> None:
    async with opened(redis) as store:
        listeners = Gaps(), Gaps(), Gaps()
        for space, listener in zip((SPACE, SPACE, "other"), listeners, strict=True):
            await store.tail(space, listener)
        with redis.client() as client:
            client.client_kill_filter(_type="pubsub")
        for listener in listeners:
            await listener.until(lambda listener=listener: listener.gaps == 1)  # type: ignore[misc]  # mypy cannot infer such a lambda

        # What is committed once the gap was told is told itself.
        revision = await put(store, "a")
        await listeners[0].heard(revision)
        await listeners[1].heard(revision)
        assert listeners[2].records == []


async def test_nonsense_on_the_channel_is_taken_for_a_gap(redis: RedisServer) -> None:
    async with opened(redis) as store:
        listener = Gaps()
        await store.tail(SPACE, listener)
        with redis.client() as client:
            for nonsense in ("", "x", "a 1 0\n[nonsense]", "a b c\n[]"):
                client.publish(store._keyspaces.space(SPACE).log, nonsense)
        await listener.until(lambda: listener.gaps == 4)
        await listener.heard(await put(store, "a"))


async def test_tails_outlive_a_restart_of_redis(redis: RedisServer) -> None:
    async with opened(redis) as store:
        listener = Gaps()
        await store.tail(SPACE, listener)
        redis.kill()
        redis.start()
        async with asyncio.timeout(2):
            await listener.until(lambda: listener.gaps == 1)
            await eventually(lambda: answers(store))
        await listener.heard(await put(store, "a"))


async def test_a_silent_subscription_is_found_out(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memx_server.storage.redis.network.pubsub._PING_EVERY", 0.1)
    async with opened(redis, timeout=0.3) as store:
        listener = Gaps()
        await store.tail(SPACE, listener)
        redis.pause()
        (connection,) = [channel.connection for channel in store._tail._channels.values()]
        assert connection is not None
        async with asyncio.timeout(5):
            await connection.ended.wait()
        redis.resume()
        await listener.until(lambda: listener.gaps == 1)


async def test_the_last_who_stops_ends_the_subscription(redis: RedisServer) -> None:
    async with opened(redis) as store:
        first, second = Listener(), Listener()
        stop_first = await store.tail(SPACE, first)
        stop_second = await store.tail(SPACE, second)
        await stop_first()
        await stop_first()
        revision = await put(store, "a")
        await second.heard(revision)
        assert first.records == []
        await stop_second()

        async def unsubscribed() -> bool:
            with redis.client() as client:
                return not client.pubsub_channels()

        await eventually(unsubscribed)
        again = Listener()
        await store.tail(SPACE, again)
        await again.heard(await put(store, "b"))
        assert len(second.records) == 1


async def test_expiries_given_by_a_process_that_died_are_logged_by_another(
    redis: RedisServer,
) -> None:
    async with opened(redis) as survivor:
        async with opened(redis) as gone:
            for number in range(60):
                await commit(gone, Put("a", b"1", ttl_ms=400), space=f"space-{number}")
            await commit(gone, Put("b", b"1"), space="touched")
            await commit(gone, Touch("b", 400), space="touched")

        async def all_logged() -> bool:
            spaces = [f"space-{number}" for number in range(60)] + ["touched"]
            logs = [await whole_log(survivor, space=space) for space in spaces]
            return all(len(log) == 2 for log in logs)

        await eventually(all_logged)
        (expiry,) = (await whole_log(survivor, space="space-7"))[1].changes or ()
        assert (expiry.action, expiry.key) == ("expire", "a")
        assert await value(survivor, "a", space="space-7") is None


async def test_a_space_without_expiries_leaves_the_registry_in_time(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memx_server.storage.redis.sweeper._REGISTERED_KEPT", 0.2)
    async with opened(redis) as store:
        await commit(store, Put("brief", b"1", ttl_ms=1), Put("a", b"1"))
        await commit(store, Put("long", b"1", ttl_ms=60_000), space="other")
        registry = store._keyspaces.expiring

        async def forgotten() -> bool:
            with redis.client() as client:
                return bool(client.zrange(registry, 0, -1) == [b"other"])

        await eventually(forgotten)


async def test_many_expiries_at_once_are_each_logged_once(redis: RedisServer) -> None:
    async with opened(redis) as one, opened(redis) as two:
        for start in range(0, 450, 90):
            await commit(one, *(Put(f"k{start + number}", b"1", ttl_ms=50) for number in range(90)))
        await asyncio.gather(*(one.tail(SPACE, Listener()), two.tail(SPACE, Listener())))

        async def gone() -> bool:
            with redis.client() as client:
                return not client.exists(one._keyspaces.space(SPACE).expiries)

        await asyncio.gather(eventually(gone), *(put(two, "busy", n) for n in range(20)))
        expired = [
            change.key
            for record in await whole_log(one)
            for change in record.changes or ()
            if change.action == "expire"
        ]
        assert sorted(expired) == sorted(f"k{number}" for number in range(450))
