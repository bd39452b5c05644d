"""Where the Redis store finds Redis: URLs, credentials, Sentinels, clusters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from memx_server.storage.base import Delete, Put, Store, StoreUnavailable
from memx_server.storage.redis import RedisStore
from memx_server.storage.redis.network.cluster import Cluster
from memx_server.storage.redis.network.connection import Endpoint
from memx_server.storage.redis.network.sentinel import Sentinel
from memx_server.storage.redis.network.topology import Standalone
from memx_server.storage.redis.network.urls import topology_of
from redis.exceptions import ResponseError

from tests.storage.helpers import SPACE, Listener, commit, eventually, put, value, whole_log
from tests.storage.redis_cluster import Start, ask, cluster_of
from tests.storage.redis_helpers import opened, verdict
from tests.support.redis_server import RedisServer, free_port, newest_redis, redis_binaries

SLOTS = 16384


@asynccontextmanager
async def opened_at(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def test_urls_name_one_server_sentinels_or_a_cluster() -> None:
    one = topology_of("redis://me:p%40ss@example.org:1234/5", 1)
    assert isinstance(one, Standalone)
    assert one._endpoint == Endpoint("example.org", 1234, username="me", password="p@ss", db=5)
    assert topology_of("redis://", 1)._endpoint == Endpoint()  # type: ignore[attr-defined]  # a Standalone

    watched = topology_of("redis+sentinel://:secret@a:1,b:2/main/3", 1)
    assert isinstance(watched, Sentinel)
    assert [(at.host, at.port, at.password) for at in watched._sentinels] == [
        ("a", 1, None),
        ("b", 2, None),
    ]
    assert (watched._endpoint.password, watched._endpoint.db) == ("secret", 3)

    many = topology_of("rediss+cluster://a:1,b:2?ssl_cert_reqs=none", 1)
    assert isinstance(many, Cluster)
    assert many._seeds == [("a", 1), ("b", 2)]
    assert many._identity.tls is not None


@pytest.mark.parametrize(
    "url", ["http://localhost", "redis+ring://a:1", "redis+sentinel://a:1", "localhost:6379"]
)
def test_urls_that_name_nothing_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"Redis URL|service"):
        RedisStore(url)


async def test_a_password_a_database_and_a_unix_socket(tmp_path: Path) -> None:
    socket = str(tmp_path / "redis.sock")
    with RedisServer(newest_redis(), {"unixsocket": socket}) as server:
        with server.client() as client:
            client.acl_setuser(
                "memx", True, passwords=["+p@ss"], categories=["+@all"], keys=["*"], channels=["*"]
            )
        async with opened_at(f"redis://memx:p%40ss@127.0.0.1:{server.port}/3") as store:
            await put(store, "a", 1)
        async with opened_at(f"unix://{socket}?db=3") as store:
            assert await value(store, "a") == 1
        async with opened_at(f"unix://{socket}") as store:
            assert await value(store, "a") is None
        with pytest.raises(StoreUnavailable) as refusal:
            await RedisStore(f"redis://memx:wrong@127.0.0.1:{server.port}").open()
        assert "WRONGPASS" in str(refusal.value.args)


async def test_what_is_no_redis_is_unavailable() -> None:
    async def talk_nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(talk_nonsense, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises(StoreUnavailable):
        await RedisStore(f"redis://127.0.0.1:{port}").ping()
    listener.close()


@pytest.fixture(params=redis_binaries())
def binary(request: pytest.FixtureRequest) -> str:
    return redis_binaries()[request.param]


async def test_a_cluster_of_one(binary: str, start: Start) -> None:
    server = start(binary, {"cluster-enabled": "yes"})
    url = await cluster_of([server])
    store = RedisStore(url, log_max_records=20)
    await store.open()
    listener = Listener()
    for number in range(10):
        space = f"space-{number}"
        await store.tail(space, listener)
        await commit(store, Put("a", b"1", ttl_ms=50), Put("b", b"2"), space=space)
        assert [key for key, _ in (await store.list(space)).entries][-1] == "b"
        for _ in range(25):
            await put(store, "b", number, space=space)
        await commit(store, Delete("b"), space=space)
        assert len(await whole_log(store, space=space)) == 20
        assert len((await store.history(space, "b", 5)).changes) == 5
        await store.state.put("group", space, b"x", 60_000)
    # Each space: 26 puts, a deletion, and the expiry of "a".
    await listener.until(lambda: len(listener.records) == 280)
    assert len(await store.state.list("group")) == 10
    await store.close()


async def test_a_cluster_of_one_that_is_taken_for_a_server(binary: str, start: Start) -> None:
    server = start(binary, {"cluster-enabled": "yes"})
    await cluster_of([server])
    store = RedisStore(server.url)
    await store.open()
    spaces = [f"space-{number}" for number in range(10)]
    for _ in range(5):  # a script that touched two slots would be refused
        await asyncio.gather(*(put(store, "a", 1, space=space) for space in spaces))
    assert [await value(store, "a", space=space) for space in spaces] == [1] * 10
    await store.close()


async def test_a_slot_that_moves_is_followed(binary: str, start: Start) -> None:
    servers = [start(binary, {"cluster-enabled": "yes"}) for _ in range(2)]
    url = await cluster_of(servers)
    store = RedisStore(url)
    await store.open()
    spaces = [f"space-{number}" for number in range(20)]
    await asyncio.gather(*(put(store, "a", 1, space=space) for space in spaces))
    assert all(ask(server, "DBSIZE") > 0 for server in servers)

    unused = next(
        space
        for space in (f"unused-{number}" for number in range(100))
        if store._keyspaces.space(space).slot < SLOTS // 2
    )
    listener = Listener()
    await store.tail(unused, listener)
    target = ask(servers[1], "CLUSTER MYID")
    slot = store._keyspaces.space(unused).slot
    for server in reversed(servers):
        ask(server, "CLUSTER SETSLOT", slot, "NODE", target)

    revision = await put(store, "moved", 1, space=unused)
    assert await value(store, "moved", space=unused) == 1
    assert [await value(store, "a", space=space) for space in spaces] == [1] * 20
    if binary == redis_binaries().get("7"):
        # The server that gave the slot away ended the subscription; it is made again at the new one.
        async def told() -> bool:
            await put(store, "again", space=unused)
            return bool(listener.records)

        await eventually(told)
    else:
        await listener.heard(revision)
    await store.close()


async def test_a_clusters_promoted_replica_is_found(binary: str, start: Start) -> None:
    primary, replica = (start(binary, {"cluster-enabled": "yes"}) for _ in range(2))
    url = await cluster_of([primary])
    ask(replica, "CLUSTER MEET", "127.0.0.1", primary.port)
    primary_id = ask(primary, "CLUSTER MYID")
    await eventually(lambda: replicates(replica, primary_id))

    url = f"{url},127.0.0.1:{replica.port}"
    async with opened_at(url) as store, opened_at(url) as tailing:
        listener = Listener()
        await tailing.tail(SPACE, listener)
        before = (await commit(store, Put("a", b"1"))).position

        async def copied() -> bool:
            knows = ask(replica, "CLUSTER INFO")["cluster_slots_assigned"] == str(SLOTS)
            return bool(knows and ask(replica, "DBSIZE") > 0)

        await eventually(copied)
        primary.kill()
        ask(replica, "CLUSTER FAILOVER", "TAKEOVER")

        await eventually(lambda: written(store))
        assert await value(store, "a") == 1
        assert await verdict(store, before) == "resumes"
        await eventually(lambda: tells(store, listener))


async def replicates(replica: RedisServer, primary_id: Any) -> bool:
    """Try to make ``replica`` follow a primary that it may not know yet."""
    try:
        ask(replica, "CLUSTER REPLICATE", primary_id)
    except ResponseError:
        return False
    return True


async def written(store: Store) -> bool:
    """Whether a write succeeds."""
    try:
        await put(store, "b", 2)
    except StoreUnavailable:
        return False
    return True


async def tells(store: Store, listener: Listener) -> bool:
    """Whether what is written now is heard."""
    revision = await put(store, "again")
    await asyncio.sleep(0.05)
    return revision in {record.position.revision for record in listener.records}


async def test_sentinels_lead_to_the_new_primary(binary: str, start: Start) -> None:
    primary = start(binary, {})
    replica = start(binary, {"replicaof": f"127.0.0.1 {primary.port}"})
    sentinel = start(binary, {"sentinel": f"monitor main 127.0.0.1 {primary.port} 1"})
    ask(sentinel, "SENTINEL SET", "main", "down-after-milliseconds", 300)
    ask(sentinel, "SENTINEL SET", "main", "failover-timeout", 2000)

    async with opened_at(
        f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/main/0"
    ) as store:
        listener = Listener()
        await store.tail(SPACE, listener)
        before = (await commit(store, Put("a", b"1"))).position

        async def both_know() -> bool:
            known = ask(sentinel, "SENTINEL REPLICAS", "main")
            return bool(known) and ask(replica, "DBSIZE") > 0

        await eventually(both_know)
        primary.kill()

        await eventually(lambda: written(store))
        after = await store.head(SPACE)
        assert after.lineage != before.lineage
        assert await verdict(store, before) == "resumes"
        assert await value(store, "a") == 1

        await eventually(lambda: tells(store, listener))


async def test_a_store_on_a_single_server_ignores_other_spaces_slots(
    redis_any: RedisServer,
) -> None:
    async with opened(redis_any, prefix="single") as store:
        for number in range(5):
            await put(store, "a", number, space=f"space-{number}")
        assert [await value(store, "a", space=f"space-{n}") for n in range(5)] == [0, 1, 2, 3, 4]
