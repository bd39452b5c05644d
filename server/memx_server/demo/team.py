"""One run of the team: its agents, its deadline and its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from memx_sdk import AsyncMemxContext, Change
from memx_server.demo.agents import (
    AuditorAgent,
    ExplorerAgent,
    MonitorAgent,
    QueryAgent,
    SynthesizerAgent,
)
from memx_server.demo.board import Board, Note
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
        caught_up: Whether the agent that was away was told every change that it missed, once and in order.
        seconds: The length of the run.
    """

    summary: Mapping[str, Any]
    races_lost: int
    caught_up: bool
    seconds: float


async def run_team(
    open_memory: Callable[[str], AsyncMemxContext],
    question: str,
    mind: Mind,
    show: Callable[[Change], None],
    *,
    board: Board,
    tell: Callable[[Note], None] = lambda _: None,
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
        tell: Called with what agents meet beside changes: refusals, absences.
        pace: Seconds that an agent takes over each step, for an audience.
        deadline: Seconds after which the run has failed.

    Raises:
        TeamFailedError: An agent failed, or the deadline passed.
    """
    started = time.monotonic()
    seen: list[int] = []

    def shown(change: Change) -> None:
        seen.append(change.revision)
        show(change)

    async with AsyncExitStack() as contexts:

        async def memory(agent: str) -> AsyncMemxContext:
            return await contexts.enter_async_context(open_memory(agent))

        numbers = range(1, EXPLORERS + 1)
        team = _Team(
            QueryAgent(await memory("query"), board, tell),
            [
                ExplorerAgent(await memory(f"explorer-{n}"), board, mind, tell, pace=pace)
                for n in numbers
            ],
            SynthesizerAgent(await memory("synthesizer"), board, mind, tell, pace=pace),
            MonitorAgent(await memory("monitor"), board, shown),
            AuditorAgent(await memory("auditor"), board, tell),
        )
        async with _bounded(deadline):
            summary = await team.answer(question)
            missed = await _named("AuditorAgent", team.auditor.catch_up())
            caught_up = await team.auditor.report(missed, seen)
    races_lost = sum(explorer.races_lost for explorer in team.explorers)
    return Outcome(summary, races_lost, caught_up, time.monotonic() - started)


@dataclass(frozen=True)
class _Team:
    query: QueryAgent
    explorers: list[ExplorerAgent]
    synthesizer: SynthesizerAgent
    monitor: MonitorAgent
    auditor: AuditorAgent

    async def answer(self, question: str) -> Mapping[str, Any]:
        """Let all work until the summary is final, and return it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_named("MonitorAgent", self.monitor.run()))
            group.create_task(_named("AuditorAgent", self.auditor.watch_the_beginning()))
            for n, explorer in enumerate(self.explorers, start=1):
                group.create_task(_named(f"ExplorerAgent {n}", explorer.run()))
            group.create_task(_named("SynthesizerAgent", self.synthesizer.run()))
            # Only then is the question asked: both explorers reach for each lead, and nobody misses a change.
            ready = [self.monitor.is_watching, self.auditor.is_watching]
            for event in (*ready, *(explorer.is_watching for explorer in self.explorers)):
                await event.wait()
            asking = group.create_task(_named("QueryAgent", self.query.run(question)))
        return asking.result()


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
