"""What the Redis store leaves in Redis: names, slots, sizes."""

from __future__ import annotations

import pytest
from memx_server.storage.base import (
    Committed,
    Compare,
    Delete,
    Put,
    PutSchema,
    QuotaExceeded,
    SpaceQuotas,
    Transaction,
)
from memx_server.storage.redis import RedisStore
from memx_server.storage.redis.keyspace import Keyspaces
from redis.crc import key_slot

from tests.storage.helpers import (
    SPACE,
    WRITER,
    commit,
    commit_one,
    eventually,
    put,
    summary,
    value,
    whole_log,
)
from tests.storage.redis_helpers import opened, verdict
from tests.support.redis_server import RedisServer

HOSTILE = ["}{", "{x}", "a}b{c}", ":e:", "memx:{", 'q"\\', "größe:键", "a b", "%s%d", "k" * 512]


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"test-{request.node.name}"


@pytest.mark.parametrize("space", [*HOSTILE, "", "x" * 5000])
async def test_a_space_is_in_one_slot_whatever_its_name_and_keys_are(
    redis_any: RedisServer, prefix: str, space: str
) -> None:
    async with opened(redis_any, prefix="hostile") as store:
        keys = store._keyspaces.space(space)
        await commit(store, *(Put(key, b'"v"', ttl_ms=60_000) for key in HOSTILE), space=space)
        await commit(store, PutSchema("{*}", b"{}"), space=space)

        assert [await value(store, key, space=space) for key in HOSTILE] == ["v"] * len(HOSTILE)
        page = await store.list(space)
        assert [key for key, _ in page.entries] == sorted(HOSTILE)
        with redis_any.client() as client:
            mine = [name for name in client.scan_iter("hostile:{*") if keys.meta[:-4] in name]
        assert len(mine) >= len(HOSTILE)
        assert {key_slot(name) for name in mine} == {keys.slot}


def test_spaces_and_groups_of_like_names_share_no_key() -> None:
    keyspaces = Keyspaces("memx")
    metas = {keyspaces.space(name).meta for name in [*HOSTILE, "a", "a:", "s", ""]}
    assert len(metas) == len(HOSTILE) + 4
    assert keyspaces.group("a").index not in {keyspaces.space("sa").log, keyspaces.space("a").log}


def test_a_prefix_that_would_be_the_hash_tag_is_refused() -> None:
    with pytest.raises(ValueError, match="braces"):
        RedisStore("redis://localhost", prefix="{memx}")


async def test_the_log_is_trimmed_exactly_by_records(redis_any: RedisServer, prefix: str) -> None:
    async with opened(redis_any, prefix=prefix, log_max_records=7) as store:
        revisions = [await put(store, "a", number) for number in range(20)]
        assert [record.position.revision for record in await whole_log(store)] == revisions[-7:]


async def test_the_log_is_trimmed_exactly_by_bytes(redis_any: RedisServer, prefix: str) -> None:
    async with opened(redis_any, prefix=prefix, log_max_bytes=5000) as store:
        for size in [10, 900, 2000, 50, 700, 3000, 10, 1200, 400]:
            await put(store, "a", "x" * size)
            records = await whole_log(store)
            sizes = [len(change.data) for record in records for change in record.changes or ()]
            assert sum(sizes) <= 5000
            with redis_any.client() as client:
                held = client.hget(store._keyspaces.space(SPACE).meta, "bytes")
            assert int(held) == sum(sizes)

        await put(store, "a", "x" * 6000)
        assert len(await whole_log(store)) == 1


async def test_a_trim_too_long_for_one_commit_is_finished_later(
    redis_any: RedisServer, prefix: str
) -> None:
    async with opened(redis_any, prefix=prefix) as store:
        for number in range(350):
            await put(store, "a", number)
    async with opened(redis_any, prefix=prefix, log_max_records=10) as store:
        await put(store, "a")
        assert len(await whole_log(store)) > 200

        async def trimmed() -> bool:
            return len((await store.log(SPACE, None, 1000)).records) == 10

        await eventually(trimmed)


async def test_one_commit_trims_no_more_than_others_can_wait_for(
    redis_any: RedisServer, prefix: str
) -> None:
    async with opened(redis_any, prefix=prefix) as store:
        for number in range(30):
            await commit(store, *(Put(f"{number}:{each}", b"1") for each in range(128)))
    async with opened(redis_any, prefix=prefix, log_max_records=2) as store:
        await put(store, "a")
        left = sum(len(record.changes or ()) for record in await whole_log(store))
        assert 28 * 128 < left < 30 * 128


