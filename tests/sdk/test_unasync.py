"""The synchronous half is the asynchronous one, rewritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import unasync

ROOT = Path(__file__).resolve().parents[2]


def test_the_synchronous_half_is_up_to_date() -> None:
    command = [sys.executable, "tools/unasync.py", "--check"]
    check = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("async def f(self): return await self.g()", "def f(self): return self.g()"),
        ("async with AsyncMemxContext() as ctx:", "with memxContext() as ctx:"),
        ("async for x in aiter(sub): await anext(sub)", "for x in iter(sub): next(sub)"),
        ("class AsyncThing(AsyncIterator[int]):", "class Thing(Iterator[int]):"),
        ("await self.aclose()  # asynchronous", "self.close()  # synchronous"),
        (
            "from memx_sdk._async.caller import AsyncCaller",
            "from memx_sdk._sync.caller import Caller",
        ),
        (
            "from websockets.asyncio.client import connect",
            "from websockets.sync.client import connect",
        ),
        (
            "def __aiter__(self): raise StopAsyncIteration",
            "def __iter__(self): raise StopIteration",
        ),
    ],
)
def test_phrases(source: str, expected: str) -> None:
    assert unasync.translate(source) == expected


@pytest.mark.parametrize("source", ["import asyncio\n", "x = asyncio.Event()", "import threading"])
def test_what_has_no_synchronous_form_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="no synchronous form"):
        unasync.translate(source)


def test_missing_changed_and_left_over_files_are_stale(tmp_path: Path) -> None:
    names = ("a.py", "b.py", "c.py", "inner/e.py")
    wanted = {tmp_path / name: name for name in names}
    (tmp_path / "a.py").write_text("a.py")
    (tmp_path / "b.py").write_text("changed by hand")
    (tmp_path / "d.py").write_text("left over")
    (tmp_path / "_concurrency.py").write_text("written by hand")
    left_over = tmp_path / "inner" / "f.py"
    left_over.parent.mkdir()
    left_over.write_text("left over")

    stale = unasync.stale(wanted, tmp_path)

    found = [path.relative_to(tmp_path).as_posix() for path in stale]
    assert found == ["b.py", "c.py", "d.py", "inner/e.py", "inner/f.py"]
    unasync.write(wanted, tmp_path)
    assert unasync.stale(wanted, tmp_path) == []


def test_an_asynchronous_package_of_any_distribution_has_its_twin() -> None:
    folders = {folder.relative_to(ROOT).as_posix() for folder in unasync.sources()}
    assert folders >= {"memx_sdk/_async", "memx_sdk/tools/_async"}
