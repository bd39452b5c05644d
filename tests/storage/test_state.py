"""The small state beside the log: it expires, takes no revision and wakes nobody."""

from __future__ import annotations

import asyncio
import time

import pytest
from memx_server.storage.base import GroupFull, Store

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


async def _take(
    store: Store, name: str, count: int, interval_ms: int, burst: int
) -> tuple[int, int]:
    return await store.state.take_tokens(
        "g", name, count, interval_us=1000 * interval_ms, burst=burst
    )


async def test_a_bucket_gives_out_a_burst_and_no_more(store: Store) -> None:
    taken = await asyncio.gather(*(_take(store, "b", 1, 3_600_000, 20) for _ in range(40)))

    assert sum(count for count, _ in taken) == 20
    waits = [wait_us for count, wait_us in taken if not count]
    assert all(0 < wait_us <= 3_600_000_000 for wait_us in waits)
    assert (await _take(store, "other", 1, 3_600_000, 20))[0] == 1
    assert await store.state.list("g") == {}


async def test_of_too_many_tokens_it_gives_those_that_it_has(store: Store) -> None:
    assert await _take(store, "b", 3, 3_600_000, 5) == (3, 0)
    taken, wait_us = await _take(store, "b", 10, 3_600_000, 5)
    assert taken == 2
    assert wait_us > 3_500_000_000


async def test_a_bucket_fills_at_its_interval_and_up_to_its_burst(store: Store) -> None:
    begun = time.monotonic()
    assert (await _take(store, "b", 10, 50, 10))[0] == 10
    taken = 0
    while taken < 12:
        count, wait_us = await _take(store, "b", 12 - taken, 50, 10)
        taken += count
        assert taken <= (time.monotonic() - begun) / 0.05 + 1
        await asyncio.sleep(wait_us / 1_000_000)
    await asyncio.sleep(0.05 * 12)
    assert (await _take(store, "b", 100, 50, 10))[0] <= 10 + 1


async def test_a_group_holds_no_more_than_the_caller_allows(store: Store) -> None:
    state = store.state
    await state.put("g", "a", b"1", TTL, most=2)
    assert await state.compare_and_put("g", "b", None, b"1", TTL, most=2)

    for name in ("c", "d"):
        with pytest.raises(GroupFull):
            await state.put("g", name, b"1", TTL, most=2)
        with pytest.raises(GroupFull):
            await state.compare_and_put("g", name, None, b"1", TTL, most=2)

    await state.put("g", "a", b"2", TTL, most=2)  # one that is there
    assert await state.compare_and_put("g", "b", b"1", b"2", TTL, most=2)
    await state.put("other", "c", b"1", TTL, most=1)
    assert await state.list("g") == {"a": b"2", "b": b"2"}
    await state.remove("g", "a")
    await state.put("g", "c", b"1", TTL, most=2)


async def test_what_has_expired_makes_no_group_full(store: Store) -> None:
    await store.state.put("g", "a", b"1", 40, most=1)

    async def gone() -> bool:
        return await store.state.get("g", "a") is None

    await eventually(gone)
    await store.state.put("g", "b", b"1", TTL, most=1)


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
    await store.state.take_tokens(SPACE, "n", 1, interval_us=1000, burst=1)
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
