"""Promise 3: a conditional write succeeds for one writer per revision, and a loser gets the entry."""

from __future__ import annotations

import asyncio

import pytest
from memx_server.storage.base import (
    Committed,
    Compare,
    Conflicted,
    Delete,
    Put,
    Store,
    Touch,
    Transaction,
)
from memx_server.storage.encoding import decode_entry

from tests.storage.helpers import SPACE, commit, commit_one, put, read, refused, value, whole_log


async def test_a_write_goes_through_on_the_revision_it_names(store: Store) -> None:
    revision = await put(store, "a", "old")

    await commit(store, Put("a", b'"new"'), compares=[Compare("a", revision)])

    assert await value(store, "a") == "new"


async def test_a_write_on_an_outdated_revision_gets_the_current_entry(store: Store) -> None:
    outdated = await put(store, "a", "old")
    await put(store, "a", "newer")

    conflict = await refused(store, Put("a", b'"mine"'), compares=[Compare("a", outdated)])

    assert conflict.key == "a"
    assert [conflict.entry] == list(await store.read(SPACE, ["a"]))
    assert await value(store, "a") == "newer"


async def test_revision_0_means_only_if_the_key_does_not_exist(store: Store) -> None:
    await commit(store, Put("a", b"1"), compares=[Compare("a", 0)])

    conflict = await refused(store, Put("a", b"2"), compares=[Compare("a", 0)])

    assert conflict.entry is not None
    assert decode_entry(conflict.entry).version == 1


async def test_a_compare_with_a_missing_key_conflicts_without_an_entry(store: Store) -> None:
    assert await refused(store, Put("a", b"1"), compares=[Compare("a", 7)]) == Conflicted("a", None)

    revision = await put(store, "a")
    await commit(store, Delete("a"))

    assert (await refused(store, compares=[Compare("a", revision)])).entry is None
    await commit(store, Put("a", b"1"), compares=[Compare("a", 0)])


async def test_a_revision_is_that_of_the_entry_and_not_of_the_space(store: Store) -> None:
    revision = await put(store, "a")
    head = await put(store, "b")

    await refused(store, Put("a", b"2"), compares=[Compare("a", head)])
    await commit(store, Put("a", b"2"), compares=[Compare("a", revision)])


async def test_a_failed_compare_leaves_no_trace(store: Store) -> None:
    await put(store, "a")
    head = await store.head(SPACE)

    await refused(
        store,
        Put("b", b"1"),
        Delete("a"),
        Touch("a", 1),
        compares=[Compare("b", 0), Compare("a", 5)],
    )

    assert await store.head(SPACE) == head
    assert await read(store, "b") is None
    assert (await store.read(SPACE, ["a"]))[0] is not None
    assert len(await whole_log(store)) == 1


async def test_all_compares_must_hold_and_the_first_that_fails_is_told(store: Store) -> None:
    good = await put(store, "a")
    await put(store, "b")

    conflict = await refused(
        store,
        Put("c", b"1"),
        compares=[Compare("a", good), Compare("missing", 3), Compare("b", 0)],
    )

    assert conflict.key == "missing"
    await commit(store, Put("c", b"1"), compares=[Compare("a", good), Compare("missing", 0)])


async def test_compares_without_writes_are_a_check(store: Store) -> None:
    revision = await put(store, "a")

    checked = await commit(store, compares=[Compare("a", revision)])

    assert checked.position == await store.head(SPACE)
    assert list(checked.written) == []


@pytest.mark.parametrize("rival_count", [2, 25])
async def test_one_of_many_rivals_wins_a_revision(store: Store, rival_count: int) -> None:
    revision = await put(store, "a", "start")

    outcomes = await asyncio.gather(
        *(
            commit_one(
                store,
                SPACE,
                Transaction(f"rival/{i}", [Put("a", b"%d" % i)], [Compare("a", revision)]),
            )
            for i in range(rival_count)
        )
    )

    winners = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Committed)]
    assert [await value(store, "a")] == winners
    for outcome in outcomes:
        if isinstance(outcome, Conflicted):
            assert outcome.entry is not None
            assert decode_entry(outcome.entry).writer == f"rival/{winners[0]}"


async def test_a_counter_built_on_compares_loses_no_increment(store: Store) -> None:
    await put(store, "counter", 0)

    async def increment() -> None:
        while True:
            (text,) = await store.read(SPACE, ["counter"])
            assert text is not None
            before = decode_entry(text)
            after = b"%d" % (int(bytes(before.value)) + 1)
            outcome = await commit_one(
                store,
                SPACE,
                Transaction("w", [Put("counter", after)], [Compare("counter", before.revision)]),
            )
            if isinstance(outcome, Committed):
                return

    async with asyncio.timeout(30):
        await asyncio.gather(*(increment() for _ in range(20)))
    assert await value(store, "counter") == 20
