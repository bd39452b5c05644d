"""Promise 7: an expired key is gone at its time, and the log shows exactly one expire change for it."""

from __future__ import annotations

import asyncio
import time

import pytest
from memx_server.storage.base import Compare, Delete, Put, Store, Touch

from tests.storage.conftest import OpenStore
from tests.storage.helpers import (
    SPACE,
    Listener,
    changes_of,
    commit,
    entry,
    eventually,
    in_time,
    put,
    read,
    refused,
    seen,
    summary,
    whole_log,
)

SHORT_MS = 40
LONG_MS = 60_000
PROMPT_SECONDS = 3.0


async def gone(store: Store, key: str) -> None:
    """Wait until ``key`` has expired for a reader."""

    async def is_gone() -> bool:
        return await read(store, key) is None

    await eventually(is_gone)


async def what_became_of(store: Store, key: str) -> list[str]:
    """The actions on ``key``, oldest first, once all that is due by now is logged."""
    await commit(store, Put("fence", b"1", ttl_ms=1))

    async def fence_fell() -> bool:
        newest = (await store.history(SPACE, "fence", 1)).changes
        return [change.action for change in newest] == ["expire"]

    await eventually(fence_fell)
    changes = (await store.history(SPACE, key, 100)).changes
    return [change.action for change in reversed(changes)]


async def test_an_entry_says_when_it_expires(store: Store) -> None:
    before = time.time()
    committed = await commit(store, Put("a", b"1", ttl_ms=LONG_MS))

    expires_at = (await entry(store, "a")).expires_at
    assert expires_at is not None
    assert expires_at == committed.written[0].expires_at
    assert expires_at == pytest.approx(before + 60, abs=5)
    assert expires_at == pytest.approx(committed.ts + 60, abs=0.002)


async def test_an_expired_key_is_gone_at_its_time_for_every_reader(store: Store) -> None:
    committed = await commit(store, Put("a", b"1", ttl_ms=SHORT_MS), Put("b", b"1"))
    await gone(store, "a")

    assert time.time() >= (committed.written[0].expires_at or 0) - 0.002
    assert await store.read(SPACE, ["a", "b"]) == [None, *(await store.read(SPACE, ["b"]))]
    assert [key for key, _ in (await store.list(SPACE)).entries] == ["b"]
    assert (
        await refused(store, compares=[Compare("a", committed.position.revision)])
    ).entry is None
    await commit(store, Put("c", b"1"), compares=[Compare("a", 0)])


async def test_one_expire_change_comes_promptly_though_nobody_asks(store: Store) -> None:
    listener = Listener()
    stop = await store.tail(SPACE, listener)
    committed = await commit(store, Put("a", b"1", ttl_ms=SHORT_MS))

    await listener.until(lambda: ("expire", "a") in summary(listener.changes))
    await stop()

    change = seen(changes_of(await whole_log(store))[-1])
    head = await store.head(SPACE)
    expires_at = committed.written[0].expires_at or 0
    assert expires_at - 0.002 <= change.pop("ts") < expires_at + PROMPT_SECONDS
    assert change == {
        "event": "value",
        "action": "expire",
        "key": "a",
        "revision": head.revision,
        "version": 0,
        "writer": "",
        "value": None,
    }
    assert summary(changes_of(await whole_log(store))) == [("set", "a"), ("expire", "a")]


async def test_each_of_many_keys_expires_once_while_others_write(store: Store) -> None:
    keys = [f"key:{number:03}" for number in range(150)]
    await commit(store, *(Put(key, b"1", ttl_ms=SHORT_MS) for key in keys[:100]))
    await commit(store, *(Put(key, b"1", ttl_ms=SHORT_MS) for key in keys[100:]))

    async def expired() -> list[str]:
        await asyncio.gather(*(put(store, f"other:{number}") for number in range(5)))
        changes = changes_of(await whole_log(store))
        return sorted(change.key for change in changes if change.action == "expire")

    async def all_expired() -> bool:
        return len(await expired()) >= len(keys)

    await eventually(all_expired)
    assert await expired() == keys


async def test_a_key_made_anew_after_its_time_starts_over_behind_the_expiry(store: Store) -> None:
    await put(store, "a", 1)
    await commit(store, Put("a", b"2", ttl_ms=SHORT_MS))
    await gone(store, "a")

    again = await commit(store, Put("a", b"3"), compares=[Compare("a", 0)])

    assert again.written[0].version == 1
    assert await what_became_of(store, "a") == ["set", "set", "expire", "set"]


async def test_set_without_a_ttl_clears_the_expiry(store: Store) -> None:
    async def set_twice(key: str, ttl_ms: int) -> None:
        await commit(store, Put(key, b"1", ttl_ms=ttl_ms))
        cleared = await commit(store, Put(key, b"2"))
        assert cleared.written[0].expires_at is None

    key = await in_time(set_twice)

    assert (await entry(store, key)).expires_at is None
    assert await what_became_of(store, key) == ["set", "set"]


