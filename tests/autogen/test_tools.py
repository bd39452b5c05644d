"""Tools and the workbench, above all when something is wrong."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ToolCallExecutionEvent, ToolCallRequestEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken
from autogen_memx import (
    MemxConnection,
    MemxConnectionConfig,
    MemxTool,
    MemxToolError,
    MemxWorkbench,
)

from memx_sdk import AsyncMemxContext
from memx_sdk.tools import TOOLS
from tests.autogen.scripted import call, scripted
from tests.support.memx_server import Served
from tests.support.redis_server import free_port


async def test_a_tool_returns_typed_results(connection: MemxConnection) -> None:
    write = MemxTool("memx_set", connection)
    token = CancellationToken()
    result = await write.run_json({"key": "plan", "value": {"a": 1}}, token)
    assert isinstance(result, TOOLS["memx_set"].result)
    assert json.loads(write.return_value_as_string(result))["version"] == 1
    assert write.schema["name"] == "memx_set"
    assert set(write.schema["parameters"]["required"]) == {"key", "value"}


def test_a_model_is_told_what_each_argument_is_for() -> None:
    for name in TOOLS:
        parameters = MemxTool(name).schema["parameters"]
        silent = [n for n, about in parameters["properties"].items() if "description" not in about]
        assert not silent, (name, silent)


async def test_a_tool_says_what_to_mend(connection: MemxConnection) -> None:
    token = CancellationToken()
    with pytest.raises(MemxToolError, match="key: Field required"):
        await MemxTool("memx_get", connection).run_json({}, token)
    with pytest.raises(MemxToolError, match="invalid_key"):
        await MemxTool("memx_get", connection).run_json({"key": "a*"}, token)
    with pytest.raises(ValueError, match="memx_get, memx_list"):
        MemxTool("memx_publish", connection)


async def test_the_workbench_offers_what_the_api_key_permits(served: Served) -> None:
    reader = served.fresh_key(read=("*",), write=(), admin=())
    async with AsyncMemxContext(reader, served.url) as context:
        bench = MemxWorkbench(MemxConnection(context=context))
        names = {tool["name"] for tool in await bench.list_tools()}
    assert "memx_get" in names
    assert names.isdisjoint({"memx_set", "memx_update", "memx_delete", "memx_set_schema"})


async def test_the_workbench_answers_every_failure_with_a_result(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    bench = MemxWorkbench(connection, ["memx_set", "memx_get"])
    old = await memx.set("plan", "old")
    await memx.set("plan", "new")
    await memx.set_schema("count", {"type": "integer"})
    failures: list[tuple[str, dict[str, Any], str]] = [
        ("memx_set", {"key": "plan", "value": 1, "if_revision": old.revision}, '"new"'),
        ("memx_set", {"key": "count", "value": "one"}, "integer"),
        ("memx_set", {"key": "plan"}, "value: Field required"),
        ("memx_delete", {"key": "plan"}, "no tool"),
    ]
    for name, arguments, expected in failures:
        result = await bench.call_tool(name, arguments)
        assert result.is_error
        assert expected in result.to_text()


async def test_a_server_that_is_away_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMX_API_KEY", "key")
    away = MemxConnection(MemxConnectionConfig(base_url=f"http://127.0.0.1:{free_port()}"))
    bench = MemxWorkbench(away)
    assert len(await bench.list_tools()) == len(TOOLS)
    result = await bench.call_tool("memx_get", {"key": "plan"})
    assert result.is_error
    assert "cannot be reached" in result.to_text()
    await bench.stop()


async def test_a_missing_api_key_is_a_clear_error(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMX_API_KEY", raising=False)
    bench = MemxWorkbench(MemxConnection(MemxConnectionConfig(base_url=served.url)))
    result = await bench.call_tool("memx_get", {"key": "plan"})
    assert result.is_error
    assert "MEMX_API_KEY" in result.to_text()
    await bench.stop()


async def test_cancellation_is_honoured_at_once(connection: MemxConnection) -> None:
    token = CancellationToken()
    bench = MemxWorkbench(connection)
    waiting = asyncio.create_task(
        bench.call_tool("memx_wait", {"pattern": "never", "timeout": 60}, token)
    )
    await bench.call_tool("memx_get", {"key": "x"})  # by now the other call is under way
    before = time.monotonic()
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert time.monotonic() - before < 0.1


async def test_a_team_that_waits_in_a_tool_is_cancelled_at_once(connection: MemxConnection) -> None:
    waits = call("memx_wait", pattern="never", timeout=60)
    agent = AssistantAgent("a", scripted(waits, "on"), workbench=MemxWorkbench(connection))
    team = RoundRobinGroupChat([agent], max_turns=1)
    token = CancellationToken()
    cancelled_at = 0.0
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(20):
            async for message in team.run_stream(task="wait", cancellation_token=token):
                if isinstance(message, ToolCallRequestEvent):
                    cancelled_at = time.monotonic()
                    asyncio.get_running_loop().call_later(0.05, token.cancel)
    assert time.monotonic() - cancelled_at < 0.15
    assert (await team.run(task="go on")).messages[-1].to_text() == "on"


async def test_an_agent_mends_its_mistake_and_goes_on(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    await memx.set_schema("plan", {"type": "array"})
    agent = AssistantAgent(
        "planner",
        scripted(
            call("memx_set", key="plan", value="no list"),
            call("memx_set", key="plan", value=["a list"]),
            "done",
        ),
        workbench=MemxWorkbench(connection),
        max_tool_iterations=5,
    )
    result = await agent.run(task="make a plan")
    answers = [m for m in result.messages if isinstance(m, ToolCallExecutionEvent)]
    assert [answer.content[0].is_error for answer in answers] == [True, False]
    entry = await memx.get("plan")
    assert entry is not None
    assert entry.value == ["a list"]
