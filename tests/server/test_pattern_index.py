"""Patterns are found by the text in them: of ten thousand, only those that may match are looked at."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memx_server.domain.access import KeySet, Principal, Scopes, listing_prefixes
from memx_server.domain.feed.index import AudienceIndex
from memx_server.domain.pattern_index import PatternIndex
from memx_server.domain.schema.cache import Winners

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import is_pattern, matches, specificity, validate_pattern

MANY = 10_000
SHAPES: dict[str, tuple[Callable[[int], str], str]] = {
    "a key": (lambda n: f"team:{n}", "team:77"),
    "how it starts": (lambda n: f"team:{n}:*", "team:77:goal"),
    "how it ends": (lambda n: f"*:status:{n}", "team:goal:status:77"),
    "both ends": (lambda n: f"team:*:step:{n}", "team:goal:step:77"),
    "what is between": (lambda n: f"team:*:x{n}:*", "team:goal:x77:note"),
    "between sets and marks": (lambda n: f"[a-z]*-{n}-?", "team-77-a"),
}


def _valid(pattern: str) -> bool:
    try:
        return bool(validate_pattern(pattern))
    except ProtocolError:
        return False


patterns = st.lists(st.text("ab:*?[]!", min_size=1, max_size=8).filter(_valid), max_size=12)
keys = st.text("ab:", min_size=1, max_size=8)


@given(patterns, keys, st.data())
def test_nothing_that_matches_is_missed(wanted: list[str], key: str, data: st.DataObject) -> None:
    index: PatternIndex[int] = PatternIndex()
    for number, pattern in enumerate(wanted):
        index.add(pattern, number)
    gone = data.draw(st.sets(st.sampled_from(range(len(wanted))))) if wanted else set()
    for number in gone:
        index.remove(wanted[number], number)
    found = index.candidates(key)
    assert len(set(found)) == len(found)
    matching = {number for number, pattern in enumerate(wanted) if matches(pattern, key)}
    assert matching - gone <= set(found) <= set(range(len(wanted))) - gone


def test_one_thing_under_two_patterns_with_the_same_text_is_taken_out_of_each() -> None:
    index: PatternIndex[str] = PatternIndex()
    for pattern in ("a?b", "a*b"):
        index.add(pattern, "thing")
    index.remove("a?b", "thing")
    assert index.candidates("acb") == ["thing"]
    index.remove("a*b", "thing")
    assert index.candidates("acb") == []


@given(patterns, keys)
def test_the_winner_is_that_of_a_plain_search(wanted: list[str], key: str) -> None:
    matching = [pattern for pattern in wanted if matches(pattern, key)]
    winner = min(
        matching, key=lambda pattern: (is_pattern(pattern), specificity(pattern)), default=None
    )
    winners = Winners(wanted)
    assert [winners.of(key), winners.of(key)] == [winner, winner]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_others_are_not_looked_at(shape: str) -> None:
    name, key = SHAPES[shape]
    index: PatternIndex[int] = PatternIndex()
    for number in range(MANY):
        index.add(name(number), number)
    assert index.candidates(key) == [77]
    assert Winners(name(number) for number in range(MANY)).of(key) == name(77)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_removed_leaves_nothing_behind(shape: str) -> None:
    name, key = SHAPES[shape]
    index: PatternIndex[int] = PatternIndex()
    for number in range(100):
        index.add(name(number), number)
    for number in range(100):
        index.remove(name(number), number)
    assert index.candidates(key) == []
    assert (index._exact, index._starts, index._start_lengths, index.cost) == ({}, {}, {}, 0)


def test_who_listens_to_all_that_they_may_read_is_found_by_their_scopes() -> None:
    index = AudienceIndex()
    kinds = frozenset({"value"})
    for number in range(MANY):
        index.add("*", kinds, KeySet([f"mine:{number}:*", f"ours:{number}"]), _Deaf())
    (audience,) = index._by_pattern.candidates("mine:77:note")
    assert audience.readable.patterns == ("mine:77:*", "ours:77")


@given(patterns, keys)
def test_scopes_of_many_patterns_permit_the_same_as_a_plain_search(
    wanted: list[str], key: str
) -> None:
    scope = KeySet([*wanted, *(f"mine:{number}:*" for number in range(MANY // 100))])
    assert (key in scope) == any(matches(pattern, key) for pattern in wanted)
    assert "mine:77:note" in scope


@given(patterns, st.text("ab:*", min_size=1, max_size=4).filter(_valid), keys)
def test_a_list_goes_through_all_that_may_be_read_and_little_else(
    permitted: list[str], pattern: str, key: str
) -> None:
    principal = Principal("reader", Scopes.of(permitted))
    prefixes = listing_prefixes(principal, pattern)
    assert prefixes == sorted(prefixes)
    for one, other in itertools.pairwise(prefixes):
        assert not other.startswith(one)
    if matches(pattern, key) and principal.may("read", key):
        assert any(key.startswith(prefix) for prefix in prefixes)
    if len(permitted) <= 1 and prefixes:
        assert prefixes[0].startswith(pattern.split("*", maxsplit=1)[0])


class _Deaf:
    def offer(self, packet: object) -> None: ...

    def mark(self, packet: object) -> None: ...

    def reset(self, reason: str) -> None: ...
