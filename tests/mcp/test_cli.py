"""``memx-mcp`` as a program: what it refuses to start with, and standing alone over HTTP."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from memx_mcp.cli import command_line, main

from tests.docs.python_blocks import ROOT
from tests.mcp.test_mounted import ACCEPT, INITIALIZE
from tests.support.memx_server import Served
from tests.support.redis_server import free_port


def test_a_private_store_is_not_opened_to_whoever_connects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--http", "--embedded", str(tmp_path)])
    assert ended.value.code == 2
    assert "not for --http" in capsys.readouterr().err


def test_an_address_that_is_none_is_said_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--base-url", "127.0.0.1:8000"])
    assert "base_url must be like http://" in capsys.readouterr().err


def test_a_tool_that_there_is_not_is_said_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--tools", "memx_get,memx_gett"])
    assert "no tools memx_gett; there are: memx_get" in capsys.readouterr().err


@pytest.fixture
def alone(served: Served, tmp_path: Path) -> Iterator[str]:
    """The address of a ``memx-mcp --http``."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/mcp"
    options = ["--http", "--port", str(port), "--base-url", served.url, "--allow-host", "team.test"]
    options += [
        "--allow-origin",
        "https://page.test",
        "--tools",
        "memx_get,memx_set",
        "--read-only",
    ]
    process = subprocess.Popen([sys.executable, "-m", "memx_mcp", *options], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(address)
                break
            except httpx.TransportError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def test_stands_alone_under_the_names_it_is_told(served: Served, alone: str) -> None:
    mine = {**ACCEPT, "x-api-key": served.fresh_key()}
    assert httpx.post(alone, json=INITIALIZE, headers=ACCEPT).status_code == 401
    for host, status in (("team.test:80", 200), ("team.test", 200), ("evil.test", 421)):
        answer = httpx.post(alone, json=INITIALIZE, headers={**mine, "Host": host})
        assert answer.status_code == status, host
    assert "--allow-host" in answer.json()["detail"]
    # A page of the origin that was named reads what it needs; another one is refused.
    answer = httpx.post(alone, json=INITIALIZE, headers={**mine, "Origin": "https://page.test"})
    assert answer.headers["access-control-allow-origin"] == "https://page.test"
    session = {"mcp-session-id": answer.headers["mcp-session-id"]}
    other = httpx.post(alone, json=INITIALIZE, headers={**mine, "Origin": "https://evil.test"})
    assert other.status_code == 403
    assert "--allow-origin" in other.json()["detail"]
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    listed = httpx.post(alone, json=listing, headers={**mine, **session}).text
    assert "memx_get" in listed
    assert "memx_set" not in listed


def test_the_ready_configurations_start_it_as_they_are_written() -> None:
    page = (ROOT / "integrations/mcp/README.md").read_text()
    hosts = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    entries = [one["memx"] for host in hosts for one in host.values()]
    assert len(entries) == 2
    commands = [[entry["command"], *entry["args"]] for entry in entries]
    commands += [
        shlex.split(line) for line in re.findall(r"^claude .* -- (.*)", page, re.MULTILINE)
    ]
    (private,) = re.findall(r'"args": (\[[^]]*\[embedded\].*?\])', page)
    commands.append(["uvx", *json.loads(private)])
    assert len(commands) == 4
    for program, package, *arguments in commands:
        assert (program, package.partition("[")[0]) == ("uvx", "memx-mcp")
        given = vars(command_line().parse_args(arguments))
        assert given["agent"] or given["embedded"]
    for entry in entries:
        assert entry["env"].keys() == {"MEMX_API_KEY", "MEMX_BASE_URL"}
