"""The demo's five kinds of agents, which share keys, react to changes and never poll."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from memx_sdk import AsyncMemxContext, Change, ConflictError, Reset, SchemaViolationError
from memx_server.demo.board import LONGEST_SUMMARY, SUMMARY_SCHEMA, Board, BoardState, Note
from memx_server.demo.minds import Exploration, Mind

Tell = Callable[[Note], None]

_LEAD_CHARACTERS = 200
"""Characters of a lead in a reason; a lead may be longer than a reason is allowed to be."""


class QueryAgent:
    """Says what a summary may be, seeds the question and a first lead, and waits for the answer."""

    def __init__(self, memory: AsyncMemxContext, board: Board, tell: Tell) -> None:
        self._memory, self._board, self._tell = memory, board, tell

    async def run(self, question: str) -> Mapping[str, Any]:
        """Ask ``question`` and return the final summary."""
        board = self._board
        await self._memory.set_schema(board.summary, SUMMARY_SCHEMA)
        rule = f"sets a schema: {LONGEST_SUMMARY} characters at most"
        self._tell(Note(await _writer(self._memory), board.summary, rule))
        lead = {"ask": question, "state": "open"}
        await self._memory.txn(
            then=[
                {"op": "set", "key": board.question, "value": {"text": question}},
                {"op": "set", "key": board.lead("1"), "value": lead},
            ],
            reason="a new question for the team",
        )
        entry = await self._memory.wait_for(board.summary, lambda value: value["state"] == "final")
        summary: Mapping[str, Any] = entry.value
        return summary


class ExplorerAgent:
    """Claims open leads, looks into them, shares what it finds; any number work side by side.

    Attributes:
        races_lost: How often another explorer was first to claim a lead.
        is_watching: Set once it hears of every lead.
    """

    def __init__(
        self, memory: AsyncMemxContext, board: Board, mind: Mind, tell: Tell, *, pace: float = 0.0
    ) -> None:
        self._memory, self._board, self._mind, self._pace = memory, board, mind, pace
        self._tell = tell
        self._state = BoardState(board)
        self.races_lost = 0
        self.is_watching = asyncio.Event()

    async def run(self) -> None:
        """Work until the summary is final."""
        async with self._memory.subscribe(self._board.everything, snapshot=True) as changes:
            await changes.ready()
            self.is_watching.set()
            async for change in changes:
                self._state.apply(change)
                if isinstance(change, Reset):
                    continue
                if self._board.is_final(change):
                    return
                if self._board.is_lead(change.key) and change.value["state"] == "open":
                    await self._pursue(change)

    async def _pursue(self, change: Change) -> None:
        lead = change.value
        # Both explorers see the open lead. Only one conditional write at its revision can succeed, so
        # exactly one of them goes on; the other has lost a race and nothing else: the refusal brings
        # the entry as it is now, and the next open lead is on its way to it.
        try:
            claim = await self._memory.set(
                change.key, {**lead, "state": "taken"}, if_revision=change.revision
            )
        except ConflictError as refusal:
            self.races_lost += 1
            await self._yield_to(refusal, change.key)
            return
        await asyncio.sleep(self._pace)
        question = await self._memory.get(self._board.question)
        text = question.value["text"] if question else lead["ask"]
        exploration = await self._mind.explore(text, lead["ask"], self._state.titles)
        await self._share(change.key, lead, claim.revision, exploration)

    async def _yield_to(self, refusal: ConflictError, key: str) -> None:
        winner = refusal.entry
        if winner is not None:
            text = f"refused: {winner.writer} came first"
            self._tell(Note(await _writer(self._memory), key, text, after=winner.revision))

    async def _share(
        self, key: str, lead: Mapping[str, Any], claimed: int, exploration: Exploration
    ) -> None:
        """Write findings, follow-ups and the end of this lead in one transaction, so that nobody sees half of it."""
        board, number = self._board, self._board.short(key).removeprefix("lead:")
        findings = {
            board.finding(title): {"title": title, "text": text, "lead": lead["ask"]}
            for title, text in exploration.findings
        }
        follow_ups = {
            board.lead(f"{number}.{n}"): {"ask": ask, "state": "open"}
            for n, ask in enumerate(exploration.follow_ups, start=1)
        }
        done = {**lead, "state": "done"}
        full = {**findings, **follow_ups, key: {**done, "follow_ups": list(follow_ups)}}
        # Two leads may lead to the same finding. The transaction then takes its other branch, and the
        # lead ends without findings of its own.
        await self._memory.txn(
            if_=[{"key": key, "revision": claimed}]
            + [{"key": finding, "exists": False} for finding in findings],
            then=[{"op": "set", "key": name, "value": value} for name, value in full.items()],
            else_=[{"op": "set", "key": key, "value": done}],
            reason=f"looked into {lead['ask'][:_LEAD_CHARACTERS]!r}",
        )


class SynthesizerAgent:
    """Keeps the summary in step with the findings, and makes it final when every lead is done."""

    def __init__(
        self, memory: AsyncMemxContext, board: Board, mind: Mind, tell: Tell, *, pace: float = 0.0
    ) -> None:
        self._memory, self._board, self._mind, self._pace = memory, board, mind, pace
        self._tell = tell
        self._state = BoardState(board)
        self._summarised: set[str] = set()
        self._limit: int | None = None

    async def run(self) -> None:
        """Work until the summary is final."""
        async with self._memory.subscribe(self._board.everything, snapshot=True) as changes:
            async for change in changes:
                self._state.apply(change)
                if isinstance(change, Reset):
                    continue
                if self._board.is_final(change):
                    return
                if self._board.is_lead(change.key) and change.value["state"] == "done":
                    await self._summarise()

    async def _summarise(self) -> None:
        is_final = self._state.is_explored
        titles = self._state.titles
        if titles == self._summarised and not is_final:
            return
        await asyncio.sleep(self._pace)
        entry = await self._memory.get(self._board.question)
        question = entry.value["text"] if entry else ""
        text = await self._fitting(
            question, await self._mind.summarise(question, list(self._state.findings.values()))
        )
        self._summarised = titles
        draft = {
            "state": "final" if is_final else "draft",
            "text": text,
            "sources": [finding["title"] for finding in self._state.findings.values()],
        }
        try:
            await self._write(draft)
        except SchemaViolationError as refusal:
            await self._learn(refusal, len(text))
            await self._write({**draft, "text": await self._fitting(question, text)})

    async def _write(self, draft: dict[str, Any]) -> None:
        # `modify` writes only over the revision that it read: a newer summary by a second
        # synthesizer is seen and kept, never overwritten unread.
        await self._memory.modify(self._board.summary, lambda held: _better(held, draft))

    async def _learn(self, refusal: SchemaViolationError, length: int) -> None:
        """Take from a refusal how long a summary may be: nothing was written, and the refusal says what to mend."""
        limits = [each["expected"] for each in refusal.errors if each["rule"] == "maxLength"]
        if not limits:
            raise refusal
        self._limit = int(limits[0])
        text = f"refused: {length} characters, {self._limit} allowed; shortens it"
        self._tell(Note(await _writer(self._memory), self._board.summary, text))

    async def _fitting(self, question: str, text: str) -> str:
        if self._limit is None or len(text) <= self._limit:
            return text
        return await self._mind.shorten(question, text, self._limit)


def _better(held: Mapping[str, Any] | None, draft: dict[str, Any]) -> dict[str, Any]:
    if held and (held["state"] == "final" or len(held["sources"]) > len(draft["sources"])):
        return dict(held)
    return draft


class MonitorAgent:
    """Shows every change on the board with its writer, as it happens."""

    def __init__(
        self, memory: AsyncMemxContext, board: Board, show: Callable[[Change], None]
    ) -> None:
        self._memory, self._board, self._show = memory, board, show
        self.is_watching = asyncio.Event()

    async def run(self) -> None:
        """Show changes until the summary is final."""
        async with self._memory.subscribe(self._board.everything, snapshot=True) as changes:
            # The question is asked only after this, so that the monitor misses no change.
            await changes.ready()
            self.is_watching.set()
            async for change in changes:
                if isinstance(change, Change):
                    self._show(change)
                    if self._board.is_final(change):
                        return


class AuditorAgent:
    """Sees the run begin, goes away, and comes back to be told all that it has missed.

    Attributes:
        is_watching: Set once it hears of every change.
        left_at: The revision up to which it has seen everything.
    """

    def __init__(self, memory: AsyncMemxContext, board: Board, tell: Tell) -> None:
        self._memory, self._board, self._tell = memory, board, tell
        self._cursor: str | None = None
        self.is_watching = asyncio.Event()
        self.left_at = 0

    async def watch_the_beginning(self) -> None:
        """Follow the board until the question is asked, and keep that position of the log."""
        async with self._memory.subscribe(self._board.everything) as changes:
            await changes.ready()
            self.is_watching.set()
            async for change in changes:
                # Only the last change of a transaction has a cursor: nobody resumes in the middle of one.
                if isinstance(change, Change) and change.cursor:
                    self._cursor, self.left_at = change.cursor, change.revision
                    break
        self._tell(Note(await _writer(self._memory), "", "goes offline"))

    async def catch_up(self) -> list[int]:
        """Return the revision of each change since it went, in the order in which the log brings them."""
        missed: list[int] = []
        async with self._memory.subscribe(self._board.everything, since=self._cursor) as changes:
            async for change in changes:
                if isinstance(change, Change):
                    missed.append(change.revision)
                    if self._board.is_final(change):
                        break
        return missed

    async def report(self, missed: list[int], seen_by_monitor: list[int]) -> bool:
        """Tell how what it was brought compares with what the monitor saw; return whether it is the same."""
        is_complete = missed == [
            revision for revision in seen_by_monitor if revision > self.left_at
        ]
        how = "all, in order, once" if is_complete else "and the monitor saw others"
        text = f"back: {len(missed)} changes, {how}"
        self._tell(Note(await _writer(self._memory), "", text))
        return is_complete


async def _writer(memory: AsyncMemxContext) -> str:
    """Return how entries and changes name the agent of ``memory``."""
    return str((await memory.whoami())["writer"])
