"""SQLite on a disk that is really full: deletes go through, and everybody is told what is full."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from memx_server.domain.store_health import StoreHealth
from memx_server.storage.base import (
    Committed,
    Delete,
    Idempotency,
    Put,
    StoreFull,
    Transaction,
)
from memx_server.storage.sqlite import SqliteStore, reserve

from tests.storage.helpers import SPACE, commit_one, put, seen, value, whole_log

DISK_MIB = 24


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or mount is None:
        pytest.skip("makes a small disk by mount")
    command = [mount, "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
async def full(disk: Path) -> AsyncIterator[SqliteStore]:
    """A store on it that has taken as much as there is room for."""
    store = SqliteStore(disk / "memx.db")
    await store.open()
    for number in range(10 * DISK_MIB):
        try:
            await put(store, f"key:{number:03}", "x" * 300_000)
        except StoreFull:
            break
    else:
        raise AssertionError("the disk was not filled")
    yield store
    await store.close()


async def refused(store: SqliteStore) -> bool:
    """Tell whether a write is refused, and says why."""
    try:
        await put(store, "small", 1)
    except StoreFull:
        return True
    return False


async def taken(store: SqliteStore) -> None:
    """Write again and again until the store, which looks for room once a second, takes it."""
    async with asyncio.timeout(10):
        while True:
            if not await refused(store):
                return
            await asyncio.sleep(0.2)


async def test_writes_are_refused_and_reading_goes_on(full: SqliteStore) -> None:
    assert await refused(full)
    assert await value(full, "key:000") == "x" * 300_000

    with pytest.raises(StoreFull):
        await full.ping()
    report = await StoreHealth(full).report()
    assert report.fault is not None
    assert "full" in report.fault


async def test_deletes_go_through_with_their_record(full: SqliteStore) -> None:
    keys = [key for key, _ in (await full.list(SPACE)).entries]

    for number, key in enumerate(keys):
        token = Idempotency(f"t{number}", "d")
        delete = Transaction("w", [Delete(key, "making room")], idempotency=token)
        assert isinstance(await commit_one(full, SPACE, delete), Committed)

    logged = [seen(change) for record in await whole_log(full) for change in record.changes or ()]
    assert [c["key"] for c in logged if c["action"] == "delete"] == keys


async def test_what_deletes_have_freed_can_be_written_again(full: SqliteStore) -> None:
    keys = [key for key, _ in (await full.list(SPACE)).entries]
    # The log keeps a copy of each value, so half the room is the entries'.
    await full.commit(SPACE, [Transaction("w", [Delete(key)]) for key in keys])

    await taken(full)

    await full.ping()
    assert await value(full, "small") == 1


async def test_it_recovers_when_the_disk_has_room_again(full: SqliteStore, disk: Path) -> None:
    assert await refused(full)
    grow = ["mount", "-o", "remount,size=64m", str(disk)]
    await asyncio.to_thread(subprocess.run, grow, check=True)

    await taken(full)

    assert (disk / "memx.db.reserve").stat().st_size == reserve.RESERVE_BYTES


async def test_of_one_call_the_deletes_go_through_and_the_rest_is_refused(
    full: SqliteStore,
) -> None:
    outcomes = await full.commit(
        SPACE,
        [
            Transaction("w", [Put("more", b"1")]),
            Transaction("w", [Delete("key:000")]),
            Transaction("w", [Delete("key:001"), Put("swap", b"1")]),
        ],
    )

    assert [type(outcome) for outcome in outcomes] == [StoreFull, Committed, StoreFull]
    assert await value(full, "key:000") is None
    assert await value(full, "key:001") is not None


async def test_a_store_leaves_no_reserve_behind(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "memx.db")
    await store.open()
    assert (tmp_path / "memx.db.reserve").exists()
    await store.close()

    assert not (tmp_path / "memx.db.reserve").exists()


async def test_where_there_is_no_room_for_a_reserve_it_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "RESERVE_BYTES", 2**60)
    store = SqliteStore(tmp_path / "memx.db")
    await store.open()

    await put(store, "a")

    assert not (tmp_path / "memx.db.reserve").exists()
    await store.close()
