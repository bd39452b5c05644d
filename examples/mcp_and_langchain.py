"""A LangChain agent and an MCP client work on one plan.

The MCP client starts ``memx-mcp`` as Claude Desktop would, subscribes to the plan, and is notified when the
LangChain agent changes it; then it adds a step of its own. The agent's model is scripted, so the example needs no
model key.

Start a server (``memx dev``), then:

    MEMX_API_KEY=local_dev_key python examples/mcp_and_langchain.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import mcp_types as types
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_memx import MemxConnection, MemxTool
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

PLAN = "team:plan"
PLAN_URI = "memx://key/team%3Aplan"


class ScriptedModel(GenericFakeChatModel):
    """Stands in for a model."""

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        """Accept any tools: the script knows what to call."""
        return self


async def main(url: str) -> None:
    """Let both work."""
    memx = MemxConnection(os.environ.get("MEMX_API_KEY"), url, agent="langchain")
    environment = {"MEMX_API_KEY": os.environ["MEMX_API_KEY"], "MEMX_BASE_URL": url}
    program = StdioServerParameters(
        command=sys.executable, args=["-m", "memx_mcp", "--agent", "mcp-host"], env=environment
    )
    async with Client(program) as client, asyncio.timeout(60):
        async with client.listen(resource_subscriptions=[PLAN_URI]) as events:
            await _let_the_agent_plan(memx)
            async for _ in events:
                break
            print("MCP client: notified that the plan has changed")
        contents = (await client.read_resource(PLAN_URI)).contents[0]
        assert isinstance(contents, types.TextResourceContents)
        print(f"MCP client: reads {contents.text}")
        change = {"key": PLAN, "append": ["serve it"], "reason": "somebody has to"}
        await client.call_tool("memx_update", change)
        history = await client.call_tool("memx_history", {"key": PLAN})
    for entry in history.structured_content["changes"]:
        print(f"history: {entry['writer']}: {json.dumps(entry['value'])} ({entry['reason']})")
    await memx.aclose()


async def _let_the_agent_plan(memx: MemxConnection) -> None:
    arguments = {"action": "set", "key": PLAN, "value": ["bake a cake"], "reason": "a start"}
    call = {"name": "memx_memory", "args": arguments, "id": "1"}
    script = [AIMessage("", tool_calls=[call]), AIMessage("The plan stands.")]
    agent = create_agent(ScriptedModel(messages=iter(script)), [MemxTool(connection=memx)])
    result = await agent.ainvoke({"messages": [HumanMessage("Plan a birthday.")]})
    print(f"LangChain agent: {result['messages'][-1].text}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    default = os.environ.get("MEMX_BASE_URL", "http://127.0.0.1:8000")
    parser.add_argument("--url", default=default, help="the server; default: MEMX_BASE_URL")
    asyncio.run(main(parser.parse_args().url))
