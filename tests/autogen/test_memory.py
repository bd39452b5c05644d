"""Shared keys as an agent's memory."""

from __future__ import annotations

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core import Image
from autogen_core.memory import MemoryContent, MemoryMimeType
from autogen_core.model_context import UnboundedChatCompletionContext
from autogen_memx import MemxConnection, MemxConnectionConfig, MemxMemory
from PIL import Image as PillowImage

from memx_sdk import AsyncMemxContext
from tests.autogen.scripted import scripted, shown
from tests.support.redis_server import free_port


async def test_an_agent_sees_the_keys_and_what_changed(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    await memx.set("plan", {"step": 1})
    await memx.set("other", "not chosen")
    model = scripted("first", "second")
    agent = AssistantAgent("a", model, memory=[MemxMemory(["plan*"], connection)])
    await agent.run(task="look")
    await memx.set("plan", {"step": 2}, reason="step 1 is done")
    await agent.run(task="look again")
    assert "{'step': 1}" in shown(model, 0) or '{"step": 1}' in shown(model, 0)
    assert "not chosen" not in shown(model, 0)
    assert "step 1 is done" in shown(model, 1)


async def test_finds_what_was_added(connection: MemxConnection, memx: AsyncMemxContext) -> None:
    memory = MemxMemory(["plan*"], connection)
    await memory.add(MemoryContent(content="Tea is at four.", mime_type=MemoryMimeType.TEXT))
    await memory.add(
        MemoryContent(
            content={"cake": "lemon"}, mime_type="application/json", metadata={"by": "ann"}
        )
    )
    await memx.set("plan", "bake a lemon cake")
    tea = (await memory.query("when is tea")).results
    assert tea[0].content == "Tea is at four."
    lemon = (await memory.query("LEMON")).results
    assert {str(item.content) for item in lemon} == {"{'cake': 'lemon'}", "bake a lemon cake"}
    assert {(item.metadata or {}).get("by") for item in lemon} == {"ann", None}
    assert len((await memory.query("")).results) == 3
    assert len((await memory.query("notes:*")).results) == 2
    await memory.clear()
    assert (await memory.query("notes:*")).results == []
    assert await memx.get("plan") is not None


async def test_clearing_leaves_the_notes_of_others(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    notes = MemxMemory([], connection, notes="notes")
    today = MemxMemory([], connection, notes="notes:2026-11-27")
    for memory in (notes, today):
        await memory.add(MemoryContent(content="tea", mime_type=MemoryMimeType.TEXT))
    await memx.set("notes:shopping", "milk")
    await notes.clear()
    kept = await memx.keys("notes:*")
    assert len(kept) == 2
    assert kept[0].startswith("notes:2026-11-27:")
    assert kept[1] == "notes:shopping"


async def test_a_search_shows_no_records_of_programs(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    await memx.set("memx:team:t", "tea")
    await memx.set("plan", "tea")
    for query in ("tea", "*"):
        found = (await MemxMemory(["*"], connection).query(query)).results
        assert [(each.metadata or {})["key"] for each in found] == ["plan"]


async def test_what_only_looks_like_a_note_is_shown_as_it_is(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    stray = {"content": 5, "mime_type": "text/plain", "metadata": None}
    await memx.set("plan", stray)
    (found,) = (await MemxMemory(["plan"], connection).query("")).results
    assert found.content == stray


async def test_what_json_cannot_hold_is_refused(connection: MemxConnection) -> None:
    memory = MemxMemory(["plan"], connection)
    image = Image(PillowImage.new("RGB", (1, 1)))
    with pytest.raises(TypeError, match="JSON"):
        await memory.add(MemoryContent(content=image, mime_type=MemoryMimeType.IMAGE))


async def test_a_memx_that_is_away_does_not_end_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMX_API_KEY", "key")
    away = MemxConnection(MemxConnectionConfig(base_url=f"http://127.0.0.1:{free_port()}"))
    memory = MemxMemory(["plan"], away)
    context = UnboundedChatCompletionContext()
    result = await memory.update_context(context)
    assert "cannot be read at the moment" in str(result.memories.results[0].content)
    await memory.close()
