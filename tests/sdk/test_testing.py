"""The fixtures that users get for their own tests, run as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

USER_TESTS = """
import pytest

from memx_sdk import AsyncMemxContext, memxContext


def test_a_memory_is_empty_at_first(memx):
    assert memx.keys() == []
    memx.set("a", 1)
    with memx.subscribe("b") as changes:
        changes.ready(timeout=10)
        memx.set("b", 2)
        assert changes.next(timeout=10).value == 2


def test_and_so_is_the_next(memx):
    assert memx.keys() == []


@pytest.mark.asyncio
async def test_coroutines_share_it(memx, async_memx, memx_url):
    memx.set("a", 1)
    assert (await async_memx.get("a")).value == 1
    async with AsyncMemxContext(base_url=memx_url) as other:
        assert (await other.wait_for("a", timeout=10)).writer.endswith("/test")


def test_a_server_is_there_for_other_programs(memx_server):
    with memxContext(memx_server.api_key, memx_server.url) as context:
        context.set("a", 1)


def test_the_server_is_the_same_throughout(memx_server):
    with memxContext(memx_server.api_key, memx_server.url, transport="websocket") as context:
        assert context.get("a").value == 1
"""


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=55,
    )


def test_the_fixtures_work_in_a_user_s_tests(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text(USER_TESTS)
    installed = any(found.name == "memx" for found in entry_points(group="pytest11"))
    plugin = () if installed else ("-p", "memx_sdk.testing")

    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, folder=tmp_path)

    assert "5 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_costs_other_runs_of_pytest_next_to_nothing(tmp_path: Path) -> None:
    heavy = "{'httpx', 'websockets', 'msgspec', 'memx_server', 'fastapi'}"
    script = f"import sys, memx_sdk.testing; print(sorted({heavy} & set(sys.modules)))"

    assert run("-c", script, folder=tmp_path).stdout.strip() == "[]"


def test_a_program_may_end_without_closing_anything(tmp_path: Path) -> None:
    script = (
        "from memx_sdk import memxContext\n"
        f"ctx = memxContext(base_url='embedded:{tmp_path / 'memory'}')\n"
        "ctx.subscribe('a', print).ready(10)\n"
        "print(ctx.set('b', 1).version)\n"
    )
    done = run("-c", script, folder=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
