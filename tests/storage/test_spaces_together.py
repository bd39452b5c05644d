"""Transactions of several spaces that are asked for at the same time: no space is another's matter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from memx_server.storage.base import (
    Committed,
    Compare,
    Conflicted,
    Outcome,
    Put,
    PutSchema,
    Store,
    Transaction,
    Write,
)
from memx_server.storage.redis.commits import CommitRefused

from tests.storage.conftest import OpenStore
from tests.storage.helpers import WRITER, commit_one, entry, whole_log
from tests.storage.redis_helpers import opened
from tests.support.redis_server import RedisServer


def _transaction(*writes: Write, compares: Sequence[Compare] = ()) -> Transaction:
    return Transaction(WRITER, writes, compares)


def _puts(spaces: Sequence[str]) -> list[tuple[str, Transaction]]:
    return [(space, _transaction(Put("k", b"1"))) for space in spaces]


async def _of_spaces(
    store: Store, asked: Sequence[tuple[str, Transaction]]
) -> list[Outcome | BaseException]:
    """Have transactions of several spaces committed in one turn of the event loop."""
    commits = (commit_one(store, space, transaction) for space, transaction in asked)
    return await asyncio.gather(*commits, return_exceptions=True)


async def test_spaces_of_one_turn_have_lineages_of_their_own(redis_any: RedisServer) -> None:
    spaces = [f"s{each}" for each in range(4)]
    async with opened(redis_any, prefix="one-turn") as store:
        outcomes = await _of_spaces(store, _puts(spaces))

        heads = [await store.head(space) for space in spaces]
        assert heads == [each.position for each in outcomes if isinstance(each, Committed)]
        assert len({head.lineage for head in heads}) == len(spaces)


async def test_a_conflict_and_a_trim_in_one_space_are_no_matter_to_the_next(
    open_store: OpenStore,
) -> None:
    store = await open_store(log_max_records=3)
    never = _transaction(Put("k", b"2"), compares=[Compare("k", 7)])
    for _ in range(5):
        await commit_one(
            store, "a", _transaction(Put("k", b"1"), Put("brief", b"1", ttl_ms=60_000))
        )
    conflict, first, again, schema = await _of_spaces(
        store,
        [
            ("a", never),
            ("b", _transaction(Put("k", b"1"))),
            ("a", _transaction(Put("k", b"3"))),
            ("c", _transaction(PutSchema("*", b"{}"))),
        ],
    )

    assert isinstance(conflict, Conflicted)
    assert all(isinstance(each, Committed) for each in (first, again, schema))
    assert [len(await whole_log(store, space=space)) for space in "abc"] == [3, 1, 1]
    assert [(await store.schemas(space)).revision > 0 for space in "abc"] == [False, False, True]
    assert (await entry(store, "k", space="a")).version == 6
    assert (await entry(store, "k", space="b")).version == 1


async def test_a_refusal_leaves_nothing_in_a_space_that_was_never_written(
    redis_any: RedisServer,
) -> None:
    never = _transaction(Put("k", b"2"), compares=[Compare("k", 7)])
    async with opened(redis_any, prefix="untouched") as store:
        _, refused = await _of_spaces(store, [*_puts(["written"]), ("untouched", never)])

        assert isinstance(refused, Conflicted)
        with redis_any.client() as client:
            assert not client.exists(*store._keyspaces.space("untouched").shared)


async def test_what_is_wrong_with_one_space_fails_that_one(redis_any: RedisServer) -> None:
    async with opened(redis_any, prefix="broken") as store:
        with redis_any.client() as client:
            client.set(store._keyspaces.space("s1").log, "put here by somebody else")
        before, broken, behind = await _of_spaces(store, _puts(["s0", "s1", "s2"]))

        assert isinstance(before, Committed)
        assert isinstance(behind, Committed)
        assert isinstance(broken, CommitRefused)
        assert str(broken).startswith("WRONGTYPE")


async def test_spaces_do_not_mix(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(
            commit_one(store, f"s{each % 3}", _transaction(Put(f"k{each}", b"%d" % each)))
            for each in range(30)
        )
    )

    assert all(isinstance(each, Committed) for each in outcomes), outcomes
    for space in range(3):
        page = await store.list(f"s{space}")
        assert len(page.entries) == 10
        assert all(int(key[1:]) % 3 == space for key, _ in page.entries)
