"""An index of patterns: among many, it finds the few that may match a key by the literal text in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

from memx_sdk.protocol.keys import match_cost

T = TypeVar("T", bound=Hashable)

_WILD = re.compile(r"\*|\?|\[!?[^\[\]]+\]")
_GRAM = 4
_LITERAL = 16
"""Of a longer literal the first characters are looked for, which bounds the time that takes."""


class PatternIndex(Generic[T]):
    """Things filed under keys and patterns.

    A pattern is filed by how its matches start, then by how they end, then by the longest text that they
    hold in between. A look-up costs at the most a fraction of a microsecond for each distinct literal
    filed, whatever the key is, and mostly next to nothing: of starts and ends only the lengths count, and
    texts in between are found by the four characters of theirs that the fewest others have.

    Attributes:
        cost: The work of matching a key by all patterns for which a look at its start and end does not
            do, in units of about a microsecond (see ``match_cost``). A bound on it bounds a look-up,
            with the matching that follows it.
    """

    def __init__(self) -> None:
        self.cost = 0
        self._exact: dict[str, dict[T, int]] = {}
        self._starts: dict[str, _Ends[T]] = {}
        self._start_lengths: Counter[int] = Counter()

    def add(self, pattern: str, thing: T) -> None:
        """File ``thing`` under a key or pattern."""
        literals = _literals(pattern)
        if literals is None:
            _file(self._exact.setdefault(pattern, {}), thing)
            return
        start, end, between = literals
        ends = self._starts.get(start)
        if ends is None:
            ends = self._starts[start] = _Ends()
            self._start_lengths[len(start)] += 1
        ends.add(end, between, thing)
        self.cost += match_cost(pattern)

    def remove(self, pattern: str, thing: T) -> None:
        """Take ``thing`` out from under a key or pattern.

        Raises:
            KeyError: It is not there.
        """
        literals = _literals(pattern)
        if literals is None:
            things = self._exact[pattern]
            _take_out(things, thing)
            if not things:
                del self._exact[pattern]
            return
        start, end, between = literals
        ends = self._starts[start]
        ends.remove(end, between, thing)
        self.cost -= match_cost(pattern)
        if not ends.by_literal:
            del self._starts[start]
            _forget(self._start_lengths, len(start))

    def candidates(self, key: str) -> list[T]:
        """Find what is filed under ``key``, and under all patterns that match it; maybe more."""
        found = list(self._exact.get(key, ()))
        longest = len(key)
        for length in self._start_lengths:
            if length <= longest and (ends := self._starts.get(key[:length])) is not None:
                ends.collect(key, found)
        return found


class _Ends(Generic[T]):
    """What starts alike, by how it ends."""

    __slots__ = ("_lengths", "by_literal")

    def __init__(self) -> None:
        self.by_literal: dict[str, _Between[T]] = {}
        self._lengths: Counter[int] = Counter()

    def add(self, end: str, between: str, thing: T) -> None:
        shelf = self.by_literal.get(end)
        if shelf is None:
            shelf = self.by_literal[end] = _Between()
            self._lengths[len(end)] += 1
        shelf.add(between, thing)

    def remove(self, end: str, between: str, thing: T) -> None:
        shelf = self.by_literal[end]
        shelf.remove(between, thing)
        if not shelf:
            del self.by_literal[end]
            _forget(self._lengths, len(end))

    def collect(self, key: str, found: list[T]) -> None:
        size = len(key)
        for length in self._lengths:
            if length <= size and (shelf := self.by_literal.get(key[size - length :])) is not None:
                shelf.collect(key, found)


class _Between(Generic[T]):
    """What starts and ends alike, by a text that lies in between.

    Each text is listed under one of its parts of up to four characters (a gram), the one that lists the
    fewest texts when it is added.
    """

    __slots__ = ("_by_gram", "_by_literal", "_gram_lengths", "_gram_of", "_things")

    def __init__(self) -> None:
        self._things: dict[T, int] = {}
        self._by_literal: dict[str, dict[T, int]] = {}
        self._by_gram: dict[str, dict[str, None]] = {}
        self._gram_of: dict[str, str] = {}
        self._gram_lengths: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._things or self._by_literal)

    def add(self, literal: str, thing: T) -> None:
        things = self._by_literal.get(literal) if literal else self._things
        if things is None:
            things = self._by_literal[literal] = {}
            self._list_literal(literal)
        _file(things, thing)

    def remove(self, literal: str, thing: T) -> None:
        if not literal:
            _take_out(self._things, thing)
            return
        things = self._by_literal[literal]
        _take_out(things, thing)
        if things:
            return
        del self._by_literal[literal]
        gram = self._gram_of.pop(literal)
        del self._by_gram[gram][literal]
        if not self._by_gram[gram]:
            del self._by_gram[gram]
            _forget(self._gram_lengths, len(gram))

    def collect(self, key: str, found: list[T]) -> None:
        found += self._things
        if not self._by_literal:
            return
        # To look for each text costs less than to take the key apart where there are fewer of them.
        if len(self._by_literal) <= len(key):
            for literal, things in self._by_literal.items():
                if literal in key:
                    found += things
            return
        for length in self._gram_lengths:
            for gram in {key[at : at + length] for at in range(len(key) - length + 1)}:
                for literal in self._by_gram.get(gram, ()):
                    if literal in key:
                        found += self._by_literal[literal]

    def _list_literal(self, literal: str) -> None:
        length = min(_GRAM, len(literal))
        grams = (literal[at : at + length] for at in range(len(literal) - length + 1))
        gram = min(grams, key=lambda each: len(self._by_gram.get(each, ())))
        if gram not in self._by_gram:
            self._by_gram[gram] = {}
            self._gram_lengths[length] += 1
        self._by_gram[gram][literal] = None
        self._gram_of[literal] = gram


def _file(things: dict[T, int], thing: T) -> None:
    # Counted, since one thing may be filed under two patterns that hold the same literals.
    things[thing] = things.get(thing, 0) + 1


def _take_out(things: dict[T, int], thing: T) -> None:
    if things[thing] > 1:
        things[thing] -= 1
    else:
        del things[thing]


def _forget(lengths: Counter[int], length: int) -> None:
    lengths[length] -= 1
    if not lengths[length]:
        del lengths[length]


def _literals(pattern: str) -> tuple[str, str, str] | None:
    """Return how matches start, how they end, and what they hold in between; None for a key."""
    start, *between = _WILD.split(pattern)
    if not between:
        return None
    end = between.pop()
    return start, end, max(between, key=len, default="")[:_LITERAL]
