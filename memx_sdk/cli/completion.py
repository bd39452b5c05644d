"""The completion of keys, patterns and schemas on a shell's command line."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping

from memx_sdk import AsyncMemxContext, MemxError

_MOST = 100
"""Names that are offered; a shell shows no more than a screen of them."""
BASH = "complete_bash"
"""How typer's script for bash calls the command."""

_NOT_PLAIN = frozenset(" \t'\"`$&|;<>(){}!#~\\")
"""Characters that mean something to a shell."""
_PATIENCE = 3.0
"""Seconds that whoever pressed the tab key waits at the most."""


def complete_key(incomplete: str) -> list[str]:
    """Return keys that begin with ``incomplete``; none where the server does not answer at once."""

    async def find(memory: AsyncMemxContext) -> list[str]:
        return await memory.keys(f"{incomplete}*", limit=_MOST)

    # No key has one of these; a pattern is not completed.
    return [] if set(incomplete) & set("*?[]") else _asked(incomplete, find)


def complete_schema(incomplete: str) -> list[str]:
    """Return keys and patterns that have a schema and begin with ``incomplete``."""

    async def find(memory: AsyncMemxContext) -> list[str]:
        found = [str(schema["key"]) for schema in await memory.schemas()]
        return [name for name in found if name.startswith(incomplete)][:_MOST]

    return _asked(incomplete, find)


def join_colons(environ: MutableMapping[str, str]) -> None:
    """Put words of bash's command line together that bash has split at colons, as in ``team:goal``.

    Bash hands on a line and the number of the word at the cursor. With ``:`` among the characters at which it splits,
    ``memx get team:go`` comes as five words, of which the last is to be completed.
    """
    words = environ.get("COMP_WORDS", "").split(" ")
    cursor = int(environ.get("COMP_CWORD", "0"))
    joined: list[str] = []
    for place, word in enumerate(words):
        # A colon belongs to what stands before it, and what stands behind it to the colon.
        belongs = joined and (word == ":" or joined[-1].endswith(":")) and word
        if belongs and len(joined) > 1:
            joined[-1] += word
            if place <= cursor:
                environ["COMP_CWORD"] = str(int(environ["COMP_CWORD"]) - 1)
        else:
            joined.append(word)
    environ["COMP_WORDS"] = " ".join(joined)


def _asked(incomplete: str, find: Callable[[AsyncMemxContext], Awaitable[list[str]]]) -> list[str]:
    async def ask() -> list[str]:
        # The environment alone says which server, and as whom: options that stand on the line already
        # are the shell's to parse.
        async with AsyncMemxContext(timeout=_PATIENCE, max_retries=0) as memory:
            # The time of importing the client does not count.
            async with asyncio.timeout(_PATIENCE):
                return await find(memory)

    if not (os.environ.get("MEMX_API_KEY") or os.environ.get("MEMX_BASE_URL")):
        return []
    # Whatever is logged while a line is completed would stand in the middle of it.
    before = logging.root.manager.disable
    logging.disable()
    try:
        found = asyncio.run(ask())
    except (MemxError, ValueError, OSError, TimeoutError):
        return []
    finally:
        logging.disable(before)
    # A key that a shell or a terminal would not take as one word is not offered.
    offered = [name for name in found if name.isprintable() and not set(name) & _NOT_PLAIN]
    # Bash replaces only what stands behind the last colon.
    cut = incomplete.rfind(":") + 1 if os.environ.get("_MEMX_COMPLETE") == BASH else 0
    return [name[cut:] for name in offered]
