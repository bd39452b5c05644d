"""Two AutoGen teams work on one board, and the second ends when the first says so.

The cooks put dishes on the board, the tasters take them off; each team sees the other's work only through shared
keys, and the tasters' run ends when ``kitchen:closed`` is written. What the cooks remember is saved and loaded
again. The models are scripted, so the example needs no model key.

Start a server (``memx dev``), then:

    MEMX_API_KEY=local_dev_key python examples/autogen_team.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, ModelFamily, ModelInfo, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient
from autogen_memx import (
    MemxConnection,
    MemxConnectionConfig,
    MemxMemory,
    MemxSharedState,
    MemxTeamState,
    MemxTermination,
    MemxWorkbench,
)
from pydantic import BaseModel


class Board(BaseModel):
    """What both teams share: each field is a key, ``kitchen:ready`` and so on."""

    ready: list[str] = []
    tasted: list[str] = []


async def main(url: str | None) -> None:
    """Let both teams work at the same time."""
    cooks_memx = MemxConnection(MemxConnectionConfig(base_url=url, agent="cooks"))
    tasters_memx = MemxConnection(MemxConnectionConfig(base_url=url, agent="tasters"))
    board = MemxSharedState(Board, "kitchen", tasters_memx)

    async def show(state: Board) -> None:
        print(f"board: ready {state.ready}, tasted {state.tasted}")

    stop_showing = board.on_change(show)
    await asyncio.gather(_cook(cooks_memx), _taste(board, tasters_memx))
    print(f"in the end: {await board.read()}")
    stop_showing()
    await board.close()
    await cooks_memx.close()


async def _cook(memx: MemxConnection) -> None:
    script: list[str | CreateResult] = [
        _call("memx_update", key="kitchen:ready", append=["soup", "pie"], reason="dinner"),
        "The soup and the pie are ready.",
        _call("memx_set", key="kitchen:closed", value=True, reason="nothing more to cook"),
        "The kitchen is closed.",
    ]
    cook = AssistantAgent(
        "cook",
        _scripted(*script),
        workbench=MemxWorkbench(memx),
        memory=[MemxMemory(["kitchen:*"], memx)],
        max_tool_iterations=2,
    )
    team = RoundRobinGroupChat([cook], max_turns=2)
    await team.run(task="Cook dinner.")
    await MemxTeamState("kitchen:team", memx).save(team)
    print("the cooks' state is saved")


async def _taste(board: MemxSharedState[Board], memx: MemxConnection) -> None:
    def taste_one(state: Board) -> None:
        if state.ready:
            state.tasted.append(state.ready.pop(0))

    async with asyncio.timeout(30):
        async for state in board.watch():
            if state.ready:
                await board.update(taste_one, reason="it smelled good")
            elif len(state.tasted) == 2:
                break
    closed = MemxTermination("kitchen:closed", True, connection=memx)
    taster = AssistantAgent("taster", _scripted(*["Is there more?"] * 50))
    waiting = closed | MaxMessageTermination(50)
    result = await RoundRobinGroupChat([taster], termination_condition=waiting).run(task="Wait.")
    print(f"the tasters stopped: {result.stop_reason}")
    await closed.close()


def _scripted(*replies: str | CreateResult) -> ReplayChatCompletionClient:
    info = ModelInfo(
        vision=False,
        function_calling=True,
        json_output=False,
        family=ModelFamily.UNKNOWN,
        structured_output=False,
    )
    return ReplayChatCompletionClient(list(replies), model_info=info)


def _call(tool: str, **arguments: Any) -> CreateResult:
    call = FunctionCall(id=f"call-{tool}", name=tool, arguments=json.dumps(arguments))
    usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
    return CreateResult(finish_reason="function_calls", content=[call], usage=usage, cached=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", help="the server; default: MEMX_BASE_URL")
    asyncio.run(main(parser.parse_args().url))
