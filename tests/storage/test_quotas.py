"""What a space may hold beside its keys: results of idempotency tokens, and schemas."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
import redis
from memx_server.storage.base import (
    Committed,
    Delete,
    DeleteSchema,
    Idempotency,
    IdempotencyMismatch,
    Put,
    PutSchema,
    QuotaExceeded,
    SpaceQuotas,
    Store,
    Transaction,
    Write,
    result_size,
    schema_size,
)
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore
from msgspec.structs import replace

from tests.storage.backends import Backend
from tests.storage.conftest import OpenStore
from tests.storage.helpers import SPACE, commit, commit_one, put, value
from tests.support.redis_server import RedisServer

SIZE = result_size(Transaction("w", [Put("k", b"1")], idempotency=Idempotency("t", "d")))
FULL = QuotaExceeded("result_bytes", 3 * SIZE)


def tokened(token: str, *writes: Write, kept_ms: int = 600_000, note: bytes = b"") -> Transaction:
    return Transaction("w", writes, idempotency=Idempotency(token, "d", note, kept_ms))


async def kept(store: Store, token: str) -> bool:
    """Tell whether the store still has a result under ``token``: another request would mismatch."""
    probe = Transaction("w", (), (), None, Idempotency(token, "other"))
    return await commit_one(store, SPACE, probe) == IdempotencyMismatch()


@pytest.fixture
async def small(open_store: OpenStore) -> Store:
    """A store whose spaces keep three results of one write."""
    return await open_store(quotas=SpaceQuotas(result_bytes=3 * SIZE))


async def test_where_no_result_can_be_kept_a_write_with_a_token_is_refused(small: Store) -> None:
    for number in range(3):
        await commit_one(small, SPACE, tokened(f"t{number}", Put("k", b"%d" % number)))

    assert await commit_one(small, SPACE, tokened("t3", Put("k", b"3"))) == FULL
    assert await value(small, "k") == 2
    assert not await kept(small, "t3")


async def test_writes_without_a_token_and_other_spaces_go_on(small: Store) -> None:
    for number in range(4):
        await commit_one(small, SPACE, tokened(f"t{number}", Put("k", b"1")))

    await put(small, "k", "without")

    assert await value(small, "k") == "without"
    assert isinstance(await commit_one(small, "other", tokened("t3", Put("k", b"1"))), Committed)


async def test_a_kept_result_is_returned_though_the_space_is_full(small: Store) -> None:
    first = await commit_one(small, SPACE, tokened("t0", Put("k", b"1"), note=b""))
    for number in range(1, 4):
        await commit_one(small, SPACE, tokened(f"t{number}", Put("k", b"2")))

    assert isinstance(first, Committed)
    again = await commit_one(small, SPACE, tokened("t0", Put("k", b"1"), note=b""))
    assert again == replace(first, replayed_note=b"")
    assert all([await kept(small, f"t{number}") for number in range(3)])


async def test_of_writes_in_one_call_those_that_fit_are_applied(small: Store) -> None:
    calls = [tokened(f"t{number}", Put(f"k{number}", b"1")) for number in range(5)]

    outcomes = await small.commit(SPACE, calls)

    assert [type(outcome) for outcome in outcomes] == [Committed] * 3 + [QuotaExceeded] * 2
    assert [await value(small, f"k{number}") for number in range(5)] == [1, 1, 1, None, None]


async def test_writes_and_notes_are_charged(small: Store) -> None:
    big = tokened("big", Put("a", b"1"), Put("b", b"1"), note=b"x" * 2 * SIZE)

    assert await commit_one(small, SPACE, big) == FULL
    assert isinstance(await commit_one(small, SPACE, tokened("t", Put("a", b"1"))), Committed)


async def test_a_transaction_without_writes_keeps_no_result(small: Store) -> None:
    for number in range(10):
        outcome = await commit_one(small, SPACE, tokened(f"t{number}"))
        assert isinstance(outcome, Committed)
        assert outcome.replayed_note is None

    assert not await kept(small, "t0")
    assert isinstance(await commit_one(small, SPACE, tokened("t0", Put("a", b"1"))), Committed)


async def test_a_delete_of_a_missing_key_keeps_its_result(store: Store) -> None:
    await commit_one(store, SPACE, tokened("t", Delete("k")))
    await put(store, "k", "made later")

    await commit_one(store, SPACE, tokened("t", Delete("k")))

    assert await value(store, "k") == "made later"


async def test_a_result_is_kept_for_its_own_time(store: Store) -> None:
    await commit_one(store, SPACE, tokened("short", Put("k", b"1"), kept_ms=100))
    await commit_one(store, SPACE, tokened("long", Put("k", b"1")))

    await asyncio.sleep(0.15)

    assert not await kept(store, "short")
    assert await kept(store, "long")


async def test_schemas_are_counted_by_their_length(open_store: OpenStore) -> None:
    schema = b'{"type":"integer"}'
    bound = 2 * schema_size("k1", schema)
    store = await open_store(quotas=SpaceQuotas(schema_bytes=bound))
    full = QuotaExceeded("schema_bytes", bound)
    for key in ("k1", "k2"):
        await commit(store, PutSchema(key, schema))

    def transaction(*writes: Write) -> Transaction:
        return Transaction("w", writes)

    assert await commit_one(store, SPACE, transaction(PutSchema("k3", b"true"))) == full
    longer = b'{"type":"integer","minimum":0}'
    assert await commit_one(store, SPACE, transaction(PutSchema("k1", longer))) == full
    swap = transaction(DeleteSchema("k1"), PutSchema("k3", b"true"))
    assert isinstance(await commit_one(store, SPACE, swap), Committed)
    assert set((await store.schemas(SPACE)).by_pattern) == {"k2", "k3"}
    await commit(store, PutSchema("k2", b"true"))
    await commit(store, PutSchema("k3", b'{"type":"string"}'))


async def test_what_a_space_holds_is_known_after_a_restart(backend: Backend) -> None:
    quotas = SpaceQuotas(result_bytes=3 * SIZE, schema_bytes=schema_size("k1", b"true"))
    for number in range(3):
        store = backend.store(quotas=quotas)
        await store.open()
        assert isinstance(
            await commit_one(store, SPACE, tokened(f"t{number}", Put("k", b"1"))), Committed
        )
        if number == 0:
            await commit(store, PutSchema("k1", b"true"))
        await store.close()
    store = backend.store(quotas=quotas)
    await store.open()

    assert await commit_one(store, SPACE, tokened("t3", Put("k", b"1"))) == FULL
    outcome = await commit_one(store, SPACE, Transaction("w", [PutSchema("k2", b"true")]))
    assert outcome == QuotaExceeded("schema_bytes", quotas.schema_bytes)
    await store.close()


async def test_sqlite_forgets_a_result_when_its_time_has_come(tmp_path: Path) -> None:
    now = [1_700_000_000_000_000]
    store = SqliteStore(
        tmp_path / "memx.db", quotas=SpaceQuotas(result_bytes=3 * SIZE), clock=lambda: now[0]
    )
    await store.open()
    for number in range(3):
        await commit_one(store, SPACE, tokened(f"t{number}", Put("k", b"1"), kept_ms=1000))
    assert await commit_one(store, SPACE, tokened("t3", Put("k", b"1"))) == FULL
    now[0] += 1_000_000

    # One of the tokens is used anew, and must not be counted twice.
    for token in ("t0", "t3", "t4"):
        outcome = await commit_one(store, SPACE, tokened(token, Put("k", b"1")))
        assert isinstance(outcome, Committed)
        assert outcome.replayed_note is None
    assert await commit_one(store, SPACE, tokened("t5", Put("k", b"1"))) == FULL
    await store.close()


async def test_redis_forgets_the_results_of_a_minute_that_is_over(redis_any: RedisServer) -> None:
    store = RedisStore(
        redis_any.url, prefix="quota-minutes", quotas=SpaceQuotas(result_bytes=3 * SIZE)
    )
    await store.open()
    for number in range(3):
        await commit_one(store, SPACE, tokened(f"t{number}", Put("k", b"1")))
    assert await commit_one(store, SPACE, tokened("t3", Put("k", b"1"))) == FULL

    with redis.Redis.from_url(redis_any.url, decode_responses=True) as client:
        (meta,) = client.keys("quota-minutes:*:meta")
        minutes = [name for name in client.hkeys(meta) if name.startswith("results:")]
        for name in minutes:  # as if all of it had happened an hour ago
            minute = int(name.removeprefix("results:"))
            client.hset(meta, f"results:{minute - 60}", client.hget(meta, name))
            client.hdel(meta, name)
        client.hset(meta, "results_minute", 1)

        outcome = await commit_one(store, SPACE, tokened("t4", Put("k", b"1")))

        assert isinstance(outcome, Committed)
        left = {k: v for k, v in client.hgetall(meta).items() if k.startswith("results")}
        assert left.pop("results") == str(SIZE)
        left.pop("results_minute")
        assert list(left.values()) == [str(SIZE)]
    await store.close()


async def test_a_result_is_charged_with_more_than_it_takes_in_redis(redis_any: RedisServer) -> None:
    store = RedisStore(redis_any.url, prefix="quota-size")
    await store.open()
    note = b"n" * 300
    transaction = tokened(
        "x" * 32, *(Put(f"k{n}", b"1", ttl_ms=10**9) for n in range(8)), note=note
    )
    transaction = replace(transaction, idempotency=Idempotency("x" * 32, "d" * 32, note))

    await commit_one(store, SPACE, transaction)

    with redis.Redis.from_url(redis_any.url) as client:
        (result,) = client.keys("quota-size:*:i:*")
        expiry_entry = 40  # of Redis's table of expiries, which MEMORY USAGE leaves out
        assert client.memory_usage(result) + expiry_entry <= result_size(transaction)
    await store.close()


async def test_a_result_is_charged_with_more_than_it_takes_in_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "memx.db"
    store = SqliteStore(path)
    await store.open()
    calls = [
        Transaction("w", [Put("k", b"1")], idempotency=Idempotency(f"{n:032x}", "d" * 32))
        for n in range(2000)
    ]
    await store.commit(SPACE, calls)
    await store.close()

    with sqlite3.connect(path) as file:
        before = file.execute("PRAGMA page_count").fetchone()[0]
        file.execute("DELETE FROM idempotency")
        file.commit()
        file.execute("VACUUM")
        after = file.execute("PRAGMA page_count").fetchone()[0]
        (page,) = file.execute("PRAGMA page_size").fetchone()
    assert (before - after) * page <= sum(map(result_size, calls))
