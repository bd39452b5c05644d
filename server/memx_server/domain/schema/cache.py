"""The schemas of each space: cached, and the most specific one found without a scan."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

from memx_sdk.protocol.keys import compile_pattern, specificity
from memx_server.domain.pattern_index import PatternIndex
from memx_server.domain.schema.schema import Schema
from memx_server.storage.base import SpaceSchemas, Store

_SPACES_KEPT = 131_072
_WINNERS_KEPT = 8192


class SchemaSet:
    """All schemas of a space as of one schema revision.

    Attributes:
        revision: The space's schema revision; 0 when none was ever written.
        by_pattern: The schemas' JSON texts by key or pattern.
    """

    def __init__(self, revision: int, by_pattern: dict[str, bytes]) -> None:
        self.revision = revision
        self.by_pattern = by_pattern
        self._winners = Winners(by_pattern)
        self._compiled: dict[str, Schema] = {}

    def winner(self, key: str) -> Schema | None:
        """Return the one schema that applies to ``key``."""
        if not self.by_pattern:
            return None
        pattern = self._winners.of(key)
        return None if pattern is None else self._compile(pattern)

    def _compile(self, pattern: str) -> Schema:
        schema = self._compiled.get(pattern)
        if schema is None:
            schema = self._compiled[pattern] = Schema(pattern, self.by_pattern[pattern])
        return schema


_Ranked = tuple[int, Callable[[str], object], str]
"""A pattern behind its rank (0 is the most specific one) and what tells whether it matches."""


class Winners:
    """Finds the most specific pattern for a key, at a cost that does not grow with their number."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact = set(patterns)
        self._index: PatternIndex[_Ranked] = PatternIndex()
        for rank, pattern in enumerate(sorted(self._exact, key=specificity)):
            self._index.add(pattern, (rank, compile_pattern(pattern), pattern))
        self._known: dict[str, str | None] = {}

    def of(self, key: str) -> str | None:
        """Return the key itself, else the most specific pattern that matches it, else None."""
        if key in self._exact:
            return key
        if key in self._known:
            return self._known[key]
        if len(self._known) >= _WINNERS_KEPT:
            self._known.clear()
        matching = [ranked for ranked in self._index.candidates(key) if ranked[1](key)]
        found = self._known[key] = min(matching)[2] if matching else None
        return found


_NEVER_ANY = SchemaSet(0, {})
"""What most spaces share: small, and always in the processor's cache."""


class SchemaCache:
    """The schema sets of the spaces in use.

    A set may be out of date: each commit carries the revision that its values were checked against,
    and the store refuses it where the schemas have moved. ``moved`` is how a stale set leaves.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sets: OrderedDict[str, SchemaSet] = OrderedDict()
        self._loading: dict[str, asyncio.Lock] = {}
        self._asking: Counter[str] = Counter()

    def cached(self, space: str) -> SchemaSet | None:
        """Return the set that is at hand, without waiting."""
        return self._sets.get(space)

    async def of(self, space: str) -> SchemaSet:
        """Return the set of ``space``, read from the store if need be.

        Those who ask go on in the order in which they asked.
        """
        found = self._sets.get(space)
        if found is not None and space not in self._loading:
            return found
        lock = self._loading.setdefault(space, asyncio.Lock())
        self._asking[space] += 1
        try:
            async with lock:
                return self._sets.get(space) or await self._load(space)
        finally:
            self._asking[space] -= 1
            if not self._asking[space]:
                del self._asking[space], self._loading[space]

    async def fresh(self, space: str) -> SchemaSet:
        """Return the set of ``space`` as the store has it now."""
        schemas = await self._store.schemas(space)
        found = self._sets.get(space)
        if found is None or (found.revision, found.by_pattern) != (
            schemas.revision,
            schemas.by_pattern,
        ):
            found = self._keep(space, schemas)
        return found

    def moved(self, space: str, revision: int) -> None:
        """Forget the set of ``space`` unless it has ``revision``."""
        found = self._sets.get(space)
        if found is not None and found.revision != revision:
            del self._sets[space]

    async def _load(self, space: str) -> SchemaSet:
        return self._keep(space, await self._store.schemas(space))

    def _keep(self, space: str, schemas: SpaceSchemas) -> SchemaSet:
        if len(self._sets) >= _SPACES_KEPT:
            self._sets.popitem(last=False)  # a dict would look through all it has let go of before
        found = SchemaSet(schemas.revision, schemas.by_pattern) if schemas.revision else _NEVER_ANY
        self._sets[space] = found
        return found
