"""Transactions that are asked for at the same time: each stands for itself, in the order of asking."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from memx_server.storage.base import (
    Committed,
    Compare,
    Conflicted,
    Delete,
    Idempotency,
    IdempotencyMismatch,
    Outcome,
    Put,
    PutSchema,
    QuotaExceeded,
    SchemaMoved,
    SpaceQuotas,
    Store,
    StoreUnavailable,
    Touch,
    Transaction,
    Write,
)

from tests.storage.conftest import OpenStore
from tests.storage.helpers import (
    SPACE,
    WRITER,
    changes_of,
    commit_one,
    entry,
    put,
    value,
    whole_log,
)
from tests.storage.redis_helpers import opened
from tests.support.redis_server import RedisServer

Together = Callable[[Store, Sequence[Transaction]], Awaitable[Sequence[Outcome | StoreUnavailable]]]


async def _by_many(
    store: Store, transactions: Sequence[Transaction]
) -> Sequence[Outcome | StoreUnavailable]:
    commits = [commit_one(store, SPACE, transaction) for transaction in transactions]
    found = await asyncio.gather(*commits, return_exceptions=True)
    assert all(not isinstance(each, BaseException | StoreUnavailable) for each in found), found
    return [each for each in found if not isinstance(each, BaseException)]


async def _by_one(
    store: Store, transactions: Sequence[Transaction]
) -> Sequence[Outcome | StoreUnavailable]:
    return await store.commit(SPACE, transactions)


@pytest.fixture(params=[_by_many, _by_one], ids=["by many callers", "by one caller"])
def together(request: pytest.FixtureRequest) -> Together:
    """Has transactions committed in one turn of the event loop."""
    asked: Together = request.param
    return asked


def _transaction(*writes: Write, compares: Sequence[Compare] = ()) -> Transaction:
    return Transaction(WRITER, writes, compares)


def _committed(outcomes: Sequence[Outcome | StoreUnavailable]) -> list[Committed]:
    assert all(isinstance(outcome, Committed) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Committed)]


async def test_each_has_its_own_revision_and_record_in_the_order_of_asking(
    store: Store, together: Together
) -> None:
    numbers = range(100)
    committed = _committed(
        await together(store, [_transaction(Put(f"k{each % 9}", b"%d" % each)) for each in numbers])
    )

    first = committed[0].position.revision
    assert [each.position.revision for each in committed] == [first + number for number in numbers]
    assert [each.written[0].version for each in committed] == [1 + each // 9 for each in numbers]
    log = await whole_log(store)
    assert [record.position for record in log] == [each.position for each in committed]
    assert [record.previous for record in log] == [
        0,
        *(each.position.revision for each in committed[:-1]),
    ]
    assert await value(store, "k0") == 99
    history = await store.history(SPACE, "k0", 100)
    assert len(history.changes) == 12
    assert history.complete


async def test_what_is_refused_leaves_the_others_alone(store: Store, together: Together) -> None:
    held = await put(store, "held", 1)
    outcomes = await together(
        store,
        [
            _transaction(Put("a", b"1")),
            _transaction(Put("b", b"2"), compares=[Compare("held", held + 7)]),
            _transaction(Put("held", b"3"), compares=[Compare("held", held)]),
            _transaction(Put("held", b"4"), compares=[Compare("held", held)]),
            _transaction(Delete("missing")),
            _transaction(Delete("a")),
            _transaction(Put("c", b"5")),
        ],
    )

    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Committed, Conflicted, Committed, Conflicted, Committed, Committed, Committed]
    late = outcomes[3]
    assert isinstance(late, Conflicted)
    assert late.entry is not None
    assert b'"value":3' in late.entry
    assert [await value(store, key) for key in ("a", "b", "held", "c")] == [None, None, 3, 5]
    assert [change.key for change in changes_of(await whole_log(store))] == [
        "held",
        "a",
        "held",
        "a",
        "c",
    ]


async def test_only_one_of_many_takes_a_revision(store: Store, together: Together) -> None:
    outcomes = await together(
        store,
        [_transaction(Put("k", b"%d" % each), compares=[Compare("k", 0)]) for each in range(50)],
    )

    assert [type(outcome) for outcome in outcomes] == [Committed] + [Conflicted] * 49
    assert await value(store, "k") == 0


async def test_a_new_schema_is_met_by_those_behind_it(store: Store, together: Together) -> None:
    checked = (await store.schemas(SPACE)).revision
    outcomes = await together(
        store,
        [
            Transaction(WRITER, [Put("before", b"1")], schema_revision=checked),
            Transaction(WRITER, [PutSchema("*", b'{"type":"string"}')], schema_revision=checked),
            Transaction(WRITER, [Put("behind", b"2")], schema_revision=checked),
        ],
    )

    put_schema = outcomes[1]
    assert isinstance(put_schema, Committed)
    assert outcomes[2] == SchemaMoved(put_schema.position.revision)
    assert await value(store, "before") == 1
    assert await value(store, "behind") is None


async def test_a_token_counts_among_those_asked_together(store: Store, together: Together) -> None:
    def tagged(number: int, digest: str) -> Transaction:
        token = Idempotency("mine", digest, b"note")
        return Transaction(WRITER, [Put("k", b"%d" % number)], idempotency=token)

    first, again, other = await together(store, [tagged(1, "a"), tagged(1, "a"), tagged(2, "b")])

    assert isinstance(first, Committed)
    assert isinstance(again, Committed)
    assert (again.position, again.replayed_note) == (first.position, b"note")
    assert isinstance(other, IdempotencyMismatch)
    assert (await entry(store, "k")).version == 1


async def test_an_expiry_given_by_one_is_known_to_the_next(
    store: Store, together: Together
) -> None:
    # The first expiry of a space is announced to those who sweep; from then on all go straight away.
    await commit_one(store, SPACE, _transaction(Put("other", b"1", ttl_ms=60_000)))
    await commit_one(store, SPACE, _transaction(Delete("other")))
    given, kept, moved, cleared = _committed(
        await together(
            store,
            [
                _transaction(Put("k", b"1", ttl_ms=60_000)),
                _transaction(Put("k", b"2", keep_expiry=True)),
                _transaction(Touch("k", 90_000)),
                _transaction(Put("k", b"3")),
            ],
        )
    )

    expiry = given.written[0].expires_at
    assert expiry is not None
    assert kept.written[0].expires_at == expiry
    later = moved.written[0].expires_at
    assert later is not None
    assert later - expiry > 29
    assert cleared.written[0].expires_at is None
    assert (await entry(store, "k")).expires_at is None
    assert [change.action for change in changes_of((await whole_log(store))[2:])] == ["set"] * 3


async def test_the_last_free_place_is_given_once(open_store: OpenStore, together: Together) -> None:
    store = await open_store(quotas=SpaceQuotas(keys=2))
    outcomes = await together(
        store,
        [
            *(_transaction(Put(key, b"1")) for key in "abc"),
            _transaction(Delete("a")),
            _transaction(Put("c", b"2")),
        ],
    )

    assert [type(outcome) for outcome in outcomes] == [
        *(Committed, Committed, QuotaExceeded, Committed, Committed)
    ]
    assert [await value(store, key) for key in "abc"] == [None, 1, 2]


async def test_the_log_is_trimmed_behind_them(open_store: OpenStore, together: Together) -> None:
    store = await open_store(log_max_records=10)
    committed = _committed(
        await together(store, [_transaction(Put(f"k{each}", b"1")) for each in range(60)])
    )

    last = committed[-1].position
    assert (await store.head(SPACE)) == last
    log = await whole_log(store)
    assert [record.position.revision for record in log] == [
        each.position.revision for each in committed[-10:]
    ]
    assert not (await store.history(SPACE, "k0", 5)).changes


async def test_a_caller_who_leaves_takes_nobody_along(store: Store) -> None:
    commits = [
        asyncio.ensure_future(commit_one(store, SPACE, _transaction(Put(f"k{each}", b"1"))))
        for each in range(20)
    ]
    await asyncio.sleep(0)
    for leaver in commits[::2]:
        leaver.cancel()
    await asyncio.wait(commits, timeout=10)

    assert all(commit.cancelled() for commit in commits[::2])
    _committed([commit.result() for commit in commits[1::2]])


async def test_a_script_that_redis_forgot_is_sent_again(
    redis_any: RedisServer, together: Together
) -> None:
    async with opened(redis_any, prefix=f"forgotten{together.__name__}") as store:
        await put(store, "k", 0)
        with redis_any.client() as client:
            client.script_flush()
        outcomes = await together(
            store, [_transaction(Put("k", b"%d" % each)) for each in range(1, 51)]
        )

        assert [each.written[0].version for each in _committed(outcomes)] == list(range(2, 52))
        assert await value(store, "k") == 50


async def test_those_who_ask_first_share_the_first_connection(redis_any: RedisServer) -> None:
    async with opened(redis_any, prefix="first") as store:
        with redis_any.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        outcomes = await store.commit(
            SPACE, [_transaction(Put(f"k{each}", b"1")) for each in range(30)]
        )
        # Those that went to the dead connection say so; nobody waits for ever.
        assert all(isinstance(each, Committed | StoreUnavailable) for each in outcomes)
        again = await store.commit(SPACE, [_transaction(Put("k", b"2"))] * 3)
        _committed(again)
