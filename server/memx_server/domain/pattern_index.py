"""Finds, among many patterns, the few that may match a key: by the literal text that they hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_WILD = re.compile(r"\*|\?|\[!?[^\[\]]+\]")


class PatternIndex(Generic[T]):
    """Things filed under keys and patterns.

    What is asked for is found at a cost that grows with the lengths of the literals filed and not
    with their number: a pattern is filed by how its matches start, then by how they end, then by
    the longest text that they hold in between.
    """

    def __init__(self) -> None:
        self._exact: dict[str, dict[T, None]] = {}
        self._shelf: _Shelf[T] = _Shelf()

    def add(self, pattern: str, thing: T) -> None:
        """File ``thing`` under a key or pattern."""
        literals = _literals(pattern)
        if literals is None:
            self._exact.setdefault(pattern, {})[thing] = None
        else:
            self._shelf.add(literals, thing)

    def remove(self, pattern: str, thing: T) -> None:
        """Take ``thing`` out from under a key or pattern.

        Raises:
            KeyError: It is not there.
        """
        literals = _literals(pattern)
        if literals is not None:
            self._shelf.remove(literals, thing)
            return
        things = self._exact[pattern]
        del things[thing]
        if not things:
            del self._exact[pattern]

    def candidates(self, key: str) -> list[T]:
        """Find what is filed under ``key``, and under all patterns that match it; maybe more."""
        found = list(self._exact.get(key, ()))
        self._shelf.collect(key, found)
        return found


class _Shelf(Generic[T]):
    """What matches alike so far, and further shelves by the next literal.

    Args:
        depth: How many literals led here.
    """

    __slots__ = ("_by_literal", "_count_by_length", "_cut", "_depth", "_things")

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._cut = _CUTS[depth]
        self._things: dict[T, None] = {}
        self._by_literal: dict[str, _Shelf[T]] = {}
        self._count_by_length: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._things or self._by_literal)

    def add(self, literals: tuple[str, ...], thing: T) -> None:
        if self._depth == len(literals):
            self._things[thing] = None
            return
        literal = literals[self._depth]
        shelf = self._by_literal.get(literal)
        if shelf is None:
            shelf = self._by_literal[literal] = _Shelf(self._depth + 1)
            self._count(len(literal), 1)
        shelf.add(literals, thing)

    def remove(self, literals: tuple[str, ...], thing: T) -> None:
        if self._depth == len(literals):
            del self._things[thing]
            return
        literal = literals[self._depth]
        shelf = self._by_literal[literal]
        shelf.remove(literals, thing)
        if not shelf:
            del self._by_literal[literal]
            self._count(len(literal), -1)

    def collect(self, key: str, found: list[T]) -> None:
        found += self._things
        longest = len(key)
        for length in self._count_by_length:
            if length <= longest:
                for text in self._cut(key, length):
                    shelf = self._by_literal.get(text)
                    if shelf is not None:
                        shelf.collect(key, found)

    def _count(self, length: int, change: int) -> None:
        count = self._count_by_length.get(length, 0) + change
        if count:
            self._count_by_length[length] = count
        else:
            del self._count_by_length[length]


def _literals(pattern: str) -> tuple[str, ...] | None:
    """How matches start, how they end, what they hold; as far as there is any. None for a key."""
    start, *between = _WILD.split(pattern)
    if not between:
        return None
    end = between.pop()
    literals = (start, end, max(between, key=len, default=""))
    used = max((number for number, literal in enumerate(literals, 1) if literal), default=0)
    return literals[:used]


def _starts(key: str, length: int) -> Iterable[str]:
    return (key[:length],)


def _ends(key: str, length: int) -> Iterable[str]:
    return (key[len(key) - length :],)


def _parts(key: str, length: int) -> Iterable[str]:
    return {key[at : at + length] for at in range(len(key) - length + 1)}


_CUTS: tuple[Callable[[str, int], Iterable[str]], ...] = (_starts, _ends, _parts, _parts)
"""What of a key may be a literal of some length, by how many were found before; nothing is filed by a fourth."""
