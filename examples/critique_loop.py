"""A looping critique: A researches, B critiques, C writes the final text, and B checks it again.

The three agents share keys and nothing else. Each subscribes to the key that concerns it and is
called when it changes; the loop ends when B has no objection left. What they write comes from the
small library of `memx demo`, so no model is needed.

Start a server (`memx dev`), then:

    MEMX_API_KEY=local_dev_key python examples/critique_loop.py "Why does bread rise?"
"""

from __future__ import annotations

import asyncio
import secrets
import sys

from memx_server.demo.corpus import built_in, rank_sentences

from memx_sdk import AsyncMemxContext, Reset

MOST_ROUNDS = 3
ENOUGH_SOURCES = 3


class Loop:
    """The keys of one loop: `research` is A's, `critique` B's, and `final` C's."""

    def __init__(self) -> None:
        prefix = f"loop:{secrets.token_hex(2)}:"
        self.everything = f"{prefix}*"
        self.question, self.research = f"{prefix}question", f"{prefix}research"
        self.critique, self.final = f"{prefix}critique", f"{prefix}final"


async def main(question: str) -> None:
    """Let the three answer `question`."""
    loop = Loop()
    async with (
        AsyncMemxContext(agent="A-research") as a,
        AsyncMemxContext(agent="B-critique") as b,
        AsyncMemxContext(agent="C-final") as c,
        asyncio.timeout(30),
        asyncio.TaskGroup() as team,
    ):
        team.create_task(research(a, loop))
        team.create_task(critique(b, loop))
        team.create_task(finish(c, loop))
        await a.set(loop.question, question)


async def research(memory: AsyncMemxContext, loop: Loop) -> None:
    """A: find a first source."""
    question = await memory.wait_for(loop.question)
    found = [hit.passage.title for hit in built_in().search(question.value, limit=1)]
    show("A", f"found {found}")
    await memory.set(loop.research, {"sources": found}, reason="a first look")


async def critique(memory: AsyncMemxContext, loop: Loop) -> None:
    """B: check the research, and again every final text, until nothing is missing."""
    rounds = 0
    async with memory.subscribe(loop.everything, snapshot=True) as changes:
        async for change in changes:
            if isinstance(change, Reset) or change.key not in (loop.research, loop.final):
                continue
            rounds += 1
            objection = missing(change.value["sources"]) if rounds <= MOST_ROUNDS else None
            show("B", objection or "no objection")
            await memory.set(
                loop.critique,
                {"objection": objection, "sources": change.value["sources"]},
                reason=f"round {rounds}, on {change.writer}'s text",
            )
            if objection is None:
                return


async def finish(memory: AsyncMemxContext, loop: Loop) -> None:
    """C: mend what B objects to, and write the final text anew."""
    async with memory.subscribe(loop.critique, snapshot=True) as changes:
        async for change in changes:
            if isinstance(change, Reset):
                continue
            if change.value["objection"] is None:
                return
            question = await memory.wait_for(loop.question)
            sources = widened(question.value, change.value["sources"])
            text = written(question.value, sources)
            show("C", text)
            await memory.set(loop.final, {"text": text, "sources": sources}, reason="mended")


def missing(sources: list[str]) -> str | None:
    """What B objects to."""
    if len(sources) >= ENOUGH_SOURCES:
        return None
    return f"{len(sources)} of {ENOUGH_SOURCES} sources: find one more view"


def widened(question: str, sources: list[str]) -> list[str]:
    """Add the next best source; where nothing fits the question, what lies near the others."""
    library = built_in()
    near = [library.related(p, sources)[:1] for p in library.passages if p.title in sources]
    for query in [question, *(query for queries in near for query in queries)]:
        for hit in library.search(query, limit=len(sources) + 1):
            if hit.passage.title not in sources:
                return [*sources, hit.passage.title]
    return sources


def written(question: str, sources: list[str]) -> str:
    """Quote what fits the question best."""
    passages = [each for each in built_in().passages if each.title in sources]
    sentences = [sentence for passage in passages for sentence in passage.sentences]
    return " ".join(rank_sentences(question, sentences, limit=len(sources)))


def show(agent: str, text: str) -> None:
    """Print what an agent says."""
    print(f"{agent}: {text}")


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "How do honeybees choose a new home?"))
