"""The cached schemas of each space, and the search for the one that applies to a key."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import compile_pattern, match_cost, specificity
from memx_server.domain.pattern_index import PatternIndex
from memx_server.domain.schema.schema import Schema
from memx_server.domain.schema.spaces import note_space
from memx_server.storage.base import SpaceSchemas, Store, StoreUnavailable

_SPACES_KEPT = 131_072
_WINNERS_KEPT = 8192
_MOST_COST = 1000
"""Microseconds that it may take to match one key by all patterns of a space that have no own place in the index."""
_COSTLY = 50


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

    @property
    def is_costly(self) -> bool:
        """Whether the search for a key's schema takes so long that others should have their turns in between."""
        return self._winners.cost > _COSTLY

    def winner(self, key: str) -> Schema | None:
        """Return the one schema that applies to ``key``."""
        if not self.by_pattern:
            return None
        pattern = self._winners.of(key)
        return None if pattern is None else self._compile(pattern)

    def check_room(self, pattern: str) -> None:
        """Refuse one more schema under ``pattern`` where the search for a key's schema would take too long.

        Raises:
            ProtocolError: ``quota_exceeded``.
        """
        cost = match_cost(pattern)
        if cost and pattern not in self.by_pattern and self._winners.cost + cost > _MOST_COST:
            raise ProtocolError(
                "quota_exceeded",
                f"too many schemas of this space are for patterns with text between two *, as {pattern!r} "
                "has; remove some, or use patterns that begin or end with their text, such as team:*",
                limit="schemas",
                key=pattern,
            )

    def _compile(self, pattern: str) -> Schema:
        schema = self._compiled.get(pattern)
        if schema is None:
            schema = self._compiled[pattern] = Schema(pattern, self.by_pattern[pattern])
        return schema


_Ranked = tuple[int, Callable[[str], object], str]
"""A pattern behind its rank (0 is the most specific one) and the function that tells whether it matches."""


class Winners:
    """The most specific of many patterns for a key.

    A search costs what the patterns cost that the key leads to, however many others there are.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact = set(patterns)
        self._index: PatternIndex[_Ranked] = PatternIndex()
        for rank, pattern in enumerate(sorted(self._exact, key=specificity)):
            self._index.add(pattern, (rank, compile_pattern(pattern), pattern))
        self._known: dict[str, str | None] = {}

    @property
    def cost(self) -> int:
        """The cost of one search, as ``PatternIndex.cost``."""
        return self._index.cost

    def of(self, key: str) -> str | None:
        """Return the key itself, else the most specific pattern that matches it, else None."""
        if key in self._exact:
            return key
        if key in self._known:
            return self._known[key]
        if len(self._known) >= _WINNERS_KEPT:
            self._known.clear()
        # From the most specific one on, so that the first match is the winner.
        candidates = sorted(self._index.candidates(key))
        found = next((pattern for _, matches, pattern in candidates if matches(key)), None)
        self._known[key] = found
        return found


_NEVER_ANY = SchemaSet(0, {})
"""The set that most spaces share: it is small, and always in the processor's cache."""


class SchemaCache:
    """The schema sets of the spaces in use.

    A set may be out of date. That does no harm: each commit carries the revision that its values were
    validated against, and the store refuses it where the schemas have changed since. Then ``moved``
    drops the set, and the values are validated again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sets: OrderedDict[str, SchemaSet] = OrderedDict()
        self._loading: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()

    def cached(self, space: str) -> SchemaSet | None:
        """Return the set that is kept, without waiting."""
        return self._sets.get(space)

    def at_hand(self, space: str) -> SchemaSet | None:
        """Return the set of ``space`` where ``of`` would not wait for it; None where it would."""
        return None if space in self._loading else self._sets.get(space)

    async def of(self, space: str) -> SchemaSet:
        """Return the set of ``space``, read from the store if need be.

        Callers go on in the order in which they called. Without that a write could overtake an earlier
        one of the same socket, which the order of ``WS /ws`` rules out.
        """
        if (found := self.at_hand(space)) is not None:
            return found
        lock = self._loading.setdefault(space, asyncio.Lock())
        self._waiting[space] += 1
        try:
            async with lock:
                return self._sets.get(space) or await self._load(space)
        finally:
            # The lock stays as long as somebody holds it or waits for it.
            self._waiting[space] -= 1
            if not self._waiting[space]:
                del self._waiting[space], self._loading[space]

    async def fresh(self, space: str) -> SchemaSet:
        """Return the set of ``space`` as the store has it now."""
        schemas = await self._store.schemas(space)
        found = self._sets.get(space)
        # Where nothing has changed, the set with its compiled schemas is kept.
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
        schemas = await self._store.schemas(space)
        if schemas.by_pattern:
            # An earlier memX noted none of its spaces. A store that takes no write now is no reason to serve nobody.
            with suppress(StoreUnavailable):
                await note_space(self._store.state, space)
        return self._keep(space, schemas)

    async def note(self, space: str) -> None:
        """Note that a space is about to hold a schema, so that an operator finds it without a server."""
        await note_space(self._store.state, space)

    def _keep(self, space: str, schemas: SpaceSchemas) -> SchemaSet:
        if len(self._sets) >= _SPACES_KEPT:
            # An OrderedDict finds its first item at once; a dict would walk past all that it has dropped.
            self._sets.popitem(last=False)
        found = SchemaSet(schemas.revision, schemas.by_pattern) if schemas.revision else _NEVER_ANY
        self._sets[space] = found
        return found
