"""Durability: whether what has been committed is on a replica, or on the disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from memx_server.storage.redis import RedisStore

from tests.storage.helpers import SPACE, eventually, put
from tests.storage.redis_cluster import Start, ask
from tests.storage.redis_helpers import opened
from tests.support.redis_server import RedisServer, newest_redis, server_binaries


@pytest.fixture
async def pair(start: Start) -> AsyncIterator[tuple[RedisServer, RedisServer, RedisStore]]:
    """A primary and its replica, and a store on them."""
    primary = start(newest_redis(), {})
    replica = start(newest_redis(), {"replicaof": f"127.0.0.1 {primary.port}"})

    async def follows() -> bool:
        return bool(ask(replica, "ROLE")[3] == b"connected")

    await eventually(follows)
    async with opened(primary) as store:

        async def confirms() -> (
            bool
        ):  # its first acknowledgement comes a second after it has connected
            return await store.confirm(SPACE, "replica")

        await eventually(confirms)
        yield primary, replica, store


async def test_a_replica_confirms_and_one_that_is_stopped_does_not(
    pair: tuple[RedisServer, RedisServer, RedisStore],
) -> None:
    _, replica, store = pair
    await put(store, "a", 1)
    assert await store.confirm(SPACE, "replica")
    assert await store.confirm(SPACE, "memory")

    replica.pause()
    await put(store, "a", 2)
    assert not await store.confirm(SPACE, "replica")
    replica.resume()

    async def confirmed() -> bool:
        return await store.confirm(SPACE, "replica")

    await eventually(confirmed)


async def test_many_share_one_wait_and_hold_nobody_up(
    pair: tuple[RedisServer, RedisServer, RedisStore],
) -> None:
    primary, replica, store = pair

    async def one(number: int) -> bool:
        await put(store, f"k{number}", number)
        return await store.confirm(SPACE, "replica")

    assert all(await asyncio.gather(*(one(number) for number in range(200))))
    with primary.client() as client:
        calls = client.info("commandstats")["cmdstat_wait"]["calls"]
    assert calls < 50

    replica.pause()
    waiting = [asyncio.create_task(one(number)) for number in range(20)]
    began = time.monotonic()
    await put(store, "another", 1)
    assert time.monotonic() - began < 0.4, "a write that waits for nothing was held up"
    assert not any(await asyncio.gather(*waiting))
    replica.resume()


@pytest.mark.parametrize("name", server_binaries())
async def test_the_disk(name: str, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start(server_binaries()[name], {"appendonly": "yes", "appendfsync": "everysec"})
    async with opened(server) as store:
        await put(store, "a", 1)
        found = ask(server, "COMMAND INFO", "WAITAOF")
        knows = bool(found) and (found.get("waitaof") if isinstance(found, dict) else found[0])

        async def confirmed() -> bool:
            return await store.confirm(SPACE, "fsync")

        if knows:
            await eventually(confirmed)
        else:
            assert not await confirmed()
            assert "cannot confirm" in caplog.text


async def test_without_a_replica_nothing_is_confirmed_and_nothing_fails(
    redis_any: RedisServer,
) -> None:
    async with opened(redis_any, prefix="lonely") as store:
        await put(store, "a", 1)
        assert not await store.confirm(SPACE, "replica")
