"""Forked processes: no child takes an answer of another process, and what stays with the parent says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from memx_server.storage.sqlite import SqliteStore

from tests.sdk.forking_program import CHILDREN
from tests.support.memx_server import Served, serve_store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

PROGRAM = Path(__file__).with_name("forking_program.py")
DEADLINE = 50


def run(scenario: str, place: str, *options: str) -> Any:
    command = [sys.executable, str(PROGRAM), scenario, place, *options]
    root = PROGRAM.parents[2]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE, cwd=root, env=environ
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture
def served() -> Iterator[Served]:
    with (
        tempfile.TemporaryDirectory() as folder,
        serve_store(SqliteStore(Path(folder) / "memx.db")) as server,
    ):
        yield server


@pytest.mark.parametrize("scenario", ["http", "websocket", "bridged"])
def test_children_and_parent_share_a_context_and_mix_no_answers(
    scenario: str, served: Served
) -> None:
    served.keys.add(key="key")
    assert run(scenario, served.url) == [0] * (CHILDREN + 1)


def test_workers_that_are_forked_after_loading_have_connections_of_their_own(
    served: Served,
) -> None:
    served.keys.add(key="key")
    assert run("prefork", served.url) == [0, 0, 0]


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_coroutines_have_connections_of_their_own_in_each_child(
    served: Served, transport: str
) -> None:
    served.keys.add(key="key")
    assert run("coroutines", served.url, transport) == [0, 0, 0, 0]


def test_an_event_loop_of_the_parent_is_refused_in_the_child(served: Served) -> None:
    served.keys.add(key="key")
    assert run("same_loop", served.url) == ["MemxClosedError:forked", 1]


def test_a_fork_inside_a_coroutine_mixes_nothing(served: Served) -> None:
    served.keys.add(key="key")
    assert run("inside_a_loop", served.url) == [0, 0]


def test_a_subscription_stays_with_the_parent(served: Served) -> None:
    served.keys.add(key="key")
    forked = "MemxClosedError:forked"
    assert run("subscription", served.url) == [forked, forked, None, "done", 1, [2]]


def test_a_lock_stays_with_the_parent(served: Served) -> None:
    served.keys.add(key="key")
    assert run("lock", served.url) == ["LockLostError:lock_lost", True, False]


def test_an_agent_stays_with_the_parent(served: Served) -> None:
    served.keys.add(key="key")
    assert run("agent", served.url) == ["done", True]


def test_an_embedded_folder_stays_with_the_parent(tmp_path: Path) -> None:
    assert run("embedded", str(tmp_path)) == ["MemxConnectionError:connection", "parent"]


def test_a_shared_folder_is_shared_with_the_child(tmp_path: Path) -> None:
    assert run("shared", str(tmp_path)) == ["parent", "parent"]
