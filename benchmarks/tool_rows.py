"""One call of a framework's tool at a time, beside the same operation by the SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
from anyio.from_thread import start_blocking_portal
from autogen_memx import MemxConnection as AutoGenConnection
from autogen_memx import MemxWorkbench
from langchain_memx import MemxConnection, MemxTool, MemxToolkit
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from benchmarks import servers
from benchmarks.operations import GET, SET, VALUE, Operation, write
from benchmarks.plan import Plan
from benchmarks.sdk_rows import KEYS, in_tasks, sdk_call
from benchmarks.servers import API_KEY, Server
from benchmarks.table import Row
from memx_sdk import AsyncMemxContext

TITLE = "Tools of frameworks, one call at a time"
FLOOR = "the same operation by the asynchronous SDK"

Arguments = dict[str, Any]
CallTool = Callable[[str, Arguments], Any]
"""Starts the call of the tool of an operation with its arguments."""


def measure(plan: Plan) -> list[Row]:
    """Measure a get and a set by each framework's tool."""
    if plan.quick:
        plan = replace(plan, rounds=1, seconds=min(plan.seconds, 0.5))
    with (
        servers.redis() as redis,
        servers.memx(redis.url) as memx,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_opened(memx)) as (context, tools),
    ):
        write(memx, KEYS, VALUE)
        return [
            plan.alternate(
                Row(TITLE, f"{name}: {each.op}", FLOOR),
                in_tasks(portal, memx, _tool_call(call, each), 1),
                in_tasks(portal, memx, sdk_call(context, each), 1),
            )
            for name, call in tools.items()
            for each in (GET, SET)
        ]


def _tool_call(call: CallTool, operation: Operation) -> Callable[[], Any]:
    return lambda: call(operation.op, {**operation.fields, "key": KEYS[0]})


@asynccontextmanager
async def _opened(memx: Server) -> AsyncIterator[tuple[AsyncMemxContext, dict[str, CallTool]]]:
    """Open a context, and all tools: those of LangChain and AutoGen on it, those of MCP over HTTP."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with AsyncExitStack() as stack:
        context = await stack.enter_async_context(AsyncMemxContext(API_KEY, memx.url))
        http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers))
        transport = streamable_http_client(f"{memx.url}/mcp", http_client=http)
        client = await stack.enter_async_context(Client(transport))
        yield context, {**await _langchain(context), **_autogen(context), **_mcp(client)}


async def _langchain(context: AsyncMemxContext) -> dict[str, CallTool]:
    connection = MemxConnection(async_context=context)
    one = MemxTool(connection=connection)
    apart = {tool.name: tool for tool in await MemxToolkit(connection=connection).aget_tools()}
    return {
        "LangChain MemxTool": lambda op, given: one.ainvoke({"action": op, **given}),
        "LangChain toolkit": lambda op, given: apart[f"memx_{op}"].ainvoke(given),
    }


def _autogen(context: AsyncMemxContext) -> dict[str, CallTool]:
    workbench = MemxWorkbench(AutoGenConnection(context=context))
    return {"AutoGen workbench": lambda op, given: workbench.call_tool(f"memx_{op}", given)}


def _mcp(client: Client) -> dict[str, CallTool]:
    return {"MCP over HTTP": lambda op, given: client.call_tool(f"memx_{op}", given)}
