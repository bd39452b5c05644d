"""Every example runs as its first lines say, against a fresh server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memx_server.storage.sqlite import SqliteStore

from memx_sdk import memxContext
from tests.support.memx_server import Served, serve_store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Run = Callable[..., str]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_store(SqliteStore(tmp_path / "memx.db")) as server:
        yield server


@pytest.fixture
def run(served: Served) -> Run:
    def run_example(name: str, *arguments: str) -> str:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MEMX_")}
        settings = {"MEMX_BASE_URL": served.url, "MEMX_API_KEY": served.api_key}
        ended = subprocess.run(
            [sys.executable, EXAMPLES / name, *arguments],
            env={**kept, **settings},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
        return ended.stdout

    return run_example


def test_no_example_is_left_out() -> None:
    tested = {"basic.py", "critique_loop.py", "team.py"}
    elsewhere = {path.name for path in EXAMPLES.glob("*.py")} - tested
    for name in elsewhere:
        tests = Path(__file__).resolve().parents[1].rglob("test_*.py")
        assert any(name in test.read_text() for test in tests), f"no test runs examples/{name}"


def test_the_tour_shows_what_it_promises(run: Run) -> None:
    shown = run("basic.py").splitlines()
    parts = {line.split()[0] for line in shown}

    assert parts >= {"value", "conflict", "update", "refused", "transaction", "pushed", "lock"}
    assert "transaction ann gets it" in shown
    assert "transaction bob is too late" in shown
    assert "missing     None" in shown
    assert "wait        somebody wrote 'ship it'" in shown


def test_the_tour_can_be_taken_twice(run: Run) -> None:
    run("basic.py")
    run("basic.py")


def test_the_critique_loops_until_there_is_no_objection(run: Run, served: Served) -> None:
    shown = run("critique_loop.py", "Why does bread rise?").splitlines()
    speakers = [line[0] for line in shown]

    assert speakers[:4] == ["A", "B", "C", "B"]
    assert speakers.count("C") >= 2
    assert shown[-1] == "B: no objection"
    with memxContext(served.api_key, served.url) as memory:
        (final,) = memory.entries("loop:*:final")
        writers = {entry.key.rpartition(":")[2]: entry.writer for entry in memory.entries("loop:*")}
    assert "yeast" in final.value["text"]
    assert len(final.value["sources"]) == 3
    assert writers["research"].endswith("/A-research")
    assert writers["critique"].endswith("/B-critique")
    assert writers["final"].endswith("/C-final")


def test_the_critique_ends_also_where_nothing_is_known(run: Run) -> None:
    assert run("critique_loop.py", "quantum chromodynamics").splitlines()[-1] == "B: no objection"


def test_the_team_works_on_a_server_of_ones_choice(run: Run, served: Served) -> None:
    shown = run("team.py", "Why do batteries age?")

    assert "Summary: " in shown
    assert "lithium" in shown
    with memxContext(served.api_key, served.url) as memory:
        (summary,) = memory.entries("team:*:summary")
        assert summary.value["state"] == "final"
        for lead in memory.entries("team:*:lead:*"):
            assert lead.value["state"] == "done"