async def test_an_update_can_keep_the_expiry(store: Store) -> None:
    first = await commit(store, Put("a", b"1", ttl_ms=LONG_MS), Put("b", b"1"))
    kept = await commit(
        store,
        Put("a", b"2", keep_expiry=True),
        Put("b", b"2", keep_expiry=True),
        Put("c", b"2", keep_expiry=True),
    )

    expiries = [written.expires_at for written in kept.written]
    assert expiries == [first.written[0].expires_at, None, None]
    assert (await entry(store, "a")).expires_at == first.written[0].expires_at
    change = seen(changes_of(await whole_log(store))[2])
    assert (change["key"], change["expires_at"]) == ("a", first.written[0].expires_at)


async def test_an_expiry_that_has_passed_is_not_kept(store: Store) -> None:
    await commit(store, Put("a", b"1", ttl_ms=SHORT_MS))
    await gone(store, "a")

    again = await commit(store, Put("a", b"2", keep_expiry=True))

    assert (again.written[0].version, again.written[0].expires_at) == (1, None)


async def test_touch_moves_only_the_expiry(store: Store) -> None:
    await commit(store, Put("a", b"[1.50]", ttl_ms=LONG_MS, reason="why"))
    before = await entry(store, "a")

    touched = await commit(store, Touch("a", 2 * LONG_MS))
    moved = await entry(store, "a")
    cleared = await commit(store, Touch("a", None))
    freed = await entry(store, "a")

    assert touched.written[0].expires_at == moved.expires_at
    assert (moved.expires_at or 0) > (before.expires_at or 0) + 30
    assert (cleared.written[0].changed, cleared.written[0].version) == (True, 1)
    assert cleared.written[0].expires_at is freed.expires_at is None
    for after in (moved, freed):
        assert (after.revision, after.version) == (before.revision, before.version)
        assert (after.ts, after.writer) == (before.ts, before.writer)
        assert bytes(after.value) == b"[1.50]"
    assert await what_became_of(store, "a") == ["set"]


async def test_touch_can_put_the_expiry_off(store: Store) -> None:
    async def set_and_touch(key: str, ttl_ms: int) -> None:
        await commit(store, Put(key, b"1", ttl_ms=ttl_ms))
        await commit(store, Touch(key, LONG_MS))

    key = await in_time(set_and_touch)

    assert (await entry(store, key)).version == 1
    assert await what_became_of(store, key) == ["set"]


async def test_touch_can_bring_the_expiry_forward(store: Store) -> None:
    await commit(store, Put("a", b"1"), Put("b", b"1", ttl_ms=LONG_MS))
    await commit(store, Touch("a", SHORT_MS), Touch("b", SHORT_MS))

    await gone(store, "a")
    await gone(store, "b")
    assert await what_became_of(store, "a") == ["set", "expire"]
    assert await what_became_of(store, "b") == ["set", "expire"]


async def test_touch_can_be_conditional(store: Store) -> None:
    lease = await commit(store, Put("lock", b'"me"', ttl_ms=LONG_MS))
    revision = lease.position.revision

    await commit(store, Touch("lock", LONG_MS), compares=[Compare("lock", revision)])
    stolen = await put(store, "lock", "you")
    conflict = await refused(store, Touch("lock", 1), compares=[Compare("lock", revision)])

    assert conflict.entry is not None
    assert (await entry(store, "lock")).revision == stolen


async def test_touch_does_not_revive_what_has_expired(store: Store) -> None:
    await commit(store, Put("a", b"1", ttl_ms=SHORT_MS))
    await gone(store, "a")

    touched = await commit(store, Touch("a", LONG_MS))

    assert not touched.written[0].changed
    assert await read(store, "a") is None
    assert await what_became_of(store, "a") == ["set", "expire"]


async def test_delete_of_an_expired_key_finds_nothing(store: Store) -> None:
    await commit(store, Put("a", b"1", ttl_ms=SHORT_MS))
    await gone(store, "a")

    deleted = await commit(store, Delete("a"))

    assert not deleted.written[0].changed
    assert await what_became_of(store, "a") == ["set", "expire"]


async def test_a_key_deleted_before_its_time_does_not_expire(store: Store) -> None:
    async def set_and_delete(key: str, ttl_ms: int) -> None:
        await commit(store, Put(key, b"1", ttl_ms=ttl_ms))
        await commit(store, Delete(key))

    key = await in_time(set_and_delete)

    assert await what_became_of(store, key) == ["set", "delete"]


async def test_what_expires_while_no_store_is_open_is_logged_once_afterwards(
    open_store: OpenStore,
) -> None:
    first = await open_store()
    await commit(first, Put("a", b"1", ttl_ms=SHORT_MS), Put("b", b"1"))
    await first.close()
    await asyncio.sleep(2 * SHORT_MS / 1000)

    second = await open_store()

    assert await read(second, "a") is None
    assert await what_became_of(second, "a") == ["set", "expire"]
    assert await what_became_of(second, "b") == ["set"]
