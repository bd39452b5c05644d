"""What an agent gets from the tools, above all when something is wrong."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import weakref
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import ToolException
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_memx import MemxConnection, MemxTool, MemxToolkit

from tests.langchain.scripted_model import call, say, scripted
from tests.support.memx_server import Served
from tests.support.redis_server import free_port


def invoke(tool: Any, **arguments: Any) -> ToolMessage:
    message = tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": arguments})
    assert isinstance(message, ToolMessage)
    return message


def test_reads_writes_updates_lists_and_looks_back(connection: MemxConnection) -> None:
    tool = MemxTool(connection=connection)
    written = invoke(tool, action="set", key="plan", value={"a": 1}, reason="a start")
    assert written.artifact["version"] == 1
    assert invoke(tool, action="update", key="plan", merge={"b": 2}).artifact["value"] == {
        "a": 1,
        "b": 2,
    }
    read = invoke(tool, action="get", key="plan")
    assert read.artifact["value"] == {"a": 1, "b": 2}
    assert invoke(tool, action="list", pattern="pl*").artifact["keys"] == ["plan"]
    history = invoke(tool, action="history", key="plan").artifact["changes"]
    assert [change["version"] for change in history] == [2, 1]
    assert history[1]["reason"] == "a start"
    assert invoke(tool, action="delete", key="plan").artifact["deleted"] is True
    assert invoke(tool, action="get", key="plan").artifact["exists"] is False


def test_what_a_model_is_shown_holds_nothing_that_strict_providers_refuse(
    connection: MemxConnection,
) -> None:
    tools = [MemxTool(connection=connection), *MemxToolkit(connection=connection).get_tools()]
    for tool in tools:
        text = json.dumps(convert_to_openai_tool(tool))
        assert "$ref" not in text, tool.name
        assert '"items": {}' not in text, tool.name


def test_a_stored_null_is_a_value(connection: MemxConnection) -> None:
    tool = MemxTool(connection=connection)
    assert invoke(tool, action="set", key="nothing", value=None).status == "success"
    assert invoke(tool, action="get", key="nothing").artifact["exists"] is True


async def test_waits_until_another_agent_writes(connection: MemxConnection) -> None:
    tool = MemxTool(connection=connection)
    cursor = await connection.async_context.cursor()
    waiting = asyncio.create_task(
        tool.ainvoke(
            {
                "type": "tool_call",
                "id": "1",
                "name": tool.name,
                "args": {"action": "wait", "pattern": "go", "since": cursor, "timeout": 20},
            }
        )
    )
    await connection.async_context.set("go", True)
    message = await asyncio.wait_for(waiting, 10)
    assert [change["key"] for change in message.artifact["changes"]] == ["go"]
    await connection.aclose()


def test_a_conflict_shows_the_present_value_and_what_to_do(connection: MemxConnection) -> None:
    tool = MemxTool(connection=connection)
    first = invoke(tool, action="set", key="plan", value="mine").artifact["revision"]
    second = invoke(tool, action="set", key="plan", value="theirs").artifact["revision"]
    refused = invoke(tool, action="set", key="plan", value="mine again", if_revision=first)
    assert refused.status == "error"
    assert '"theirs"' in refused.text
    assert f"if_revision={second}" in refused.text


def test_wrong_arguments_are_named(connection: MemxConnection) -> None:
    tool = MemxTool(connection=connection)
    unknown = invoke(tool, action="publish", key="plan")
    assert unknown.status == "error"
    assert "'get', 'set'" in unknown.text
    missing = invoke(tool, action="set", value=1)
    assert missing.status == "error"
    assert "key" in missing.text
    extra = invoke(tool, action="get", key="plan", verbose=True)
    assert extra.status == "error"
    assert "verbose" in extra.text


def test_a_value_that_the_model_forgot_overwrites_nothing(connection: MemxConnection) -> None:
    tool = MemxTool(connection=connection)
    invoke(tool, action="set", key="plan", value="kept")
    forgotten = invoke(tool, action="set", key="plan")
    assert forgotten.status == "error"
    assert "set needs value" in forgotten.text
    assert invoke(tool, action="get", key="plan").artifact["value"] == "kept"


def test_a_problem_deep_in_an_argument_is_told_shortly(connection: MemxConnection) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    refused = invoke(MemxTool(connection=connection), action="set", key="plan", value=deep)
    assert refused.status == "error"
    assert len(refused.text) < 500


def test_a_tool_can_be_shown_and_copied_and_keeps_its_key_to_itself(
    connection: MemxConnection, api_key: str
) -> None:
    tool = MemxTool(connection=connection)
    for shown in (repr(tool), str(tool.model_dump()), repr(connection)):
        assert api_key not in shown
    assert copy.deepcopy(tool).connection is connection
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(connection)


def test_one_event_loop_after_the_other_leaves_nothing_behind(connection: MemxConnection) -> None:
    tool = MemxTool(connection=connection)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def read() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await tool.ainvoke({"action": "get", "key": "plan"})

    for _ in range(4):
        asyncio.run(read())
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None] * 3


def test_a_refused_value_says_what_to_mend(connection: MemxConnection) -> None:
    connection.context.set_schema("plan", {"type": "object", "required": ["steps"]})
    refused = invoke(MemxTool(connection=connection), action="set", key="plan", value={})
    assert refused.status == "error"
    assert "steps" in refused.text
    assert "schema_violation" in refused.text


def test_no_permission_is_no_reason_to_try_again(served: Served) -> None:
    key = served.fresh_key(read=("plan",), write=())
    tool = MemxTool(connection=MemxConnection(key, served.url))
    refused = invoke(tool, action="set", key="plan", value=1)
    assert refused.status == "error"
    assert "forbidden" in refused.text
    assert "not change by trying again" in refused.text


def test_a_server_that_is_away_is_said_not_raised() -> None:
    away = MemxConnection("key", f"http://127.0.0.1:{free_port()}")
    refused = invoke(MemxTool(connection=away), action="get", key="plan")
    assert refused.status == "error"
    assert "cannot be reached" in refused.text


def test_errors_can_be_raised_for_those_who_ask(connection: MemxConnection) -> None:
    tool = MemxTool(connection=connection, raise_errors=True)
    with pytest.raises(ToolException, match="invalid_key"):
        invoke(tool, action="get", key="a*")


def test_the_toolkit_offers_what_the_api_key_permits(served: Served) -> None:
    reader = MemxConnection(served.fresh_key(read=("*",), write=(), admin=()), served.url)
    names = {tool.name for tool in MemxToolkit(connection=reader).get_tools()}
    assert "memx_get" in names
    assert names.isdisjoint({"memx_set", "memx_update", "memx_delete", "memx_set_schema"})
    everything = MemxConnection(served.fresh_key(), served.url)
    assert len(MemxToolkit(connection=everything).get_tools()) == 14
    chosen = MemxToolkit(connection=everything, names=["memx_get"]).get_tools()
    assert [tool.name for tool in chosen] == ["memx_get"]


def test_an_agent_mends_its_mistake_and_goes_on(connection: MemxConnection) -> None:
    connection.context.set_schema("plan", {"type": "array"})
    model = scripted(
        call("memx_set", key="plan", value="not a list"),
        call("memx_set", key="plan", value=["a list"]),
        say("done"),
    )
    agent = create_agent(model, MemxToolkit(connection=connection).get_tools())
    result = agent.invoke({"messages": [HumanMessage("make a plan")]})
    assert result["messages"][-1].text == "done"
    first_answer = next(m for m in result["messages"] if isinstance(m, ToolMessage))
    assert "array" in first_answer.text
    entry = connection.context.get("plan")
    assert entry is not None
    assert entry.value == ["a list"]


async def test_eight_agents_lose_none_of_a_thousand_updates(connection: MemxConnection) -> None:
    """Each agent is a real ``create_agent`` graph that calls the update tool 125 times."""
    keys = ["score:a", "score:b", "score:c"]

    async def work(number: int) -> None:
        replies = [
            call("memx_update", key=keys[(number + turn) % 3], increment=1) for turn in range(125)
        ]
        tools = await MemxToolkit(connection=connection, names=["memx_update"]).aget_tools()
        agent = create_agent(scripted(*replies, say("done")), tools)
        result = await agent.ainvoke(
            {"messages": [HumanMessage("count")]}, {"recursion_limit": 300}
        )
        answers = [m for m in result["messages"] if isinstance(m, ToolMessage)]
        assert len(answers) == 125
        assert all(answer.status == "success" for answer in answers)

    await asyncio.gather(*(work(number) for number in range(8)))
    entries = await connection.async_context.mget(keys)
    assert sum(entry.value for entry in entries.values() if entry) == 1000
    assert sum(entry.version for entry in entries.values() if entry) == 1000
    await connection.aclose()


def test_one_tool_speaks_of_its_own_actions(connection: MemxConnection) -> None:
    tool = MemxTool(connection=connection)
    invoke(tool, action="set", key="plan", value=["a step"] * 9000)
    part = invoke(tool, action="get", key="plan")
    assert "call action get with start" in part.artifact["note"]
    assert part.text == json.dumps(part.artifact)
    rest = invoke(tool, action="get", key="plan", start=part.artifact["part"]["next"])
    assert len(part.artifact["value"]) + len(rest.artifact["value"]) == 9000
    first = invoke(tool, action="list", limit=1, pattern="*")
    assert first.artifact["keys"] == ["plan"]
    connection.context.set_schema("count", {"type": "integer"})
    refused = invoke(tool, action="set", key="count", value="one")
    assert refused.status == "error"
    assert "memx_" not in refused.text
    assert "integer" in refused.text
