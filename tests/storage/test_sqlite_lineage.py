"""SQLite and time: each start opens a lineage, a restored backup is noticed, the clock may go wrong."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from memx_server.storage.base import Committed, Compare, Diverged, Idempotency, Put, Transaction
from memx_server.storage.sqlite import SqliteStore

from tests.storage.helpers import (
    SPACE,
    Listener,
    changes_of,
    commit,
    commit_one,
    eventually,
    put,
    read,
    summary,
    value,
    whole_log,
)

HOUR = 3_600_000_000


class Clock:
    """Microseconds, turned by hand."""

    def __init__(self) -> None:
        self.now = time.time_ns() // 1000

    def __call__(self) -> int:
        return self.now


@asynccontextmanager
async def opened(path: Path, clock: Clock | None = None) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path) if clock is None else SqliteStore(path, clock=clock)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memx.db"


async def test_the_first_commit_after_a_start_opens_a_lineage(path: Path) -> None:
    clock = Clock()
    async with opened(path, clock) as store:
        first = (await commit(store, Put("a", b"1"))).position
        assert (await commit(store, Put("a", b"2"))).position == first._replace(
            revision=first.revision + 1
        )
    clock.now += HOUR
    async with opened(path, clock) as store:
        assert await store.head(SPACE) == first._replace(revision=first.revision + 1)
        second = (await commit(store, Put("a", b"3"))).position

    assert first.revision == clock.now - HOUR
    assert second.revision == clock.now
    assert second.lineage != first.lineage


async def test_what_changes_nothing_opens_no_lineage(path: Path) -> None:
    async with opened(path) as store:
        first = (await commit(store, Put("a", b"1"))).position
    async with opened(path) as store:
        await commit_one(store, SPACE, Transaction("w", []))
        assert await store.head(SPACE) == first


async def test_a_start_right_after_the_last_one_goes_on_counting(path: Path) -> None:
    clock = Clock()
    revisions = []
    for _ in range(4):
        async with opened(path, clock) as store:
            revisions += [await put(store, "a"), await put(store, "a")]

    assert revisions == list(range(clock.now, clock.now + 8))


async def test_cursors_of_every_earlier_lineage_resume(path: Path) -> None:
    cursors = []
    for number in range(4):
        async with opened(path) as store:
            cursors.append((await commit(store, Put("a", b"%d" % number))).position)

    async with opened(path) as store:
        for number, cursor in enumerate(cursors):
            assert [record.position.revision for record in await whole_log(store, cursor)] == [
                later.revision for later in cursors[number + 1 :]
            ]


async def test_a_restored_backup_is_noticed_at_once_and_for_good(path: Path) -> None:
    async with opened(path) as store:
        kept = (await commit(store, Put("a", b"1"))).position
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    async with opened(path) as store:
        lost = [(await commit(store, Put("a", b"%d" % number))).position for number in range(3)]
    shutil.copy(backup, path)

    async with opened(path) as store:
        for cursor in lost:
            with pytest.raises(Diverged):
                await store.log(SPACE, cursor, 10)
        assert list((await store.log(SPACE, kept, 10)).records) == []

        following = (await commit(store, Put("a", b"9"))).position
        for _ in range(5):
            await put(store, "b")
        for cursor in lost:
            with pytest.raises(Diverged):
                await store.log(SPACE, cursor, 10)
        assert (await whole_log(store, kept))[0].position.revision == following.revision
    assert following.revision > max(cursor.revision for cursor in lost)


async def test_a_backup_of_a_running_lineage_cuts_it_where_the_backup_ends(path: Path) -> None:
    async with opened(path) as store:
        for number in range(3):
            kept = (await commit(store, Put("a", b"%d" % number))).position
        backup = path.with_name("backup.db")
        for suffix in ("", "-wal"):
            shutil.copy(path.with_name(path.name + suffix), backup.with_name(backup.name + suffix))
        lost = (await commit(store, Put("a", b"lost"[:0] + b"7"))).position
    assert lost.lineage == kept.lineage

    async with opened(backup) as store:
        assert await value(store, "a") == 2
        await put(store, "b")
        with pytest.raises(Diverged):
            await store.log(SPACE, lost, 10)
        assert len(await whole_log(store, kept)) == 1


async def test_revisions_never_step_back_though_the_clock_does(path: Path) -> None:
    clock = Clock()
    async with opened(path, clock) as store:
        first = await put(store, "a")
        clock.now -= 5 * HOUR
        second = await commit(store, Put("a", b"2"))
    clock.now -= 5 * HOUR
    async with opened(path, clock) as store:
        third = await commit(store, Put("a", b"3"))

        assert [second.position.revision, third.position.revision] == [first + 1, first + 2]
        assert [second.ts, third.ts] == [
            (clock.now + 5 * HOUR) / 1e6,
            clock.now / 1e6,
        ]
        assert [record.position.revision for record in await whole_log(store)] == [
            first,
            first + 1,
            first + 2,
        ]
        assert await value(store, "a") == 3


async def test_what_has_expired_stays_gone_though_the_clock_steps_back(path: Path) -> None:
    clock = Clock()
    async with opened(path, clock) as store:
        await commit(store, Put("a", b"1", ttl_ms=1000))
        clock.now += 2_000_000
        await commit_one(store, SPACE, Transaction("w", []))
        clock.now -= 10_000_000

        assert await read(store, "a") is None
        assert summary(changes_of(await whole_log(store))) == [("set", "a"), ("expire", "a")]


async def test_a_clock_that_jumps_ahead_expires_promptly(path: Path) -> None:
    clock = Clock()
    async with opened(path, clock) as store:
        await commit(store, Put("a", b"1", ttl_ms=HOUR // 1000))
        listener = Listener()
        stop = await store.tail(SPACE, listener)
        clock.now += HOUR

        assert await read(store, "a") is None
        await listener.until(lambda: summary(listener.changes) == [("expire", "a")])
        await stop()


async def test_a_key_expires_at_its_time_and_not_a_millisecond_sooner(path: Path) -> None:
    clock = Clock()
    clock.now -= clock.now % 1000
    async with opened(path, clock) as store:
        await commit(store, Put("a", b"1", ttl_ms=1000))
        clock.now += 999_999
        assert await value(store, "a") == 1
        clock.now += 1
        assert await read(store, "a") is None


async def test_a_token_is_remembered_for_24_hours_and_over_a_restart(path: Path) -> None:
    clock = Clock()
    once = Transaction("w", [Put("a", b"1")], idempotency=Idempotency("t", "d", b"note"))
    async with opened(path, clock) as store:
        first = await commit_one(store, SPACE, once)
    clock.now += 24 * HOUR - 1000
    async with opened(path, clock) as store:
        again = await commit_one(store, SPACE, once)
        clock.now += 1000
        anew = await commit_one(store, SPACE, once)

    assert isinstance(first, Committed)
    assert isinstance(again, Committed)
    assert isinstance(anew, Committed)
    assert (again.replayed_note, again.position) == (b"note", first.position)
    assert (anew.replayed_note, anew.position == first.position) == (None, False)


async def test_a_key_is_made_anew_though_many_others_wait_to_expire(path: Path) -> None:
    clock = Clock()
    async with opened(path, clock) as store:
        keys = [f"key:{number:03}" for number in range(300)]
        for number, key in enumerate(keys):
            await commit(store, Put(key, b"1", ttl_ms=1000 + number))
        clock.now += HOUR

        again = await commit(store, Put(keys[-1], b"2"), compares=[Compare(keys[-1], 0)])
        assert again.written[0].version == 1
        changes = (await store.history(SPACE, keys[-1], 10)).changes
        assert summary(changes)[::-1] == [
            ("set", keys[-1]),
            ("expire", keys[-1]),
            ("set", keys[-1]),
        ]

        async def all_expired() -> bool:
            expired = [
                key for what, key in summary(changes_of(await whole_log(store))) if what == "expire"
            ]
            return sorted(expired) == keys

        await eventually(all_expired)
