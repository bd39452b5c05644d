"""Lineages of the Redis store: no history that lost writes passes for the one that had them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from memx_server.storage.base import Put

from memx_sdk.protocol.cursors import Position
from tests.storage.helpers import SPACE, commit, eventually, put, value, whole_log
from tests.storage.redis_helpers import opened, restarted, verdict
from tests.support.redis_server import RedisServer, redis_binaries

ALWAYS_SYNCED = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture(params=redis_binaries())
def binary(request: pytest.FixtureRequest) -> str:
    return redis_binaries()[request.param]


@pytest.fixture
def durable(binary: str) -> Iterator[RedisServer]:
    with RedisServer(binary, ALWAYS_SYNCED) as server:
        yield server


@pytest.fixture
def volatile(binary: str) -> Iterator[RedisServer]:
    with RedisServer(binary) as server:
        yield server


async def test_a_restart_loses_nothing_and_starts_a_lineage(durable: RedisServer) -> None:
    async with opened(durable) as store:
        before = [(await commit(store, Put(f"k{i}", b"%d" % i))).position for i in range(5)]
        log = await whole_log(store)

        await restarted(store, durable)

        assert await value(store, "k4") == 4
        assert await store.head(SPACE) == before[-1]
        after = (await commit(store, Put("k5", b"5"))).position
        assert after.revision > before[-1].revision
        assert after.lineage != before[-1].lineage
        assert [await verdict(store, position) for position in before] == ["resumes"] * 5
        page = await store.log(SPACE, before[2], 10)
        assert [record.position.revision for record in page.records] == [
            before[3].revision,
            before[4].revision,
            after.revision,
        ]
        assert {record.position.lineage for record in page.records} == {after.lineage}
        assert page.records[-1].previous == before[-1].revision
        assert [record.changes for record in await whole_log(store)][:5] == [
            record.changes for record in log
        ]


async def test_a_restart_that_lost_its_tail_diverges_from_what_was_lost(
    volatile: RedisServer,
) -> None:
    async with opened(volatile) as store:
        kept = (await commit(store, Put("a", b"1"))).position
        with volatile.client() as client:
            client.save()
        lost = (await commit(store, Put("a", b"2"))).position

        await restarted(store, volatile)

        # Nothing was written since: the head alone tells.
        assert await store.head(SPACE) == kept
        assert await verdict(store, kept) == "resumes"
        assert await verdict(store, lost) == "diverged"

        after = (await commit(store, Put("a", b"3"))).position
        assert after.revision > lost.revision
        assert await verdict(store, kept) == "resumes"
        assert await verdict(store, lost) == "diverged"
        assert (await store.log(SPACE, kept, 10)).records[0].position == after


async def test_positions_of_every_earlier_lineage_are_judged_by_its_own_end(
    durable: RedisServer,
) -> None:
    async with opened(durable) as store:
        ends = []
        for _ in range(3):
            ends.append((await commit(store, Put("a", b"1"))).position)
            await restarted(store, durable)
        head = (await commit(store, Put("a", b"2"))).position

        assert len({position.lineage for position in [*ends, head]}) == 4
        for end in ends:
            assert await verdict(store, end) == "resumes"
            assert await verdict(store, Position(end.lineage, end.revision + 1)) == "diverged"
        assert await verdict(store, Position(head.lineage, head.revision + 1)) == "diverged"
        assert await verdict(store, Position("never", ends[0].revision)) == "diverged"


async def test_a_flushed_space_starts_anew_above_all_its_revisions(volatile: RedisServer) -> None:
    async with opened(volatile) as store:
        beginning = await store.head(SPACE)
        old = (await commit(store, Put("a", b"1"))).position

        with volatile.client() as client:
            client.flushall()

        assert (await store.head(SPACE)).revision == 0
        assert await verdict(store, old) == "diverged"

        new = (await commit(store, Put("a", b"2"))).position
        assert new.lineage != old.lineage
        assert new.revision > old.revision
        assert await verdict(store, old) == "diverged"
        assert (await store.log(SPACE, beginning, 10)).position == new


async def test_a_promoted_replica_is_noticed_on_a_living_connection(binary: str) -> None:
    with RedisServer(binary) as primary, RedisServer(binary) as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", primary.port)
        async with opened(primary) as old, opened(replica) as new:
            kept = (await commit(old, Put("a", b"1"))).position

            async def arrived() -> bool:
                return await new.head(SPACE) == kept

            await eventually(arrived)
            with replica.client() as client:
                client.replicaof("NO", "ONE")
            lost = (await commit(old, Put("a", b"2"))).position

            assert await verdict(new, kept) == "resumes"
            assert await verdict(new, lost) == "diverged"
            after = (await commit(new, Put("b", b"1"))).position
            assert after.lineage != kept.lineage
            assert after.revision > lost.revision
            assert await verdict(new, kept) == "resumes"
            assert await verdict(new, lost) == "diverged"
            assert await value(new, "a") == 1


async def test_only_so_many_ended_lineages_are_remembered(durable: RedisServer) -> None:
    async with opened(durable) as store:
        first = (await commit(store, Put("a", b"1"))).position
        meta = store._keyspaces.space(SPACE).meta
        with durable.client() as client:
            for _ in range(40):
                client.hset(meta, "replid", "another")
                await put(store, "a")
            cuts = client.hget(meta, "cuts")

        assert len(cuts.split()) == 32
        assert await verdict(store, first) == "diverged"
        assert len(await whole_log(store)) == 41
