"""The Redis store when Redis is stalled, gone, forgetful or full: told in time, and back by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from memx_server.storage.base import (
    Committed,
    Delete,
    Idempotency,
    Put,
    StoreFull,
    StoreUnavailable,
    Touch,
    Transaction,
)
from memx_server.storage.redis import RedisStore

from tests.storage.helpers import (
    SPACE,
    WRITER,
    Listener,
    changes_of,
    commit,
    commit_one,
    eventually,
    put,
    summary,
    value,
    whole_log,
)
from tests.storage.redis_helpers import LossyProxy, answers, opened
from tests.support.redis_server import RedisServer, newest_redis, redis_binaries

IN_TIME = 1.9
"""Seconds within which an outage has to be told, and its end found."""


@pytest.fixture(params=redis_binaries())
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(redis_binaries()[request.param]) as server:
        yield server


@pytest.fixture
def one_redis() -> Iterator[RedisServer]:
    with RedisServer(newest_redis()) as server:
        yield server


async def refused_in_time(call: Callable[[], Awaitable[object]]) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await call()
    assert time.monotonic() - began < IN_TIME


async def back_in_time(store: RedisStore) -> None:
    async with asyncio.timeout(IN_TIME):
        await eventually(lambda: answers(store))


async def test_a_stalled_redis_is_told_in_time_and_freezes_nothing_else(redis: RedisServer) -> None:
    async with opened(redis) as store:
        await put(store, "a", 1)
        redis.pause()
        turns = 0

        async def other_work() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        work = asyncio.create_task(other_work())
        await asyncio.gather(
            refused_in_time(lambda: put(store, "b")),
            refused_in_time(lambda: store.read(SPACE, ["a"])),
            refused_in_time(lambda: store.tail("another", Listener())),
        )
        await refused_in_time(store.ping)
        work.cancel()
        assert turns > 20

        redis.resume()
        await back_in_time(store)
        assert await value(store, "a") == 1


async def test_writes_held_back_by_the_server_are_told_in_time(redis: RedisServer) -> None:
    async with opened(redis) as store:
        await put(store, "a", 1)
        with redis.client() as client:
            client.client_pause(60_000, all=False)
            await refused_in_time(lambda: put(store, "a", 2))
            assert await value(store, "a") == 1
            client.client_unpause()
        await back_in_time(store)
        await put(store, "a", 3)
        assert await value(store, "a") == 3


async def test_a_redis_that_is_down_is_told_at_once_and_found_again(redis: RedisServer) -> None:
    async with opened(redis) as store:
        await put(store, "a")
        redis.kill()
        began = time.monotonic()
        for call in (lambda: put(store, "a"), store.ping, lambda: store.head(SPACE)):
            await refused_in_time(call)
        assert time.monotonic() - began < IN_TIME

        redis.start()
        await back_in_time(store)
        await put(store, "b", 2)
        assert await value(store, "b") == 2


async def test_a_store_can_be_opened_while_redis_is_away(one_redis: RedisServer) -> None:
    one_redis.kill()
    store = RedisStore(one_redis.url)
    try:
        await refused_in_time(store.open)
        one_redis.start()
        await back_in_time(store)
        await put(store, "a", 1)
    finally:
        await store.close()


async def test_scripts_that_redis_forgot_are_sent_again(redis: RedisServer) -> None:
    async with opened(redis) as store:
        await put(store, "a")
        await store.state.put("g", "n", b"1", 60_000)
        with redis.client() as client:
            client.script_flush()
        revisions = await asyncio.gather(*(put(store, "a", number) for number in range(10)))
        assert len(set(revisions)) == 10
        assert await store.state.take("g", "n") == b"1"
        assert len((await store.history(SPACE, "a", 100)).changes) == 11


async def test_a_killed_connection_is_replaced(redis: RedisServer) -> None:
    async with opened(redis) as store:
        with redis.client() as client:
            for number in range(5):
                await put(store, "a", number)
                client.client_kill_filter(_type="normal", skipme=True)
                await eventually(lambda: answers(store))
        assert await value(store, "a") == 4


async def test_a_write_whose_answer_was_lost_is_not_sent_again(one_redis: RedisServer) -> None:
    async with LossyProxy(one_redis) as proxy, opened(one_redis) as direct:
        store = RedisStore(proxy.url)
        await put(store, "scripts are known")
        proxy.losing = True
        with pytest.raises(StoreUnavailable):
            await put(store, "a", 1)
        proxy.losing = False

        assert summary(changes_of(await whole_log(direct)))[1:] == [("set", "a")]
        await put(store, "a", 2)
        await store.close()
        assert len(await whole_log(direct)) == 3


async def test_a_lost_write_sent_again_under_its_token_is_applied_once(
    one_redis: RedisServer,
) -> None:
    transaction = Transaction(
        WRITER, [Put("a", b"1")], idempotency=Idempotency("token", "digest", b"note")
    )
    async with LossyProxy(one_redis) as proxy, opened(one_redis) as direct:
        store = RedisStore(proxy.url)
        await put(store, "scripts are known")
        proxy.losing = True
        with pytest.raises(StoreUnavailable):
            await commit_one(store, SPACE, transaction)
        proxy.losing = False

        again = await commit_one(store, SPACE, transaction)
        await store.close()

        assert isinstance(again, Committed)
        assert again.replayed_note == b"note"
        assert [record.position for record in await whole_log(direct)][1:] == [again.position]


@pytest.mark.parametrize("writes", [[Put("new", b"1")], [Touch("old", 60_000)]])
async def test_a_full_redis_refuses_a_transaction_whole(
    redis: RedisServer, writes: list[Put | Touch], caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(redis) as store:
        await put(store, "old", "x" * 1000)
        await put(store, "old", 1, space="other")
        head = await store.head(SPACE)
        with redis.client() as client:
            client.config_set("maxmemory", 1)
            refused = await asyncio.gather(
                *(
                    commit_one(store, space, Transaction(WRITER, writes))
                    for space in (SPACE, "other")
                ),
                return_exceptions=True,
            )
            client.config_set("maxmemory", 0)
        assert all(isinstance(each, StoreUnavailable) for each in refused), refused
        assert "OOM" in caplog.text, "the log must say what clients are not told"

        assert await store.head(SPACE) == head
        assert await store.read(SPACE, ["new"]) == [None]
        assert len(await whole_log(store)) == 1
        await put(store, "new", 1)
        assert await value(store, "new") == 1


async def test_a_full_redis_takes_deletes_with_their_records(redis: RedisServer) -> None:
    async with opened(redis) as store:
        await commit(store, Put("a", b"1"), Put("b", b"1", ttl_ms=60_000), Put("c", b"1"))
        await store.ping()
        with redis.client() as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(StoreFull):
                await store.ping()
            token = Idempotency("token", "digest")
            delete, put_, both, missing = await store.commit(
                SPACE,
                [
                    Transaction(WRITER, [Delete("a"), Delete("b")], idempotency=token),
                    Transaction(WRITER, [Put("a", b"2")]),
                    Transaction(WRITER, [Delete("c"), Put("d", b"1")]),
                    Transaction(WRITER, [Delete("nothing")]),
                ],
            )
            client.config_set("maxmemory", 0)

        assert isinstance(delete, Committed)
        assert [each.changed for each in delete.written] == [True, True]
        assert isinstance(missing, Committed)
        assert isinstance(put_, StoreFull)
        assert isinstance(both, StoreFull)
        assert "full" in put_.detail
        assert "delete" in put_.detail
        assert summary(changes_of(await whole_log(store)))[3:] == [("delete", "a"), ("delete", "b")]
        assert [await value(store, key) for key in "abcd"] == [None, None, 1, None]
        again = await commit_one(
            store, SPACE, Transaction(WRITER, [Delete("a"), Delete("b")], idempotency=token)
        )
        assert isinstance(again, Committed)
        assert again.position == delete.position
        await store.ping()


async def test_a_replica_is_not_written_to(one_redis: RedisServer) -> None:
    async with opened(one_redis) as store:
        await put(store, "a", 1)
        with one_redis.client() as client:
            client.replicaof("127.0.0.1", 1)
            with pytest.raises(StoreUnavailable):
                await put(store, "a", 2)
            client.replicaof("NO", "ONE")
        await commit(store, Put("a", b"3"))
        assert await value(store, "a") == 3


async def test_one_caller_who_gives_up_takes_nothing_from_the_others(
    one_redis: RedisServer,
) -> None:
    store = RedisStore(one_redis.url)
    impatient = asyncio.create_task(store.ping())
    patient = asyncio.create_task(store.read(SPACE, ["a"]))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == [None]
    await put(store, "scripts are known", 1)

    calls = [asyncio.create_task(put(store, f"k{number}", number)) for number in range(10)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert [await value(store, f"k{number}") for number in range(10)] == list(range(10))
    await store.close()


async def test_a_closed_store_says_so(one_redis: RedisServer) -> None:
    store = RedisStore(one_redis.url)
    await store.open()
    await store.tail(SPACE, Listener())
    await store.close()
    await refused_in_time(store.ping)
    await store.close()
