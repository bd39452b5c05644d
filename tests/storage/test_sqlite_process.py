"""SQLite and processes: kill -9 loses no acknowledged write, and a second process is refused."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from memx_server.storage.sqlite import InUse, SqliteStore, read_holder

from tests.storage import endless_writer
from tests.storage.helpers import changes_of, entry, put, seen, value, whole_log


@contextmanager
def writing_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, endless_writer.__file__, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged_until_killed(path: Path, after: int) -> list[tuple[int, int, int]]:
    """Let a process write, kill it under load, and return the writes that were acknowledged."""
    with writing_process(path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after)]
        process.kill()
        lines += process.stdout.readlines()
    complete = [line for line in lines if line.endswith("\n")]
    return [(int(w), int(n), int(r)) for w, n, r in (line.split() for line in complete)]


async def test_kill_9_under_load_loses_no_acknowledged_write(tmp_path: Path) -> None:
    path = tmp_path / "memx.db"
    for round_number in range(3):
        acknowledged = acknowledged_until_killed(path, after=100 + 70 * round_number)
        store = SqliteStore(path)
        await store.open()

        logged = {
            (change["key"], change["value"], change["revision"])
            for change in map(seen, changes_of(await whole_log(store)))
        }
        for writer, number, revision in acknowledged:
            assert (f"left:{writer}", number, revision) in logged
            assert (f"right:{writer}", number, revision) in logged
        for writer in range(endless_writer.WRITERS):
            last = max((number for who, number, _ in acknowledged if who == writer), default=0)
            # One write may have become durable without its answer getting out.
            assert await value(store, f"left:{writer}") in (last or None, last + 1)
            left, right = [await entry(store, f"{side}:{writer}") for side in ("left", "right")]
            assert (left.revision, left.value) == (right.revision, right.value)
        await store.close()


async def test_the_log_has_no_gap_where_a_process_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "memx.db"
    acknowledged_until_killed(path, after=50)
    store = SqliteStore(path)
    await store.open()
    head = await store.head("default")
    following = await put(store, "a")

    records = await whole_log(store)
    revisions = [record.position.revision for record in records]
    assert [record.previous for record in records] == [0, *revisions[:-1]]
    assert [record.position.revision for record in await whole_log(store, head)] == [following]
    await store.close()


async def test_a_second_process_is_refused_and_told_who_has_the_file(tmp_path: Path) -> None:
    path = tmp_path / "memx.db"
    with writing_process(path) as process:
        assert process.stdout is not None
        process.stdout.readline()

        with pytest.raises(InUse) as refusal:
            await SqliteStore(path).open()

        assert str(path) in str(refusal.value)
        assert f"process {process.pid}" in str(refusal.value)
        assert refusal.value.holder == {"pid": process.pid, "address": "http://127.0.0.1:1234"}
        assert refusal.value.path == path
        assert process.poll() is None

    store = SqliteStore(path)
    await store.open()
    await store.close()


async def test_a_second_store_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    first, second = SqliteStore(tmp_path / "memx.db"), SqliteStore(tmp_path / "memx.db")
    await first.open()

    with pytest.raises(InUse):
        await second.open()
    await put(first, "a", "still works")
    await first.close()

    await second.open()
    assert await value(second, "a") == "still works"
    await second.close()


async def test_the_holder_announces_itself_to_the_files_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "memx.db"
    store = SqliteStore(path)
    await store.open()
    lock = path.with_name("memx.db.lock")

    assert read_holder(path) == {"pid": os.getpid()}
    store.announce(address="http://127.0.0.1:8000", ticket="t" * 100)
    assert read_holder(path) == {
        "pid": os.getpid(),
        "address": "http://127.0.0.1:8000",
        "ticket": "t" * 100,
    }
    store.announce(ticket=None, address="http://[::1]")
    assert json.loads(lock.read_text()) == {"pid": os.getpid(), "address": "http://[::1]"}
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name

    await store.close()
    assert read_holder(path) == {}


async def test_a_lock_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    lock = tmp_path / "memx.db.lock"
    lock.write_text('{"pid": 1, "ticket": "of one who crashed"}')
    lock.chmod(0o644)
    store = SqliteStore(tmp_path / "memx.db")
    await store.open()

    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert read_holder(store.path) == {"pid": os.getpid()}
    await store.close()


@pytest.mark.parametrize("note", ["", "{", "[1]", '"text"', "\x00"])
async def test_a_note_that_is_none_tells_nothing(tmp_path: Path, note: str) -> None:
    (tmp_path / "memx.db.lock").write_text(note)

    assert read_holder(tmp_path / "memx.db") == {}
    assert "another process" in str(InUse(tmp_path / "memx.db", {}))
