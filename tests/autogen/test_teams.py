"""Whole teams: two on one state in two processes, stopped and resumed, and loaded from JSON."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TerminatedException
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import BaseGroupChat, RoundRobinGroupChat
from autogen_core import Component, Image
from autogen_core.models import AssistantMessage, CreateResult, UserMessage
from autogen_ext.models.cache import ChatCompletionCache
from autogen_memx import (
    MemxCacheStore,
    MemxChatCompletionContext,
    MemxConnection,
    MemxConnectionConfig,
    MemxMemory,
    MemxSharedState,
    MemxTeamState,
    MemxTermination,
    MemxTool,
    MemxWorkbench,
)
from PIL import Image as PillowImage
from pydantic_core import to_jsonable_python

from memx_sdk import AsyncMemxContext, Change, ConflictError, memxContext
from tests.autogen.scripted import call, scripted
from tests.autogen.test_shared_state import Board
from tests.sdk.tcp_proxy import TcpProxy
from tests.support.memx_server import Served

WORKER = """
import asyncio, sys
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_memx import MemxConnection, MemxTermination, MemxWorkbench
from tests.autogen.scripted import call, scripted

async def main(kind):
    memx = MemxConnection()
    def member(name):
        replies = [r for _ in range(20) for r in (call("memx_update", key="score", increment=1), "ok")]
        return AssistantAgent(name, scripted(*replies), workbench=MemxWorkbench(memx), max_tool_iterations=2)
    members = [member("a"), member("b")]
    done = MemxTermination("goal", connection=memx)
    if kind == "selector":
        team = SelectorGroupChat(members, scripted(*["a", "b"] * 20), termination_condition=done, max_turns=20)
    else:
        team = RoundRobinGroupChat(members, termination_condition=done, max_turns=20)
    result = await team.run(task="count")
    print(result.stop_reason)
    await memx.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_two_teams_in_two_processes_work_on_one_state(
    served: Served, api_key: str, memx: AsyncMemxContext
) -> None:
    async def team(kind: str) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, kind, stdout=asyncio.subprocess.PIPE, env={**os.environ}
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return out.decode()

    await asyncio.gather(team("selector"), team("round robin"))
    score = await memx.get("score")
    assert score is not None
    assert score.value == score.version == 40


