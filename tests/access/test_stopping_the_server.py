"""SIGTERM ends a server whose event loop is blocked, and leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.memx_server import MemxServer
from tests.support.redis_server import free_port

BOUND = 20.0
"""Seconds; the loop has five to answer the signal."""


@pytest.fixture(params=["works", "waits"])
def blocked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server whose event loop never turns again."""
    with _blocked_server(tmp_path, request.param) as process:
        yield process


@contextlib.contextmanager
def _blocked_server(tmp_path: Path, how: str) -> Iterator[subprocess.Popen[bytes]]:
    port = free_port()
    script = Path(__file__).with_name("blocked_server.py")
    command = [sys.executable, str(script), str(port), str(tmp_path), how]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            threading.Thread(
                target=_request, args=(f"http://127.0.0.1:{port}/block",), daemon=True
            ).start()
            assert process.stdout.readline() == b"blocked\n"
            yield process
        finally:
            process.kill()


def _request(url: str) -> None:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=60):
        pass


def test_sigterm_ends_a_server_whose_loop_is_blocked(blocked: subprocess.Popen[bytes]) -> None:
    workers = _children(blocked.pid)
    blocked.send_signal(signal.SIGTERM)
    _, log = blocked.communicate(timeout=BOUND)
    assert blocked.returncode == 1
    assert b"has not answered a signal" in log
    assert len(workers) == 3  # two that evaluate, and the one that would kill
    for worker in workers:
        _wait_until_gone(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_within_a_call_that_keeps_the_interpreter(
    tmp_path: Path, number: signal.Signals
) -> None:
    """No handler and no thread of its own runs; a process beside it, which `blocked_server.py` gives 3 s, kills it."""
    with _blocked_server(tmp_path, "holds") as blocked:
        children = _children(blocked.pid)
        blocked.send_signal(number)
        _, log = blocked.communicate(timeout=BOUND)
        assert blocked.returncode == -signal.SIGKILL
        assert b"killing it" in log
        assert b"blocked_server.py" in log  # where it was
        for child in children:
            _wait_until_gone(child)


def test_sigterm_ends_a_server_that_is_well_at_once() -> None:
    with MemxServer("dev") as server:
        workers = _children(server.pid)
        assert server.stop() == 0
        for worker in workers:
            _wait_until_gone(worker)


def _children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for children in lists for each in children.read_text().split()]


def _wait_until_gone(pid: int) -> None:
    """Wait until a process has ended, which it does when its standard input is closed."""
    ended = threading.Event()
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists():
            return
        ended.wait(0.01)
    raise AssertionError(f"process {pid} outlives its server")