async def test_nothing_is_left_of_keys_that_are_gone(redis_any: RedisServer, prefix: str) -> None:
    async with opened(redis_any, prefix=prefix, log_max_records=4) as store:
        for number in range(30):
            await put(store, f"deleted:{number}")
            await commit(store, Delete(f"deleted:{number}"))
        await commit(store, *(Put(f"brief:{number}", b"1", ttl_ms=1) for number in range(150)))

        async def expired() -> bool:
            with redis_any.client() as client:
                return not client.exists(store._keyspaces.space(SPACE).expiries)

        await eventually(expired)
        for _ in range(4):
            await put(store, "last")

        space = store._keyspaces.space(SPACE)
        with redis_any.client() as client:
            assert client.hkeys(space.newest) == [b"last"]
            assert client.zrange(space.names, 0, -1) == [b"last"]
            left = set(client.scan_iter(f"{prefix}:{{*"))
        assert left == {space.meta, space.log, space.names, space.newest, space.entry("last")}


async def test_an_evicted_log_is_a_gap_and_not_silence(redis_any: RedisServer, prefix: str) -> None:
    async with opened(redis_any, prefix=prefix) as store:
        first = (await commit(store, Put("a", b"1"))).position
        head = (await commit(store, Put("a", b"2"))).position
        with redis_any.client() as client:
            client.delete(store._keyspaces.space(SPACE).log)

        assert await verdict(store, first) == "compacted"
        assert await verdict(store, head) == "resumes"
        await put(store, "b")
        assert await verdict(store, first) == "compacted"
        assert len((await store.log(SPACE, head, 10)).records) == 1
        assert not (await store.history(SPACE, "a", 10)).complete


async def test_an_entry_that_vanished_early_has_its_expiry_logged_before_the_next_write(
    redis_any: RedisServer, prefix: str
) -> None:
    async with opened(redis_any, prefix=prefix) as store:
        await commit(store, Put("a", b"1", ttl_ms=60_000))
        # As when the clock of a new primary is behind the one that let the entry go.
        with redis_any.client() as client:
            client.delete(store._keyspaces.space(SPACE).entry("a"))

        await put(store, "a", 2)

        changes = (await store.history(SPACE, "a", 10)).changes
        assert [change.action for change in changes] == ["set", "expire", "set"]


async def test_a_commit_logs_what_has_expired_first_and_once(
    redis_any: RedisServer, prefix: str
) -> None:
    # Not opened, so that no sweep comes before the commits.
    store = RedisStore(redis_any.url, prefix=prefix)
    await commit(store, Put("a", b"1", ttl_ms=5), Put('b"\\ü', b"1", ttl_ms=5), Put("c", b"1"))

    async def gone() -> bool:
        return await store.read(SPACE, ["a", 'b"\\ü']) == [None, None]

    await eventually(gone)
    again = await commit_one(
        store, SPACE, Transaction(WRITER, [Put("a", b"2"), Delete("c")], [Compare("a", 0)])
    )
    assert isinstance(again, Committed)
    assert [written.version for written in again.written] == [1, 0]
    first, expiry, second = await whole_log(store)
    assert sorted(summary(expiry.changes or ())) == [("expire", "a"), ("expire", 'b"\\ü')]
    assert summary(second.changes or ()) == [("set", "a"), ("delete", "c")]
    assert expiry.previous == first.position.revision
    assert second.previous == expiry.position.revision
    assert second.position == again.position
    await store.close()


async def test_the_cap_goes_by_what_redis_shows_and_not_by_a_clock_that_disagrees(
    redis_any: RedisServer, prefix: str
) -> None:
    # Not opened, so that no sweep comes in between.
    store = RedisStore(redis_any.url, prefix=prefix, quotas=SpaceQuotas(keys=2))
    space = store._keyspaces.space(SPACE)

    async def is_full(*writes: Put) -> bool:
        outcome = await commit_one(store, SPACE, Transaction(WRITER, writes))
        return isinstance(outcome, QuotaExceeded)

    await commit(store, Put("a", b"1", ttl_ms=60_000), Put("b", b"1"))
    with redis_any.client() as client:
        client.delete(space.entry("a"))  # gone before its time by this clock
    assert not await is_full(Put("a", b"2", ttl_ms=60_000))
    with redis_any.client() as client:
        client.zadd(space.expiries, {"a": 1})  # alive after its time by this clock
    assert await is_full(Put("a", b"3"), Put("c", b"1"))
    await store.close()
