"""The sources of an agent's ideas: the built-in library, or a chat model."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Protocol

from memx_server.demo.corpus import Corpus, Passage, built_in, rank_sentences

MOST_FINDINGS = 2
"""Findings of one lead."""
MOST_FOLLOW_UPS = 2
"""Leads that one lead may open."""
SUMMARY_SENTENCES = 4
WORTH_READING = 0.3
"""Share of the best hit's score that a passage needs."""


@dataclass(frozen=True)
class Exploration:
    """The result of exploring a lead.

    Attributes:
        findings: Title and text of each finding.
        follow_ups: Leads to explore next.
    """

    findings: Sequence[tuple[str, str]]
    follow_ups: Sequence[str] = ()


class Mind(Protocol):
    """The source of ideas of explorers and the synthesizer.

    Attributes:
        name: Its name in what a person reads.
    """

    name: str

    async def explore(self, question: str, lead: str, known: Collection[str]) -> Exploration:
        """Look into ``lead``; ``known`` are titles of what the team has found already."""

    async def summarise(self, question: str, findings: Sequence[Mapping[str, Any]]) -> str:
        """Answer ``question`` from ``findings`` alone."""

    async def shorten(self, question: str, text: str, limit: int) -> str:
        """Answer ``question`` as ``text`` does, in at most ``limit`` characters."""


class Librarian:
    """Searches the built-in corpus, follows what passages have in common, and quotes."""

    name = "the built-in library"

    def __init__(self, corpus: Corpus | None = None) -> None:
        self._corpus = corpus or built_in()

    async def explore(self, question: str, lead: str, known: Collection[str]) -> Exploration:
        """Find the best passages that nobody has found yet, and what leads on from them."""
        # The first lead is the question itself: it opens others and may find more.
        is_first = lead == question
        hits = self._corpus.search(lead, limit=MOST_FINDINGS + len(known))
        bar = WORTH_READING * hits[0].score if hits else 0.0
        close = [hit.passage for hit in hits if hit.score >= bar]
        fresh = [passage for passage in close if passage.title not in known]
        found = fresh[: MOST_FINDINGS if is_first else 1]
        follow_ups = self._follow_ups(found) if is_first else []
        return Exploration([(passage.title, passage.text) for passage in found], follow_ups)

    async def summarise(self, question: str, findings: Sequence[Mapping[str, Any]]) -> str:
        """Quote the sentences that fit the question best."""
        if not findings:
            return "The built-in library holds nothing on this; a chat model (--model) may."
        passages = [Passage(finding["title"], finding["text"]) for finding in findings]
        sentences = [sentence for passage in passages for sentence in passage.sentences]
        return " ".join(rank_sentences(question, sentences, SUMMARY_SENTENCES))

    async def shorten(self, question: str, text: str, limit: int) -> str:
        """Leave the sentences away that fit the question least."""
        sentences = Passage("", text).sentences
        for number in range(len(sentences) - 1, 0, -1):
            shorter = " ".join(rank_sentences(question, sentences, number))
            if len(shorter) <= limit:
                return shorter
        return text[: limit - 1] + "…"

    def _follow_ups(self, passages: Sequence[Passage]) -> list[str]:
        known = {passage.title for passage in passages}
        ties = [self._corpus.related(passage, known)[:MOST_FOLLOW_UPS] for passage in passages]
        closest_first = chain.from_iterable(zip_longest(*ties))
        return list(dict.fromkeys(filter(None, closest_first)))[:MOST_FOLLOW_UPS]


class ChatModel:
    """Asks a LangChain chat model.

    Args:
        model: A ``BaseChatModel``.
        name: Its name in what a person reads.
    """

    def __init__(self, model: Any, name: str = "a chat model") -> None:
        self._model = model
        self.name = name

    async def explore(self, question: str, lead: str, known: Collection[str]) -> Exploration:
        """Ask what is known on ``lead``, and of the question also what to look into next."""
        titles = ", ".join(sorted(known)) or "nothing yet"
        text = await self._ask(
            f"A team is answering this question: {question}\nIt already knows of: {titles}.\n"
            f"State what is known about this aspect in two or three sentences: {lead}"
        )
        findings = [(lead, text)] if text else []
        return Exploration(findings, await self._aspects(question) if lead == question else ())

    async def summarise(self, question: str, findings: Sequence[Mapping[str, Any]]) -> str:
        """Ask for an answer from the findings."""
        notes = "\n".join(f"- {finding['title']}: {finding['text']}" for finding in findings)
        return await self._ask(
            f"Answer the question in at most four sentences, from these notes alone.\n"
            f"Question: {question}\nNotes:\n{notes}"
        )

    async def shorten(self, question: str, text: str, limit: int) -> str:
        """Ask for a shorter text; one that is still too long is cut."""
        shorter = await self._ask(
            f"This answers {question!r}. Say it in at most {limit} characters, and nothing else: {text}"
        )
        return shorter if len(shorter) <= limit else shorter[: limit - 1] + "…"

    async def _aspects(self, question: str) -> list[str]:
        text = await self._ask(
            f"Name the {MOST_FOLLOW_UPS} aspects that matter most for answering this question, "
            f"one short phrase on each line and nothing else: {question}"
        )
        lines = (line.strip(" -*\t0123456789.)") for line in text.splitlines())
        return [line[:80] for line in lines if line][:MOST_FOLLOW_UPS]

    async def _ask(self, prompt: str) -> str:
        response = await self._model.ainvoke(prompt)
        return str(response.text).strip()


class NoChatModelError(Exception):
    """The chat model cannot be made; the text says why."""


def chat_model(name: str) -> ChatModel:
    """Make the chat model ``provider:name`` with LangChain.

    Raises:
        NoChatModelError: A package is missing, or the provider refuses its settings.
    """
    try:
        factory = importlib.import_module("langchain.chat_models").init_chat_model
    except ImportError as error:
        raise NoChatModelError(
            f"--model needs LangChain: pip install langchain ({error})"
        ) from error
    try:
        return ChatModel(factory(name), name)
    except Exception as error:  # each provider's package raises errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NoChatModelError(f"cannot use the chat model {name!r}: {reason}") from error
