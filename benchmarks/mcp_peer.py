"""Tool calls to MCP servers over stdio, by one and the same client."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client

from benchmarks.calls import by_tasks
from benchmarks.load import CLIENTS
from benchmarks.servers import API_KEY
from benchmarks.table import Sample


def memx_mcp(url: str) -> StdioServerParameters:
    """``memx-mcp`` in front of a memX server."""
    environ = {"PYTHONPATH": os.pathsep.join(sys.path), "MEMX_BASE_URL": url}
    return StdioServerParameters(
        command=sys.executable,
        args=["-c", "from memx_mcp.cli import main; main()"],
        env={**environ, "MEMX_API_KEY": API_KEY},
    )


def drive(
    server: StdioServerParameters, tool: str, arguments: dict[str, Any], seconds: float
) -> Sample:
    """Call a tool for a while."""
    return asyncio.run(_drive(server, tool, arguments, seconds))


async def _drive(
    server: StdioServerParameters, tool: str, arguments: dict[str, Any], seconds: float
) -> Sample:
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()

        async def call() -> None:
            _check(await session.call_tool(tool, arguments))

        await call()  # the first one connects
        return await by_tasks(None, call, CLIENTS, seconds)


def _check(result: object) -> None:
    """Redis's server tells its errors as text of a good result."""
    if not isinstance(result, types.CallToolResult):
        raise TypeError(f"the tool asks back: {result}")
    texts = [each.text for each in result.content if isinstance(each, types.TextContent)]
    if result.is_error or any(text.startswith("Error") for text in texts):
        raise RuntimeError(f"the tool failed: {texts}")