async def test_a_key_that_another_process_writes_ends_the_run(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    condition = MemxTermination("status", "done", member=["state"], connection=connection)
    assert await condition([]) is None
    await memx.set("status", {"state": "busy"})
    await memx.set("status", {"state": "done"})
    async with asyncio.timeout(10):
        while (message := await condition([])) is None:
            await memx.get("status")  # give the pushed change time to arrive
    assert "status was met by tester/other" in message.content
    assert condition.terminated
    with pytest.raises(TerminatedException):
        await condition([])
    await condition.reset()
    again = await condition([])
    assert again is not None  # it still holds
    await condition.close()


async def test_a_key_that_was_written_while_the_stream_was_broken_ends_the_run(
    served: Served, api_key: str, memx: AsyncMemxContext
) -> None:
    """The next message sees the key, however long the subscription still pauses before it reconnects."""
    async with TcpProxy(served.url) as proxy:
        connection = MemxConnection(MemxConnectionConfig(base_url=proxy.url))
        condition = MemxTermination("status", connection=connection)
        assert await condition([]) is None
        proxy.accepting = False
        proxy.cut()
        await memx.set("status", "done")
        proxy.accepting = True
        message = await condition([])
        assert message is not None
        await condition.close()


async def test_a_condition_that_memx_cannot_be_asked_for_lets_the_team_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MEMX_API_KEY", raising=False)
    condition = MemxTermination("status", connection=MemxConnection())
    assert await condition([]) is None
    await condition.close()


def _team(connection: MemxConnection, *replies: str | CreateResult) -> RoundRobinGroupChat:
    agent = AssistantAgent("writer", scripted(*replies))
    return RoundRobinGroupChat([agent], termination_condition=MaxMessageTermination(2))


async def test_a_team_that_stopped_goes_on_in_another(connection: MemxConnection) -> None:
    saved = MemxTeamState("teams/writers", connection)
    first = _team(connection, "once upon a time " * 40_000)
    assert not await saved.load(first)
    await first.run(task="tell a story")
    await saved.save(first)

    second = _team(connection, "the end")
    assert await MemxTeamState("teams/writers", connection).load(second)
    assert to_jsonable_python(await second.save_state()) == to_jsonable_python(
        await first.save_state()
    )

    late = MemxTeamState("teams/writers", connection)
    await late.load(second)
    await saved.save(first)
    with pytest.raises(ConflictError):
        await late.save(second)
    await saved.delete()
    assert not await late.load(second)
    assert await connection.context.keys("memx:team:*") == []  # nor any part of what was large


ENDLESS = """
import asyncio
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_memx import MemxTeamState
from tests.autogen.scripted import scripted

async def main():
    turns = (f"turn {number}" for number in range(1000))
    team = RoundRobinGroupChat([AssistantAgent("writer", scripted(*turns))], max_turns=1)
    state = MemxTeamState("teams/killed")
    task = "begin"
    while True:
        await team.run(task=task)
        await state.save(team)
        task = None

asyncio.run(main())
"""


async def test_a_team_that_was_killed_goes_on_where_it_had_saved(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ENDLESS)
    try:
        # Each save is a new version of its key; after the third the process dies, wherever it is.
        async with (
            asyncio.timeout(40),
            memx.subscribe("memx:team:teams*killed", snapshot=True) as saves,
        ):
            async for saved in saves:
                if isinstance(saved, Change) and saved.version >= 3:
                    break
    finally:
        process.kill()
        await process.wait()
    team = RoundRobinGroupChat([AssistantAgent("writer", scripted("resumed"))], max_turns=1)
    assert await MemxTeamState("teams/killed", connection).load(team)
    result = await team.run()
    assert result.messages[-1].to_text() == "resumed"
    text = json.dumps(to_jsonable_python(await team.save_state()))
    assert "turn 2" in text
    assert text.count("turn 0") == text.count("turn 2")


async def test_a_message_context_outlives_its_process(connection: MemxConnection) -> None:
    before = MemxChatCompletionContext("chat", connection=connection)
    await before.add_message(UserMessage(content="hello", source="ann"))
    await before.add_message(AssistantMessage(content="hi", source="bot"))
    after = MemxChatCompletionContext("chat", connection=connection, buffer_size=1)
    assert [m.content for m in await before.get_messages()] == ["hello", "hi"]
    assert [m.content for m in await after.get_messages()] == ["hi"]
    state = await before.save_state()
    await before.clear()
    assert await after.get_messages() == []
    await after.load_state(state)
    assert [m.content for m in await before.get_messages()] == ["hello", "hi"]


async def test_no_conversation_is_taken_for_another(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    names = ["chat", "chat:2026", "chat:2026-11-27", "chat:count", "*", "c" * 600, "ä😀"]
    contexts = [MemxChatCompletionContext(name, connection=connection) for name in names]
    for name, context in zip(names, contexts, strict=True):
        await context.add_message(UserMessage(content=name, source="ann"))
    for name, context in zip(names, contexts, strict=True):
        assert [message.content for message in await context.get_messages()] == [name]
    await contexts[0].clear()
    assert await contexts[0].get_messages() == []
    assert [len(await context.get_messages()) for context in contexts[1:]] == [1] * 6


async def test_what_is_no_message_disturbs_no_conversation(
    connection: MemxConnection, memx: AsyncMemxContext, caplog: pytest.LogCaptureFixture
) -> None:
    name = secrets.token_hex(4)  # a key is logged once for the whole process
    context = MemxChatCompletionContext(name, connection=connection)
    await context.add_message(UserMessage(content="hello", source="ann"))
    await context.add_message(UserMessage(content="a second", source="ann"))
    place = (await memx.keys(f"memx:context:{name}:^*:0*"))[1]
    for stray in ("a text", {"type": "Unknown"}, None, {"items": [{"value": 5}]}):
        await memx.set(place, stray)
        assert [message.content for message in await context.get_messages()] == ["hello"]
    assert caplog.text.count("holds no message") == 1


async def test_a_message_is_of_any_size(connection: MemxConnection) -> None:
    context = MemxChatCompletionContext("chat", connection=connection)
    picture = Image(PillowImage.frombytes("RGB", (900, 900), os.urandom(900 * 900 * 3)))
    await context.add_message(UserMessage(content=["look", picture], source="ann"))
    (message,) = await MemxChatCompletionContext("chat", connection=connection).get_messages()
    assert isinstance(message, UserMessage)
    shown_again = message.content[1]
    assert isinstance(shown_again, Image)
    assert shown_again.to_base64() == picture.to_base64()


async def test_two_sessions_that_share_a_conversation_are_warned_of(
    connection: MemxConnection, caplog: pytest.LogCaptureFixture
) -> None:
    first = MemxChatCompletionContext("chat", connection=connection)
    await first.add_message(UserMessage(content="hello", source="ann"))
    resumed = MemxChatCompletionContext("chat", connection=connection)
    await resumed.add_message(UserMessage(content="hello again", source="ann"))
    assert len(await resumed.get_messages()) == 2
    assert "another session" not in caplog.text  # it goes on with what an earlier one began
    assert len(await first.get_messages()) == 2
    await first.get_messages()
    assert caplog.text.count("another session of ") == 1
    assert "'chat'" in caplog.text


async def test_no_message_is_lost_when_agents_add_at_once(connection: MemxConnection) -> None:
    context = MemxChatCompletionContext("chat", connection=connection)
    await asyncio.gather(
        *(context.add_message(UserMessage(content=str(n), source="a")) for n in range(50))
    )
    assert {m.content for m in await context.get_messages()} == {str(n) for n in range(50)}


async def test_a_model_answers_from_the_shared_cache(served: Served, api_key: str) -> None:
    with memxContext(api_key, served.url) as context:
        question = [UserMessage(content="2 + 2?", source="ann")]
        first = ChatCompletionCache(scripted("4"), MemxCacheStore(context=context))
        assert (await first.create(question)).content == "4"
        unasked = scripted("5")
        second = ChatCompletionCache(unasked, MemxCacheStore(context=context))
        assert (await second.create(question)).content == "4"
        assert unasked.create_calls == []


def _components(connection: MemxConnection) -> list[Component[Any]]:
    return [
        MemxMemory(["plan*"], connection, notes="n", max_characters=900),
        MemxWorkbench(connection, ["memx_get"]),
        MemxTool("memx_set", connection),
        MemxSharedState(Board, "board", connection),
        MemxTermination("status", None, member=["a", 0], connection=connection),
        MemxChatCompletionContext("chat", buffer_size=3, connection=connection),
        MemxTeamState("state", connection),
        MemxCacheStore("cache", ttl=60, connection=connection.config),
    ]


def test_every_component_goes_to_json_and_back_without_its_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEAM_KEY", "a-secret")
    config = MemxConnectionConfig(
        base_url="http://memx.example", agent="critic", api_key_env="TEAM_KEY"
    )
    for component in _components(MemxConnection(config)):
        dumped = component.dump_component()  # type: ignore[attr-defined]  # of ComponentBase, beside Component
        text = dumped.model_dump_json()
        assert "a-secret" not in text
        assert "TEAM_KEY" in text
        loaded = type(component).load_component(json.loads(text))  # type: ignore[attr-defined]  # as above
        assert loaded.dump_component() == dumped


async def test_a_whole_team_comes_from_json(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    await memx.set("plan", "be brief")
    agent = AssistantAgent(
        "writer",
        scripted(call("memx_set", key="story", value="The end."), "finished"),
        workbench=MemxWorkbench(),
        memory=[MemxMemory(["plan"])],
        model_context=MemxChatCompletionContext("chat"),
        max_tool_iterations=3,
    )
    original = RoundRobinGroupChat(
        [agent], termination_condition=MemxTermination("story") | MaxMessageTermination(9)
    )
    text = original.dump_component().model_dump_json()
    team = BaseGroupChat.load_component(json.loads(text))
    result = await team.run(task="write")
    assert "story was met by tester" in str(result.stop_reason)
    story = await memx.get("story")
    assert story is not None
    assert story.value == "The end."
    stored = await MemxChatCompletionContext("chat", connection=connection).get_messages()
    assert "be brief" in "\n".join(str(message.content) for message in stored)
