"""The small state beside the log: it expires, takes no revision and wakes nobody."""

from __future__ import annotations

import asyncio

from memx_server.storage.base import Store

from tests.storage.conftest import OpenStore
from tests.storage.helpers import SPACE, Listener, eventually, in_time, put

TTL = 60_000


async def test_a_record_is_put_read_replaced_and_removed(store: Store) -> None:
    assert await store.state.get("g", "a") is None
    await store.state.put("g", "a", b"1", TTL)
    await store.state.put("g", "a", b"2", TTL)

    assert await store.state.get("g", "a") == b"2"

    await store.state.remove("g", "a")
    await store.state.remove("g", "never there")
    assert await store.state.get("g", "a") is None


async def test_a_value_is_bytes_and_comes_back_as_it_went(store: Store) -> None:
    for value in (b"", b"\x00\xff\n", b"null", bytes(range(256)) * 40):
        await store.state.put("g", "a", value, TTL)

        assert await store.state.get("g", "a") == value
        assert await store.state.list("g") == {"a": value}
        assert await store.state.take("g", "a") == value


async def test_names_and_groups_are_any_texts_and_do_not_mix(store: Store) -> None:
    names = ["a", "a:b", "{a}", "*", "\N{GRINNING FACE}", "x" * 300, "100%", ""]
    for group in ("g", "g:a", "g*", "{g}"):
        for name in names:
            await store.state.put(group, name, f"{group}/{name}".encode(), TTL)

    for group in ("g", "g:a", "g*", "{g}"):
        assert await store.state.list(group) == {name: f"{group}/{name}".encode() for name in names}
    assert await store.state.list("empty") == {}


async def test_a_record_expires(store: Store) -> None:
    await store.state.put("g", "a", b"1", 40)
    await store.state.put("g", "b", b"1", TTL)

    async def gone() -> bool:
        return await store.state.get("g", "a") is None

    await eventually(gone)
    assert await store.state.list("g") == {"b": b"1"}
    assert await store.state.take("g", "a") is None
    assert await store.state.compare_and_put("g", "a", None, b"2", TTL)


async def test_a_put_renews_the_expiry(store: Store) -> None:
    async def put_twice(name: str, ttl_ms: int) -> None:
        await store.state.put("g", name, b"1", ttl_ms)
        await store.state.put("g", name, b"2", TTL)

    name = await in_time(put_twice)

    assert await store.state.get("g", name) == b"2"


async def test_of_several_takers_one_gets_it(store: Store) -> None:
    await store.state.put("g", "ticket", b"secret", TTL)

    taken = await asyncio.gather(*(store.state.take("g", "ticket") for _ in range(10)))

    assert sorted(taken, key=bool) == [None] * 9 + [b"secret"]
    assert await store.state.get("g", "ticket") is None
    assert await store.state.list("g") == {}


async def test_increments_add_up(store: Store) -> None:
    counts = await asyncio.gather(*(store.state.increment("g", "n", TTL) for _ in range(25)))

    assert sorted(counts) == list(range(1, 26))
    assert await store.state.increment("g", "n", TTL, by=100) == 125
    assert await store.state.increment("g", "n", TTL, by=-25) == 100
    assert await store.state.get("g", "n") == b"100"
    assert await store.state.list("g") == {"n": b"100"}


async def test_a_counter_expires_by_its_first_increment(store: Store) -> None:
    async def increment_twice(name: str, ttl_ms: int) -> None:
        await store.state.increment("g", name, ttl_ms)
        await store.state.increment("g", name, TTL)

    name = await in_time(increment_twice)

    assert await store.state.get("g", name) is None
    assert await store.state.increment("g", name, TTL) == 1


async def test_a_record_is_put_only_over_what_was_expected(store: Store) -> None:
    state = store.state

    assert not await state.compare_and_put("g", "a", b"1", b"2", TTL)
    assert await state.compare_and_put("g", "a", None, b"1", TTL)
    assert not await state.compare_and_put("g", "a", None, b"2", TTL)
    assert not await state.compare_and_put("g", "a", b"0", b"2", TTL)
    assert await state.compare_and_put("g", "a", b"1", b"", TTL)
    assert await state.compare_and_put("g", "a", b"", b"3", TTL)
    assert await state.get("g", "a") == b"3"
    assert await state.list("g") == {"a": b"3"}


async def test_of_several_who_expect_the_same_one_puts(store: Store) -> None:
    done = await asyncio.gather(
        *(store.state.compare_and_put("g", "a", None, b"%d" % i, TTL) for i in range(10))
    )

    assert sum(done) == 1
    assert await store.state.get("g", "a") == b"%d" % done.index(True)


async def test_the_state_takes_no_revision_and_wakes_nobody(store: Store) -> None:
    await put(store, "a")
    head = await store.head(SPACE)
    listener = Listener()
    stop = await store.tail(SPACE, listener)

    await store.state.put(SPACE, "a", b"1", TTL)
    await store.state.increment(SPACE, "n", TTL)
    await store.state.take(SPACE, "a")
    revision = await put(store, "a")
    await listener.heard(revision)
    await stop()

    assert revision == head.revision + 1
    assert [record.position.revision for record in listener.records] == [revision]
    assert len((await store.list(SPACE)).entries) == 1


async def test_the_state_outlives_a_restart_of_the_process(open_store: OpenStore) -> None:
    first = await open_store()
    await first.state.put("cursors", "reader", b"abc-1", TTL)
    await first.close()

    second = await open_store()

    assert await second.state.get("cursors", "reader") == b"abc-1"
