"""``memx wait`` and ``memx lock``, and a watch that nobody reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memx_sdk import memxContext
from tests.cli.conftest import MEMX, DevServer, Memx, Run, end


@pytest.fixture
def memory(shared_server: DevServer) -> Iterator[memxContext]:
    with memxContext("local_dev_key", shared_server.url, agent="writer") as context:
        yield context


def test_it_waits_for_a_value_at_a_place(online: Memx, memory: memxContext, prefix: str) -> None:
    memory.set(f"{prefix}k", {"status": "open"})
    process = online.start("wait", f"{prefix}k", '"done"', "--pointer", "/status")
    try:
        present = memory.wait_for(f"{prefix}k", timeout=5)
        memory.set(f"{prefix}k", {"status": "done", "cost": 1}, if_revision=present.revision)
        out, _ = process.communicate(timeout=20)
    finally:
        end(process)
    assert (process.returncode, out) == (0, '{"status":"done","cost":1}\n')


def test_what_does_not_happen_in_time_exits_8(here: Run, prefix: str) -> None:
    here("set", f"{prefix}k", "1")

    assert here("wait", f"{prefix}nothing", "--within", "0.1").code == 8
    assert here("wait", f"{prefix}k", "true", "--within", "0.1").code == 8  # true is not 1
    assert here("wait", f"{prefix}k", "--gone", "--within", "0.1").code == 8
    assert here("wait", f"{prefix}k", "1").out == "1\n"
    assert here("wait", f"{prefix}nothing", "--gone").code == 0
    assert here("wait", f"{prefix}k", "1", "--gone").code == 2
    assert here("wait", f"{prefix}k", "--pointer", "status").code == 2


def test_a_command_runs_under_the_lock_with_its_token(
    online: Memx, memory: memxContext, prefix: str
) -> None:
    key = f"{prefix}lock"
    code = "import os, sys; print(os.environ['MEMX_LOCK_TOKEN']); sys.exit(9)"
    ran = online("lock", key, "--", sys.executable, "-c", code)

    assert ran.code == 9
    assert int(ran.out) > 0
    assert memory.get(key) is None  # it was given back


def test_a_lock_that_others_hold_is_not_taken(here: Run, memory: memxContext, prefix: str) -> None:
    key = f"{prefix}lock"
    marker = f"{prefix}ran"
    with memory.lock(key):
        refused = here("lock", key, "--within", "0.1", "--", str(MEMX), "set", marker, "1")
    assert refused.code == 8
    assert memory.get(marker) is None
    assert here("lock", key, "--", "no-such-command-of-mine").code == 2
    assert memory.get(key) is None


def test_a_command_whose_lock_is_lost_is_ended(
    online: Memx, memory: memxContext, prefix: str, tmp_path: Path
) -> None:
    key = f"{prefix}lock"
    code = "import signal; print('runs', flush=True); signal.pause()"
    process = online.start("lock", key, "--ttl", "1", "--", sys.executable, "-c", code)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        memory.delete(key)
        _, err = process.communicate(timeout=20)
    finally:
        end(process)
    assert process.returncode == 4
    assert "lost" in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_watch_ends_when_nobody_reads_it(online: Memx, memory: memxContext, prefix: str) -> None:
    memory.set(f"{prefix}k", 1)
    process = online.start("watch", f"{prefix}*", "--snapshot")
    try:
        assert process.stdout is not None
        process.stdout.readline()
        # On a feed on which nothing happens; a next line would end it anyway.
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def test_json_behind_two_dashes_belongs_to_the_other_command(memx: Memx) -> None:
    refused = memx("lock", "--nonsense", "--", "tool", "--json")
    assert refused.code == 2
    assert not refused.err.startswith("{")
