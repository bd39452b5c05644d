"""``examples/mcp_and_langchain.py``, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from memx_sdk import memxContext
from tests.support.memx_server import Served

EXAMPLE = Path(__file__).parents[2] / "examples" / "mcp_and_langchain.py"


def test_a_langchain_agent_and_an_mcp_client_work_on_one_plan(served: Served) -> None:
    key = served.fresh_key()
    run = subprocess.run(
        [sys.executable, str(EXAMPLE), "--url", served.url],
        env={**os.environ, "MEMX_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "notified that the plan has changed" in run.stdout
    with memxContext(key, served.url) as memx:
        changes = memx.history("team:plan")
    assert [(c.writer, c.value) for c in changes] == [
        ("tester/mcp-host", ["bake a cake", "serve it"]),
        ("tester/langchain", ["bake a cake"]),
    ]
