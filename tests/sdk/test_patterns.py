"""Patterns match as they always did, in one pass, and are refused where that pass could take long."""

from __future__ import annotations

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import (
    MAX_FLOATING,
    MAX_FLOATING_LENGTH,
    MAX_STARS,
    is_pattern,
    match_cost,
    matches,
    validate_pattern,
)

LONGEST = "a" * 512
MATCH_SECONDS = 0.0005
"""Processor time of one match; it takes a tenth of it at the most."""


def _valid(pattern: str) -> bool:
    try:
        return bool(validate_pattern(pattern))
    except ProtocolError:
        return False


PATTERNS = st.text("ab:*?[]!-^\\.é", min_size=1, max_size=12).filter(_valid)
KEYS = st.text("ab:-^\\.!é", min_size=1, max_size=10)


def plain_match(pattern: str, key: str) -> bool:
    """What a pattern means."""
    return re.match(fnmatch.translate(pattern), key) is not None


@given(PATTERNS, KEYS)
def test_a_pattern_matches_what_fnmatch_matches(pattern: str, key: str) -> None:
    assert matches(pattern, key) == (
        plain_match(pattern, key) if is_pattern(pattern) else pattern == key
    )


@given(
    st.lists(
        st.sampled_from(["a", "aa", "b", "ab" * 8, "a" * 30, "?", "[ab]"]), min_size=2, max_size=30
    ),
    KEYS,
)
def test_stars_between_texts_match_what_fnmatch_matches(parts: list[str], key: str) -> None:
    pattern = "*".join(parts)
    for text in (key, "".join(parts).replace("?", "a").replace("[ab]", "b")):
        assert matches(pattern, text) == plain_match(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*a" * (MAX_STARS + 1), f"the limit is {MAX_STARS}"),
        ("*" * (MAX_STARS + 1), f"the limit is {MAX_STARS}"),
        ("*" + "a?" * (MAX_FLOATING + 1) + "*", f"the limit is {MAX_FLOATING}"),
        ("*[ab]*[ab]*[ab]*[ab]*?*", f"the limit is {MAX_FLOATING}"),
        ("*?" + "a" * MAX_FLOATING_LENGTH + "*", f"the limit is {MAX_FLOATING_LENGTH}"),
        ("team:[", "unbalanced '['"),
    ],
)
def test_a_refusal_says_what_to_mend(pattern: str, says: str) -> None:
    with pytest.raises(ProtocolError, match=re.escape(says)) as refused:
        validate_pattern(pattern)
    assert (refused.value.status, refused.value.code) == (400, "invalid_pattern")


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * MAX_STARS,
        "[0-9a-f]" * 36,
        "?" * 100 + "*",
        "*" + "?" * 100,
        "*[a-z][a-z]*[0-9][0-9]*",
        "team:*:step:*:note",
    ],
)
def test_what_people_write_is_permitted(pattern: str) -> None:
    assert validate_pattern(pattern) == pattern


def test_stored_patterns_of_older_rules_can_still_be_named() -> None:
    pattern = "*a" * 200
    assert validate_pattern(pattern, is_bounded=False) == pattern
    assert matches(pattern, "ba" * 200)


@pytest.mark.parametrize(
    "pattern",
    [
        "aa" + "*a" * (MAX_STARS - 2) + "*b*aa",
        "*" + "a" * 128 + "b" + "a" * 127 + "*",
        "*" + "a" * 15 + "b*",
        "*" + "[ab]" * MAX_FLOATING + "c*",
        "*" + "?" * MAX_FLOATING + "b*",
        "*" + "[ab]" * MAX_FLOATING + "a" * (MAX_FLOATING_LENGTH - MAX_FLOATING - 1) + "c*",
        "*" + "ab*" * (MAX_STARS - 1),
        "[ab]" * 100 + "*" + "[ab]" * 27 + "c",
    ],
)
def test_the_worst_patterns_match_the_longest_key_in_microseconds(pattern: str) -> None:
    validate_pattern(pattern)
    matches(pattern, LONGEST)
    began = time.process_time()
    for _ in range(100):
        matches(pattern, LONGEST)
    assert (time.process_time() - began) / 100 < MATCH_SECONDS


@given(PATTERNS)
def test_only_text_between_stars_has_a_cost(pattern: str) -> None:
    parts = re.sub(r"\[[^\]]*\]", "s", pattern).split("*")
    assert (match_cost(pattern) > 0) == any(parts[1:-1])
