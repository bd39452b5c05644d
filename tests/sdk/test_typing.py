"""The SDK is typed for its users: mypy, strict, over code as they write it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

WRONG = """
from memx_sdk import Entry, memxContext

def wrong(ctx: memxContext, entry: Entry[int]) -> str:
    ctx.set("k", 1, if_revision="3")
    ctx.get(3)
    return entry.value
"""


def check(*paths: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache)]
    command += ["--config-file", "", "--follow-imports", "silent"]
    command += [str(path) for path in paths]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.timeout(180)
def test_users_code_is_understood_by_a_strict_type_checker(tmp_path: Path) -> None:
    good = check(Path(__file__).with_name("typed_user_code.py"), cache=tmp_path / "cache")
    assert good.returncode == 0, good.stdout
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    bad = check(wrong, cache=tmp_path / "cache")
    complaints = [line for line in bad.stdout.splitlines() if ": error:" in line]
    assert len(complaints) == 3, bad.stdout


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "memx_sdk" / "py.typed").exists()
