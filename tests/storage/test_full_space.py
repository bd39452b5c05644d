"""The cap on the keys of a space: no writer passes it, and what adds no keys always works."""

from __future__ import annotations

import asyncio

import pytest
from memx_server.storage.base import (
    Committed,
    Compare,
    Conflicted,
    Delete,
    Idempotency,
    Outcome,
    Put,
    PutSchema,
    QuotaExceeded,
    SpaceQuotas,
    Store,
    Touch,
    Transaction,
    Write,
)

from tests.storage.conftest import OpenStore
from tests.storage.helpers import SPACE, commit, commit_one, eventually, put, value, whole_log

CAP = 3
FULL = QuotaExceeded("keys", CAP)
SHORT_MS = 40


@pytest.fixture
async def capped(open_store: OpenStore) -> Store:
    """A store whose spaces hold three keys."""
    return await open_store(quotas=SpaceQuotas(keys=CAP))


async def attempt(store: Store, *writes: Write, compares: tuple[Compare, ...] = ()) -> Outcome:
    return await commit_one(store, SPACE, Transaction("w", writes, compares))


async def fill(store: Store) -> None:
    for key in "abc":
        await put(store, key, key)


async def keys_of(store: Store) -> list[str]:
    return [key for key, _ in (await store.list(SPACE)).entries]


async def test_a_key_too_many_is_refused_and_leaves_no_trace(capped: Store) -> None:
    await fill(capped)
    head = await capped.head(SPACE)

    assert await attempt(capped, Put("d", b"1")) == FULL

    assert await keys_of(capped) == ["a", "b", "c"]
    assert await capped.head(SPACE) == head
    assert len(await whole_log(capped)) == 3


async def test_a_transaction_that_adds_too_many_is_refused_whole(capped: Store) -> None:
    await put(capped, "a", "old")

    writes = (Put("a", b'"new"'), Put("b", b"1"), Put("c", b"1"), Put("d", b"1"))
    assert await attempt(capped, *writes) == FULL

    assert await keys_of(capped) == ["a"]
    assert await value(capped, "a") == "old"
    await commit(capped, *writes[:3])


async def test_what_adds_no_keys_works_in_a_full_space(capped: Store) -> None:
    await fill(capped)

    await commit(capped, Put("a", b"2"), Put("b", b"2", keep_expiry=True))
    await commit(capped, Touch("c", 60_000), Touch("missing", 60_000))
    await commit(capped, PutSchema("d", b"{}"))
    await commit(capped, Put("d", b"1"), Delete("a"))
    assert await attempt(capped, Put("a", b"1"), Delete("missing")) == FULL
    await commit(capped, Delete("b"))
    await commit(capped, Put("e", b"1"))

    assert await keys_of(capped) == ["c", "d", "e"]
    assert await attempt(capped, Put("f", b"1")) == FULL


async def test_each_space_has_room_of_its_own(capped: Store) -> None:
    await fill(capped)

    await put(capped, "d", space="another")

    assert await attempt(capped, Put("d", b"1")) == FULL


async def test_a_space_over_a_lowered_cap_shrinks_by_what_its_owner_deletes(
    open_store: OpenStore,
) -> None:
    before = await open_store()
    await commit(before, *(Put(f"k{number}", b"1") for number in range(5)))
    await before.close()
    store = await open_store(quotas=SpaceQuotas(keys=CAP))

    await commit(store, Put("k0", b"2"))
    await commit(store, Put("new", b"1"), Delete("k1"))
    assert await attempt(store, Put("another", b"1")) == FULL
    await commit(store, Delete("k2"), Delete("k3"), Delete("k4"))
    await commit(store, Put("another", b"1"))

    assert await keys_of(store) == ["another", "k0", "new"]


async def test_expired_keys_do_not_count(capped: Store) -> None:
    await put(capped, "a")
    await commit(capped, Put("b", b"1", ttl_ms=SHORT_MS), Put("c", b"1", ttl_ms=SHORT_MS))

    async def two_are_gone() -> bool:
        return await keys_of(capped) == ["a"]

    await eventually(two_are_gone)
    await commit(capped, Put("b", b"2"), Put("d", b"2"))

    assert await attempt(capped, Put("c", b"1")) == FULL
    assert await keys_of(capped) == ["a", "b", "d"]


async def test_more_expired_keys_than_one_commit_logs_do_not_count(open_store: OpenStore) -> None:
    many = 250
    store = await open_store(quotas=SpaceQuotas(keys=many))
    await commit(store, *(Put(f"k{number}", b"1", ttl_ms=SHORT_MS) for number in range(many)))

    async def all_are_gone() -> bool:
        return await keys_of(store) == []

    await eventually(all_are_gone)

    await commit(store, *(Put(f"new{number}", b"1") for number in range(many)))
    assert await attempt(store, Put("k0", b"1")) == QuotaExceeded("keys", many)


async def test_what_else_is_wrong_is_told_first_and_a_repetition_is_answered(
    capped: Store,
) -> None:
    token = Idempotency("token", "digest", b"note")
    first = await commit_one(capped, SPACE, Transaction("w", [Put("c", b"1")], idempotency=token))
    assert isinstance(first, Committed)
    await put(capped, "a")
    await put(capped, "b")

    again = await commit_one(capped, SPACE, Transaction("w", [Put("c", b"1")], idempotency=token))
    assert isinstance(again, Committed)
    assert (again.position, again.replayed_note) == (first.position, b"note")
    conflict = await attempt(capped, Put("d", b"1"), compares=(Compare("a", 0),))
    assert isinstance(conflict, Conflicted)


async def test_a_refusal_is_not_remembered_as_an_answer(capped: Store) -> None:
    await fill(capped)
    request = Transaction("w", [Put("d", b"1")], idempotency=Idempotency("token", "digest"))

    assert await commit_one(capped, SPACE, request) == FULL
    await commit(capped, Delete("a"))

    assert isinstance(await commit_one(capped, SPACE, request), Committed)


async def test_writers_at_one_time_do_not_pass_the_cap_together(open_store: OpenStore) -> None:
    cap, writers = 10, 40
    store = await open_store(quotas=SpaceQuotas(keys=cap))

    outcomes = await asyncio.gather(
        *(attempt(store, Put(f"{n}:1", b"1"), Put(f"{n}:2", b"1")) for n in range(writers))
    )

    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == cap // 2
    assert outcomes.count(QuotaExceeded("keys", cap)) == writers - cap // 2
    assert len(await keys_of(store)) == cap


async def test_writers_that_swap_keys_in_a_full_space_keep_it_full(open_store: OpenStore) -> None:
    cap = 20
    store = await open_store(quotas=SpaceQuotas(keys=cap))
    await commit(store, *(Put(f"old{number}", b"1") for number in range(cap)))

    async def swap(number: int) -> None:
        assert await attempt(store, Put(f"extra{number}", b"1")) == QuotaExceeded("keys", cap)
        await commit(store, Put(f"new{number}", b"1"), Delete(f"old{number}"))

    await asyncio.gather(*(swap(number) for number in range(cap)))

    assert await keys_of(store) == sorted(f"new{number}" for number in range(cap))
