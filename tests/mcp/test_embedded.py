"""``memx-mcp --embedded PATH``: one person's private store, also for several MCP hosts at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.server.subscriptions import ResourceUpdated
from memx_mcp.uris import uri_of

from memx_sdk import AsyncMemxContext


@asynccontextmanager
async def host(folder: Path, agent: str) -> AsyncIterator[Client]:
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "memx_mcp", "--embedded", str(folder), "--agent", agent],
        env={},
    )
    async with Client(program) as client:
        yield client


async def test_keeps_its_memory_without_a_server_or_an_api_key(tmp_path: Path) -> None:
    async with host(tmp_path, "one") as client:
        await client.call_tool("memx_set", {"key": "plan", "value": [1]})
    async with host(tmp_path, "one") as client:
        result = await client.call_tool("memx_get", {"key": "plan"})
        assert result.structured_content["value"] == [1]
        assert result.structured_content["writer"] == "local/one"


async def test_two_hosts_share_one_folder_and_hear_each_other(tmp_path: Path) -> None:
    async with host(tmp_path, "one") as one, host(tmp_path, "two") as two, asyncio.timeout(40):
        await one.call_tool("memx_set", {"key": "plan", "value": 1})
        read = await two.call_tool("memx_get", {"key": "plan"})
        assert read.structured_content["writer"] == "local/one"
        async with one.listen(resource_subscriptions=[uri_of("plan")]) as events:
            await two.call_tool("memx_set", {"key": "plan", "value": 2})
            async for event in events:
                assert event == ResourceUpdated(uri_of("plan"))
                break


async def test_only_the_owner_can_use_what_the_lock_file_says(tmp_path: Path) -> None:
    async with AsyncMemxContext(base_url=f"shared:{tmp_path}") as memx:
        await memx.set("secret", 1)
        mode, note = _lock_file(tmp_path)
        assert mode == 0o600
        async with httpx.AsyncClient() as http:
            for headers in ({}, {"x-api-key": "guess"}):
                answer = await http.get(f"{note['address']}/get?key=secret", headers=headers)
                assert answer.status_code == 401
            good = {"x-api-key": note["key"]}
            answer = await http.get(f"{note['address']}/get?key=secret", headers=good)
            assert answer.json()["value"] == 1


def _lock_file(folder: Path) -> tuple[int, dict[str, Any]]:
    (lock,) = folder.glob("*.lock")
    return stat.S_IMODE(lock.stat().st_mode), json.loads(lock.read_text())


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
async def test_when_the_first_host_dies_the_second_takes_its_place(tmp_path: Path) -> None:
    first = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", _HOLD, str(tmp_path)], stdout=asyncio.subprocess.PIPE
    )
    try:
        assert first.stdout is not None
        assert await asyncio.wait_for(first.stdout.readline(), 20) == b"ready\n"
        async with AsyncMemxContext(base_url=f"shared:{tmp_path}", agent="second") as second:
            assert (await second.increment("count")).value == 2
            os.kill(first.pid, signal.SIGKILL)
            await first.wait()
            assert (await asyncio.wait_for(second.increment("count"), 20)).value == 3
            assert _lock_file(tmp_path)[1]["pid"] == os.getpid()
    finally:
        if first.returncode is None:
            first.kill()
            await first.wait()


_HOLD = """
import sys, time
from memx_sdk import memxContext

with memxContext(base_url=f"shared:{sys.argv[1]}", agent="first") as memx:
    memx.increment("count")
    print("ready", flush=True)
    time.sleep(60)
"""
