"""Promise 1: a transaction is all or nothing, and answers for each of its writes."""

from __future__ import annotations

import asyncio

from memx_server.storage.base import Delete, DeleteSchema, Put, PutSchema, Store, Touch

from tests.storage.helpers import (
    SPACE,
    changes_of,
    commit,
    entry,
    put,
    read,
    seen,
    summary,
    value,
    whole_log,
)


async def test_every_kind_of_write_goes_into_one_transaction(store: Store) -> None:
    await commit(store, Put("gone", b"1"), Put("held", b"1"), PutSchema("old:*", b"{}"))

    committed = await commit(
        store,
        Put("new", b'{"a":1}', reason="because"),
        Delete("gone", reason="spent"),
        Touch("held", 60_000),
        PutSchema("new:*", b'{"type":"number"}', reason="numbers only"),
        DeleteSchema("old:*"),
        Delete("missing"),
    )

    assert [written.changed for written in committed.written] == [True] * 5 + [False]
    assert [written.version for written in committed.written] == [1, 0, 1, 0, 0, 0]
    assert await value(store, "new") == {"a": 1}
    assert await read(store, "gone") is None
    assert (await entry(store, "held")).expires_at == committed.written[2].expires_at
    assert set((await store.schemas(SPACE)).by_pattern) == {"new:*"}


async def test_the_log_has_one_record_with_the_changes_in_the_order_of_the_writes(
    store: Store,
) -> None:
    await commit(store, Put("b", b"1"), Put("a", b"1"))
    committed = await commit(
        store,
        Delete("b", reason="spent"),
        PutSchema("s*", b"true"),
        Put("c", b"2"),
        Touch("a", 9999),
    )

    record = (await whole_log(store))[-1]

    assert record.position == committed.position
    assert record.changes is not None
    assert summary(record.changes) == [("delete", "b"), ("schema", "s*"), ("set", "c")]
    assert {seen(change)["revision"] for change in record.changes} == {committed.position.revision}


async def test_changes_say_what_encoding_promises(store: Store) -> None:
    first = await commit(store, Put("k", b"[1]", ttl_ms=60_000, reason="why"))
    await commit(store, Delete("k", reason="spent"))
    await commit(store, PutSchema("k*", b'{"type":"array"}'))
    await commit(store, DeleteSchema("k*", reason="free"))

    changes = [seen(change) for change in changes_of(await whole_log(store))]

    revision = first.position.revision
    for step, change in enumerate(changes):
        assert change.pop("revision") == revision + step
        assert change.pop("writer") == "tester/one"
        assert change.pop("ts") >= first.ts
    assert changes == [
        {
            "event": "value",
            "action": "set",
            "key": "k",
            "version": 1,
            "expires_at": first.written[0].expires_at,
            "reason": "why",
            "value": [1],
        },
        {
            "event": "value",
            "action": "delete",
            "key": "k",
            "version": 0,
            "reason": "spent",
            "value": None,
        },
        {"event": "schema", "action": "schema", "key": "k*", "schema": {"type": "array"}},
        {"event": "schema", "action": "schema", "key": "k*", "reason": "free", "schema": None},
    ]


async def test_members_come_in_the_fixed_order(store: Store) -> None:
    await commit(store, Put("k", b"[1]", ttl_ms=60_000, reason="why"))

    (text,) = await store.read(SPACE, ["k"])
    (change,) = changes_of(await whole_log(store))

    assert text is not None
    members = "event action key revision version ts writer expires_at reason value"
    assert list(seen(change)) == members.split()
    assert text.startswith(b'{"revision":')
    assert text.endswith(b',"key":"k","value":[1]}')


async def test_as_many_operations_as_a_transaction_may_have(store: Store) -> None:
    committed = await commit(store, *(Put(f"key:{i}", b"%d" % i) for i in range(128)))

    assert len(committed.written) == 128
    page = await store.list(SPACE)
    assert len(page.entries) == 128
    assert len(await whole_log(store)) == 1


async def test_transactions_over_the_same_keys_do_not_mix(store: Store) -> None:
    await asyncio.gather(
        *(commit(store, *(Put(key, b"%d" % i) for key in "abcde")) for i in range(20))
    )

    entries = [await entry(store, key) for key in "abcde"]
    assert len({(found.revision, bytes(found.value)) for found in entries}) == 1
    assert [found.version for found in entries] == [20] * 5


async def test_history_false_logs_the_change_without_its_value(store: Store) -> None:
    await commit(store, Put("a", b'{"big":1}', log_value=False, reason="checkpoint"))

    (change,) = changes_of(await whole_log(store))

    assert "value" not in seen(change)
    assert seen(change)["reason"] == "checkpoint"
    assert seen(change)["version"] == 1
    assert await value(store, "a") == {"big": 1}
    assert list((await store.history(SPACE, "a", 10)).changes) == [change]


async def test_a_deleted_key_is_gone_everywhere_but_in_the_log(store: Store) -> None:
    await put(store, "a")
    await commit(store, Delete("a"))

    assert await read(store, "a") is None
    assert list((await store.list(SPACE)).entries) == []
    assert summary(changes_of(await whole_log(store))) == [("set", "a"), ("delete", "a")]
