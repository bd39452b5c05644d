"""The tail of a space: every commit is told, as the log has it."""

from __future__ import annotations

import asyncio

from memx_server.storage.base import Delete, Put, PutSchema, Store

from tests.storage.helpers import SPACE, Listener, changes_of, commit, put, summary, whole_log


async def test_every_commit_is_told_as_the_log_has_it(store: Store) -> None:
    listener = Listener()
    stop = await store.tail(SPACE, listener)
    await commit(store, Put("a", b"1", reason="why"), Put("b", b"1", ttl_ms=60_000))
    await commit(store, PutSchema("a*", b"{}"))
    last = await commit(store, Delete("a"))

    await listener.heard(last.position.revision)
    await stop()

    assert listener.records == await whole_log(store)


async def test_no_commit_of_many_at_a_time_is_left_out(store: Store) -> None:
    listener = Listener()
    stop = await store.tail(SPACE, listener)

    revisions = await asyncio.gather(*(put(store, f"key:{i}", i) for i in range(60)))
    await listener.until(lambda: len(listener.records) == 60)
    await stop()

    assert [record.position.revision for record in listener.records] == sorted(revisions)
    assert [record.previous for record in listener.records[1:]] == sorted(revisions)[:-1]


async def test_only_commits_of_its_space_are_told(store: Store) -> None:
    listener = Listener()
    stop = await store.tail(SPACE, listener)

    await put(store, "a", space="other")
    await put(store, "b")
    await put(store, "c", space="other")
    revision = await put(store, "d")
    await listener.heard(revision)
    await stop()

    assert summary(listener.changes) == [("set", "b"), ("set", "d")]


async def test_what_was_committed_before_is_not_told(store: Store) -> None:
    await put(store, "before")
    listener = Listener()
    stop = await store.tail(SPACE, listener)
    revision = await put(store, "after")

    await listener.heard(revision)
    await stop()

    assert summary(listener.changes) == [("set", "after")]


async def test_what_changes_nothing_is_not_told(store: Store) -> None:
    listener = Listener()
    stop = await store.tail(SPACE, listener)

    await commit(store, Delete("missing"))
    revision = await put(store, "a")
    await listener.heard(revision)
    await stop()

    assert [record.position.revision for record in listener.records] == [revision]


async def test_listeners_stop_one_by_one(store: Store) -> None:
    leaving, staying = Listener(), Listener()
    stop_leaving = await store.tail(SPACE, leaving)
    stop_staying = await store.tail(SPACE, staying)
    first = await put(store, "a")
    await asyncio.gather(leaving.heard(first), staying.heard(first))

    await stop_leaving()
    second = await put(store, "b")
    await staying.heard(second)
    await stop_staying()
    await put(store, "c")

    assert [record.position.revision for record in leaving.records] == [first]
    assert [record.position.revision for record in staying.records] == [first, second]

    again = Listener()
    stop_again = await store.tail(SPACE, again)
    fourth = await put(store, "d")
    await again.heard(fourth)
    await stop_again()


async def test_a_listener_that_fails_costs_the_others_nothing(store: Store) -> None:
    class Failing(Listener):
        def on_record(self, record: object) -> None:
            raise RuntimeError("a listener's mistake")

    stops = [await store.tail(SPACE, Failing())]
    listener = Listener()
    stops.append(await store.tail(SPACE, listener))

    revision = await put(store, "a")
    await listener.heard(revision)
    for stop in stops:
        await stop()


async def test_a_big_commit_is_told_though_perhaps_without_its_changes(store: Store) -> None:
    listener = Listener()
    stop = await store.tail(SPACE, listener)
    revision = await put(store, "big", "x" * 900_000)

    await listener.heard(revision)
    await stop()

    (record,) = listener.records
    assert record.position == await store.head(SPACE)
    assert record.changes is None or list(record.changes) == changes_of(await whole_log(store))
