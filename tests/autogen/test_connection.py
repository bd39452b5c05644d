"""Components that outlive a connection or an event loop."""

from __future__ import annotations

import asyncio

from autogen_core.model_context import UnboundedChatCompletionContext
from autogen_memx import MemxConnection, MemxMemory, MemxTermination, MemxWorkbench

from memx_sdk import AsyncMemxContext, memxContext
from tests.support.memx_server import Served


async def _shown(memory: MemxMemory) -> str:
    context = UnboundedChatCompletionContext()
    await memory.update_context(context)
    return str([message.content for message in await context.get_messages()])


async def _met(condition: MemxTermination, connection: MemxConnection) -> None:
    async with asyncio.timeout(10):
        while await condition([]) is None:
            await connection.context.get("done")  # give the pushed change time to arrive


async def test_a_workbench_that_stops_takes_no_other_component_along(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    memory = MemxMemory(["plan"], connection)
    condition = MemxTermination("done", connection=connection)
    await memx.set("plan", 1)
    async with MemxWorkbench(connection):
        assert '"key": "plan"' in await _shown(memory)
        assert await condition([]) is None
    await memx.set("plan", 2, reason="step 1 is over")
    assert "step 1 is over" in await _shown(memory)
    assert await condition([]) is None
    await memx.set("done", True)
    await _met(condition, connection)


def test_one_event_loop_after_the_other(served: Served, api_key: str) -> None:
    connection = MemxConnection()
    memory = MemxMemory(["plan"], connection)
    condition = MemxTermination("done", connection=connection)

    async def begin() -> None:
        assert await _shown(memory) == "[]"
        assert await condition([]) is None

    async def go_on() -> None:
        assert '"key": "plan"' in await _shown(memory)
        await _met(condition, connection)
        await condition.close()

    with memxContext(api_key, served.url, agent="other") as memx:
        asyncio.run(begin())
        memx.set("plan", 1)
        memx.set("done", True)
        asyncio.run(go_on())
        asyncio.run(connection.close())
