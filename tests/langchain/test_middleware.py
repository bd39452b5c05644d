"""What an agent with the middleware sees before each of its model calls."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_memx import MemxConnection, MemxMiddleware, MemxSaver

from memx_sdk import MemxConnectionError, memxContext
from tests.langchain.scripted_model import call, say, scripted, texts
from tests.support.memx_server import Served
from tests.support.redis_server import free_port

ASK: Any = {"messages": [HumanMessage("go on")]}


def test_shows_the_keys_and_what_changed_since_the_last_turn(
    served: Served, api_key: str, connection: MemxConnection
) -> None:
    other = memxContext(api_key, served.url, agent="other")
    other.set("plan", {"step": 1})
    other.set("secret", "not chosen")

    def change_the_plan(_: Any) -> Any:
        other.set("plan", {"step": 2}, reason="step 1 is done")
        return call("memx_memory", action="get", key="plan")

    model = scripted(change_the_plan, say("done"), say("later"))
    agent = create_agent(
        model,
        system_prompt="You plan.",
        middleware=[MemxMiddleware(["plan*"], connection)],
        checkpointer=MemxSaver(connection),
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    agent.invoke(ASK, config)
    first, second = (texts(shown) for shown in model.shown)
    assert "You plan." in first
    assert '{"step": 1}' in first
    assert "not chosen" not in first
    assert "Changed since" not in first
    assert "step 1 is done" in second
    assert '{"step": 2}' in second
    agent.invoke(ASK, config)
    assert "Changed since" not in texts(model.shown[2])
    other.close()


def test_keeps_to_its_budget_and_says_what_it_left_out(connection: MemxConnection) -> None:
    for number in range(100):
        connection.context.set(f"note:{number:03}", "x" * 50)
    model = scripted(say("done"))
    middleware = MemxMiddleware(["note:*"], connection, max_characters=1000)
    create_agent(model, middleware=[middleware]).invoke(ASK)
    briefing = model.shown[0][-1].text.removeprefix("go on\n\n")
    assert len(briefing) <= 1000
    assert "note:099" in briefing
    assert "more keys not shown" in briefing


def test_persists_what_the_agent_is_to_keep(connection: MemxConnection) -> None:
    middleware = MemxMiddleware(["plan"], connection, persist={"answer": "summary"})
    create_agent(scripted(say("All is well.")), middleware=[middleware]).invoke(ASK)
    entry = connection.context.get("summary")
    assert entry is not None
    assert entry.value == "All is well."


async def test_works_the_same_without_blocking(connection: MemxConnection) -> None:
    await connection.async_context.set("plan", "first")
    model = scripted(say("done"))
    middleware = MemxMiddleware(["plan"], connection, persist={"answer": "summary"})
    await create_agent(model, middleware=[middleware]).ainvoke(ASK)
    assert '"first"' in model.shown[0][-1].text
    entry = await connection.async_context.get("summary")
    assert entry is not None
    await connection.aclose()


def test_blocks_before_the_briefing_keep_their_marks(connection: MemxConnection) -> None:
    connection.context.set("plan", 1)
    block = {"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}}
    model = scripted(say("done"))
    ask: Any = {"messages": [HumanMessage(content=[block])]}
    system = SystemMessage("You plan.")
    create_agent(
        model, system_prompt=system, middleware=[MemxMiddleware(["plan"], connection)]
    ).invoke(ask)
    assert model.shown[0][0].content == "You plan."
    content = model.shown[0][-1].content
    assert content[0] == block
    assert '"key": "plan"' in str(content[1])


def test_a_memx_that_is_away_does_not_end_the_run(caplog: pytest.LogCaptureFixture) -> None:
    model = scripted(say("done"))
    away = MemxConnection("key", f"http://127.0.0.1:{free_port()}")
    middleware = MemxMiddleware(["plan"], away, persist={"answer": "summary"})
    result = create_agent(model, middleware=[middleware]).invoke(ASK)
    assert "under summary is not there" in caplog.text
    assert result["messages"][-1].text == "done"
    assert "cannot be read at the moment" in model.shown[0][-1].text


def test_raises_what_was_not_kept_for_those_who_ask() -> None:
    away = MemxConnection("key", f"http://127.0.0.1:{free_port()}")
    middleware = MemxMiddleware([], away, persist={"answer": "summary"}, raise_errors=True)
    with pytest.raises(MemxConnectionError):
        create_agent(scripted(say("done")), middleware=[middleware]).invoke(ASK)
