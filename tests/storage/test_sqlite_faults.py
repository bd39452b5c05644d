"""SQLite when the disk, the file or another program gets in the way: a clear error, and back to work."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from memx_server.storage.base import Idempotency, Put, StoreUnavailable, Transaction
from memx_server.storage.sqlite import CannotOpen, SqliteStore, commit_queue

from tests.storage.helpers import SPACE, Listener, commit_one, put, value, whole_log

FULL = 2  # as SQLite numbers its settings of `synchronous`


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memx.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.open()
    yield store
    await store.close()


def limit_disk(store: SqliteStore, pages: int) -> None:
    """Let the file grow to so many pages, as a full disk would."""
    writing = store._database().queue._connection
    writing.execute(f"PRAGMA max_page_count={pages}")


async def test_a_full_disk_refuses_writes_and_nothing_else(store: SqliteStore) -> None:
    head = await put(store, "a", "before")
    listener = Listener()
    stop = await store.tail(SPACE, listener)
    limit_disk(store, 1)

    with pytest.raises(StoreUnavailable, match="unavailable"):
        await put(store, "big", "x" * 200_000)
    assert await value(store, "a") == "before"
    assert (await store.head(SPACE)).revision == head
    assert len(await whole_log(store)) == 1

    limit_disk(store, 2**30)
    revision = await put(store, "big", "y" * 200_000)
    await listener.heard(revision)
    await stop()
    assert [record.position.revision for record in listener.records] == [revision]
    assert [record.previous for record in await whole_log(store)] == [0, head]


async def test_of_writes_at_a_time_on_a_full_disk_none_is_acknowledged_and_lost(
    store: SqliteStore,
) -> None:
    limit_disk(store, 60)
    results = await asyncio.gather(
        *(put(store, f"key:{number}", "x" * 20_000) for number in range(30)),
        return_exceptions=True,
    )

    done = [number for number, result in enumerate(results) if isinstance(result, int)]
    assert len(done) < 30
    for result in results:
        assert isinstance(result, int | StoreUnavailable)
    keys = [key for key, _ in (await store.list(SPACE)).entries]
    assert keys == sorted(f"key:{number}" for number in done)


async def test_a_file_locked_by_another_program_is_waited_for(
    store: SqliteStore, path: Path
) -> None:
    await put(store, "a", "before")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    waiting = asyncio.create_task(put(store, "a", "after"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    assert await value(store, "a") == "before"
    other.execute("ROLLBACK")
    other.close()

    await asyncio.wait_for(waiting, 5)
    assert await value(store, "a") == "after"


async def test_a_file_that_stays_locked_is_unavailable_until_it_is_free(
    store: SqliteStore, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async with asyncio.timeout(8):
        results = await asyncio.gather(
            *(put(store, f"key:{number}") for number in range(5)), return_exceptions=True
        )
    assert [type(result) for result in results] == [StoreUnavailable] * 5
    other.execute("ROLLBACK")
    other.close()

    await put(store, "a", "after")
    assert [key for key, _ in (await store.list(SPACE)).entries] == ["a"]


async def test_who_stops_waiting_for_the_disk_has_not_written(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_queue, "ANSWER_SECONDS", 0.2)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable):
        await put(store, "a", "too late")
    other.execute("ROLLBACK")
    other.close()

    monkeypatch.undo()
    await put(store, "b")
    assert await value(store, "a") is None


async def test_a_commit_that_the_disk_refuses_has_not_happened(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_commit(_: commit_queue.CommitQueue) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    head = await put(store, "a", "before")
    listener = Listener()
    stop = await store.tail(SPACE, listener)
    with monkeypatch.context() as patch:
        patch.setattr(commit_queue.CommitQueue, "_finish", refuse_commit)
        with pytest.raises(StoreUnavailable):
            await put(store, "a", "lost")
    assert await value(store, "a") == "before"

    revision = await put(store, "a", "after")

    assert revision == head + 1
    await listener.heard(revision)
    await stop()
    assert listener.records == (await whole_log(store))[1:]
    assert [record.previous for record in listener.records] == [head]


async def test_a_mistake_in_one_transaction_costs_the_others_nothing(store: SqliteStore) -> None:
    wrong: Any = object()
    half = Put("half", b"1")
    listener = Listener()
    stop = await store.tail(SPACE, listener)

    results = await asyncio.gather(
        put(store, "a"),
        commit_one(store, SPACE, Transaction("w", [half, Put("wrong", b"1", ttl_ms=2**70)])),
        put(store, "b"),
        # This one goes wrong after it was logged.
        commit_one(store, SPACE, Transaction("w", [half], idempotency=Idempotency("t", wrong))),
        put(store, "c"),
        return_exceptions=True,
    )

    assert [isinstance(result, Exception) for result in results] == [False, True] * 2 + [False]
    assert not any(isinstance(result, StoreUnavailable) for result in results)
    await listener.until(lambda: len(listener.records) == 3)
    await stop()
    assert [key for key, _ in (await store.list(SPACE)).entries] == ["a", "b", "c"]
    assert listener.records == await whole_log(store)
    assert [record.position.revision for record in listener.records] == [
        result for result in results if isinstance(result, int)
    ]


async def test_a_closed_store_is_unavailable(path: Path) -> None:
    store = SqliteStore(path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store.read(SPACE, ["a"])
        with pytest.raises(StoreUnavailable):
            await commit_one(store, SPACE, Transaction("w", []))
        with pytest.raises(StoreUnavailable):
            await store.ping()
        with pytest.raises(StoreUnavailable):
            await store.state.get("g", "a")
        await store.open()
        await store.ping()
        await store.close()
        await store.close()


async def test_closing_finishes_what_was_begun(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    writes = [asyncio.create_task(put(store, f"key:{number}")) for number in range(300)]
    await asyncio.sleep(0)
    await store.close()

    revisions = await asyncio.gather(*writes)

    await store.open()
    assert [record.position.revision for record in await whole_log(store)] == sorted(revisions)
    await store.close()


async def refuse(path: Path, why: str) -> None:
    """Open what must not be opened."""
    with pytest.raises(CannotOpen, match=why) as refusal:
        await SqliteStore(path).open()
    assert str(path) in str(refusal.value)


def write_over(path: Path, *, every_page_from: int) -> None:
    with path.open("r+b") as file:
        for page in range(every_page_from, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)


def run_sql(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def test_text_in_place_of_a_database_is_refused(path: Path) -> None:
    path.write_text("this is no database, however long it may be\n" * 200)

    asyncio.run(refuse(path, "is damaged"))

    assert path.read_text().startswith("this is no database")


async def test_a_damaged_database_is_refused_at_open(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    for number in range(50):
        await put(store, f"key:{number}", "x" * 500)
    await store.close()
    write_over(path, every_page_from=2)

    await refuse(path, "is damaged")


def test_a_database_of_something_else_is_refused_untouched(path: Path) -> None:
    run_sql(path, "CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()

    asyncio.run(refuse(path, "not one of memX"))

    assert path.read_bytes() == before


async def test_a_database_of_another_version_is_refused(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.close()
    run_sql(path, "PRAGMA user_version=99")

    await refuse(path, "written by a newer memX")


def test_a_folder_in_place_of_a_file_is_refused(path: Path) -> None:
    path.mkdir()

    asyncio.run(refuse(path, "cannot be opened"))


def test_a_refused_file_is_not_kept_locked(path: Path) -> None:
    path.write_text("x" * 5000)
    asyncio.run(refuse(path, "is damaged"))
    path.unlink()

    async def open_anew() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.close()

    asyncio.run(open_anew())


async def test_every_commit_waits_for_the_disk(store: SqliteStore) -> None:
    writing = store._database().queue._connection
    (journal,) = writing.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = writing.execute("PRAGMA synchronous").fetchone()

    assert (journal, synchronous) == ("wal", FULL), "only a power cut would show it"
