"""Which values of a dump the schemas on a server refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from memx_sdk import AsyncMemxContext
from memx_sdk.cli.transfer.dump import DumpedEntry
from memx_sdk.protocol.keys import compile_pattern

_SIDE_BY_SIDE = 32


class Refused(NamedTuple):
    """A value that a schema refuses, and why."""

    key: str
    errors: Sequence[dict[str, Any]]


async def refused_values(
    memory: AsyncMemxContext, entries: Iterable[DumpedEntry], patterns: Sequence[str]
) -> list[Refused]:
    """Try the values whose keys a schema of ``patterns`` may govern; nothing is written."""
    governed = [compile_pattern(pattern) for pattern in patterns]
    stays = frozenset(patterns)
    found: list[Refused] = []

    async def check(entry: DumpedEntry) -> None:
        verdict = await memory.validate(entry.key, entry.value)
        # The server decides by its present schemas. What a schema says that is about to be replaced does not count.
        if not verdict.valid and verdict.schema in stays:
            found.append(Refused(entry.key, verdict.errors))

    window: list[DumpedEntry] = []
    for entry in entries:
        if any(matches(entry.key) for matches in governed):
            window.append(entry)
        if len(window) == _SIDE_BY_SIDE:
            await asyncio.gather(*map(check, window))
            window.clear()
    await asyncio.gather(*map(check, window))
    return sorted(found)
