"""One run of the team: its agents, its deadline and its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from memx_sdk import AsyncMemxContext, Change
from memx_server.demo.agents import ExplorerAgent, MonitorAgent, QueryAgent, SynthesizerAgent
from memx_server.demo.board import Board
from memx_server.demo.minds import Mind

T = TypeVar("T")

EXPLORERS = 2


class TeamFailedError(Exception):
    """The run did not come to its end; the text says which agent failed, and why."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        summary: The final summary.
        races_lost: How often an explorer found that another had claimed a lead first.
        seconds: The length of the run.
    """

    summary: Mapping[str, Any]
    races_lost: int
    seconds: float


async def run_team(
    open_memory: Callable[[str], AsyncMemxContext],
    question: str,
    mind: Mind,
    show: Callable[[Change], None],
    *,
    board: Board,
    pace: float = 0.0,
    deadline: float = 30.0,
) -> Outcome:
    """Let the team answer ``question``.

    Args:
        open_memory: Returns a context for the agent of a name.
        question: The question.
        mind: The source of ideas of explorers and the synthesizer.
        show: Called with every change.
        board: The keys to work on.
        pace: Seconds that an agent takes over each step, for an audience.
        deadline: Seconds after which the run has failed.

    Raises:
        TeamFailedError: An agent failed, or the deadline passed.
    """
    started = time.monotonic()
    async with AsyncExitStack() as contexts:

        async def memory(agent: str) -> AsyncMemxContext:
            return await contexts.enter_async_context(open_memory(agent))

        explorers = [
            ExplorerAgent(await memory(f"explorer-{n}"), board, mind, pace=pace)
            for n in range(1, EXPLORERS + 1)
        ]
        synthesizer = SynthesizerAgent(await memory("synthesizer"), board, mind, pace=pace)
        monitor = MonitorAgent(await memory("monitor"), board, show)
        query = QueryAgent(await memory("query"), board)
        async with _bounded(deadline), asyncio.TaskGroup() as group:
            group.create_task(_named("MonitorAgent", monitor.run()))
            await monitor.is_watching.wait()
            group.create_task(_named("SynthesizerAgent", synthesizer.run()))
            for n, explorer in enumerate(explorers, start=1):
                group.create_task(_named(f"ExplorerAgent {n}", explorer.run()))
            asking = group.create_task(_named("QueryAgent", query.run(question)))
    return Outcome(
        asking.result(), sum(e.races_lost for e in explorers), time.monotonic() - started
    )


@asynccontextmanager
async def _bounded(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline):
            yield
    except TimeoutError:
        raise TeamFailedError(f"the agents found no answer within {deadline:g} s") from None
    except ExceptionGroup as failures:
        # The first failure has cancelled the other agents; it is the one that explains the end.
        raise failures.exceptions[0] from None


async def _named(agent: str, work: Awaitable[T]) -> T:
    try:
        return await work
    except Exception as error:
        reason = " ".join(str(error).split())
        raise TeamFailedError(f"{agent} failed: {type(error).__name__}: {reason}") from error
