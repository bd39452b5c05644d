"""What must hold over stdio too, where each client starts a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from memx_server.storage.sqlite import SqliteStore

from tests.mcp.test_resources import test_a_client_is_notified_when_another_writes
from tests.mcp.test_tools import (
    test_a_waiting_call_reports_progress_and_can_be_cancelled,
    test_an_agent_works_with_shared_keys,
)
from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import free_port

__all__ = [
    "test_a_client_is_notified_when_another_writes",
    "test_a_waiting_call_reports_progress_and_can_be_cancelled",
    "test_an_agent_works_with_shared_keys",
]


@pytest.fixture
def transport() -> str:
    return "stdio"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One store is enough here: the others see both."""
    with serve_store(SqliteStore(tmp_path_factory.mktemp("memx") / "memx.db")) as server:
        yield server


@pytest.mark.skipif(sys.platform == "win32", reason="ends by signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_it_while_the_host_is_silent(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "memx_mcp", "--embedded", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # An answer shows that the process reads its stdin, which is what kept it from ending.
        process.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(number)
        _, said = process.communicate(timeout=10)
        assert process.returncode == 128 + number
        assert "Traceback" not in said
    finally:
        process.kill()
        process.wait(10)


def test_nothing_but_protocol_on_stdout_also_when_memx_is_away(tmp_path: Path) -> None:
    requests = [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        },
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "memx_get", "arguments": {"key": "plan"}},
        },
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "memx_mcp"],
        env={"MEMX_API_KEY": "key", "MEMX_BASE_URL": f"http://127.0.0.1:{free_port()}"},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for request in requests:
            process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answers = {}
        while 2 not in answers:
            message = json.loads(process.stdout.readline())
            answers[message.get("id")] = message
        process.stdin.close()
        assert process.stdout.read() == ""
    finally:
        process.kill()
        process.wait(10)
    assert answers[1]["result"]["serverInfo"]["name"] == "memx"
    assert answers[2]["result"]["isError"]
    assert "cannot be reached" in answers[2]["result"]["content"][0]["text"]
