"""Names of keys and the patterns that match them.

A key is 1 to 512 bytes of UTF-8 without control characters and without ``* ? [ ]``, which make a
pattern. A pattern is a glob over the whole key: ``*`` any run of characters (also across ``:``), ``?``
one character, ``[...]`` a set. Matching is case-sensitive on every platform, takes one pass over the key,
and never goes back: how often a pattern may hold a wildcard is bounded, so one match takes some 20 µs at
the most.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from memx_sdk.protocol.errors import ProtocolError

MAX_KEY_BYTES = 512
MAX_STARS = 16
"""How many ``*`` a pattern holds at the most."""
MAX_FLOATING = 4
"""How many ``?`` and sets lie between the first and the last ``*`` at the most: they have to be searched for."""
MAX_FLOATING_LENGTH = 32
"""How many characters a part between two ``*`` matches at the most where it holds a ``?`` or a set."""

_GLOB = re.compile(r"[*?\[\]]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SET = re.compile(r"\[!?[^\[\]]+\]")
_WILD = re.compile(r"\?|\[!?[^\[\]]+\]")
_TOKEN = re.compile(r"\[!?[^\[\]]+\]|.", re.DOTALL)
_TRANSLATED = re.compile(r"\(\?s:(.*)\)\\[Zz]", re.DOTALL)
_SURELY_A_KEY = re.compile(r"[^*?\[\]\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,128}")
"""What breaks no rule below, however many bytes its characters take."""


def is_pattern(text: str) -> bool:
    """Tell whether ``text`` holds a character that makes it a pattern."""
    return _GLOB.search(text) is not None


def validate_key(key: str) -> str:
    """Return ``key`` if it can name an entry.

    Raises:
        ProtocolError: ``invalid_key``, saying which rule it breaks.
    """
    if _SURELY_A_KEY.fullmatch(key):
        return key
    _check_text(key, code="invalid_key", noun="key")
    if match := _GLOB.search(key):
        raise ProtocolError(
            "invalid_key",
            f"a key holds none of * ? [ ] (they make a pattern): found {match[0]!r} "
            f"at position {match.start()}",
            field="key",
        )
    return key


def validate_pattern(pattern: str, *, is_bounded: bool = True) -> str:
    """Return ``pattern`` if it is a key or a well-formed glob.

    Args:
        pattern: What was given.
        is_bounded: Whether the wildcards are counted. What was stored under older rules can still be
            named and removed without.

    Raises:
        ProtocolError: ``invalid_pattern``, saying which rule it breaks.
    """
    _check_text(pattern, code="invalid_pattern", noun="pattern")
    if match := re.search(r"[\[\]]", _SET.sub("", pattern)):
        raise ProtocolError(
            "invalid_pattern",
            f"unbalanced {match[0]!r}: a set is written [abc] or [!abc] and is not empty",
            field="pattern",
        )
    if is_bounded:
        _check_wildcards(pattern)
    return pattern


def _check_wildcards(pattern: str) -> None:
    _, *between = parts = _split_at_stars(pattern)
    if len(parts) - 1 > MAX_STARS:
        raise ProtocolError(
            "invalid_pattern",
            f"the pattern holds {len(parts) - 1} *; the limit is {MAX_STARS}: write fewer, since one * "
            "matches any text",
            field="pattern",
        )
    wild = [part for part in between[:-1] if _WILD.search(part)]
    longest = max((len(_TOKEN.findall(part)) for part in wild), default=0)
    if longest > MAX_FLOATING_LENGTH:
        raise ProtocolError(
            "invalid_pattern",
            f"a part between two * with a ? or a set in it matches {longest} characters; the limit is "
            f"{MAX_FLOATING_LENGTH}: make it shorter",
            field="pattern",
        )
    floating = sum(len(_WILD.findall(part)) for part in wild)
    if floating > MAX_FLOATING:
        raise ProtocolError(
            "invalid_pattern",
            f"the pattern holds {floating} ? and sets between its first and its last *; the limit is "
            f"{MAX_FLOATING}: begin or end the pattern with them, or write * in their place",
            field="pattern",
        )


@lru_cache(maxsize=16_384)
def compile_pattern(pattern: str) -> Callable[[str], object]:
    """Compile ``pattern`` into a function that is truthy for the keys it matches."""
    if not is_pattern(pattern):
        return pattern.__eq__
    if pattern == "*":
        return _always
    if pattern.endswith("*") and not is_pattern(prefix := pattern[:-1]):
        return lambda key: key.startswith(prefix)
    return _Glob(pattern).matches


@lru_cache(maxsize=16_384)
def match_cost(pattern: str) -> int:
    """Return how much work one match is at the most, in units of about a microsecond.

    It is 0 where a look at the key's start and end decides, which an index does for all such patterns at
    once.
    """
    between = _split_at_stars(pattern)[1:-1]
    if not any(between):
        return 0
    return 1 + len(between) // 4 + 3 * sum(len(_WILD.findall(part)) for part in between)


class _Glob:
    """A pattern, cut at its stars into segments that match texts of one length each.

    The first segment must lie at the key's start and the last one at its end. Each of the others is taken
    where it is found first behind the one before: if the pattern matches at all, it does so with that choice,
    so nothing is ever tried twice.
    """

    def __init__(self, pattern: str) -> None:
        segments = [_Segment(part) for part in _split_at_stars(pattern)]
        self._first = segments[0]
        self._last = segments[-1] if len(segments) > 1 else None
        self._between = [each.find for each in segments[1:-1] if each.length]

    def matches(self, key: str) -> bool:
        """Tell whether the whole of ``key`` matches."""
        begin = self._first.length
        if self._last is None:
            return len(key) == begin and self._first.lies_at(key, 0)
        end = len(key) - self._last.length
        # The two ends are looked at first: they decide most often, and cost least.
        if begin > end or not self._first.lies_at(key, 0) or not self._last.lies_at(key, end):
            return False
        for find in self._between:
            begin = find(key, begin, end)
            if begin < 0:
                return False
        return True


class _Segment:
    """Literal characters, ``?`` and sets in a row.

    Attributes:
        length: The characters that it matches.
    """

    _SHORT = 16
    """A longer literal is searched for by ``re``, which never compares a character twice."""

    def __init__(self, text: str) -> None:
        parts = _TOKEN.findall(text)
        self.length = len(parts)
        self._literal = text if self.length == len(text) and "?" not in text else None
        self._regex = re.compile("".join(map(_as_regex, parts)), re.DOTALL)

    def lies_at(self, key: str, position: int) -> bool:
        """Tell whether ``key`` matches it at ``position``."""
        if self._literal is not None:
            return key.startswith(self._literal, position)
        return self._regex.match(key, position) is not None

    def find(self, key: str, begin: int, end: int) -> int:
        """Return where the first match between two positions ends; -1 where there is none."""
        if self._literal is not None and self.length <= self._SHORT:
            found = key.find(self._literal, begin, end)
            return found if found < 0 else found + self.length
        match = self._regex.search(key, begin, end)
        return -1 if match is None else match.end()


def _split_at_stars(pattern: str) -> list[str]:
    """Cut ``pattern`` at each ``*`` outside of a set."""
    if "[" not in pattern:
        return pattern.split("*")
    parts = [""]
    for each in _TOKEN.findall(pattern):
        if each == "*":
            parts.append("")
        else:
            parts[-1] += each
    return parts


def _as_regex(part: str) -> str:
    """Return the regular expression of one character, ``?`` or set."""
    if part == "?":
        return "."
    if len(part) == 1:
        return re.escape(part)
    translated = _TRANSLATED.fullmatch(fnmatch.translate(part))
    assert translated is not None, f"fnmatch writes {part!r} in another way than it did"
    return translated[1]


def matches(pattern: str, key: str) -> bool:
    """Tell whether ``pattern`` matches the whole of ``key``."""
    return bool(compile_pattern(pattern)(key))


def literal_prefix(pattern: str) -> str:
    """Return the characters that every match of ``pattern`` starts with."""
    match = _GLOB.search(pattern)
    return pattern if match is None else pattern[: match.start()]


def specificity(pattern: str) -> tuple[int, int, str]:
    """Return a sort key: the pattern that sorts first is the more specific one.

    The longest literal prefix wins, then the most literal characters, then code-point order.
    """
    literals = len(_SET.sub("", pattern)) - pattern.count("*") - pattern.count("?")
    return (-len(literal_prefix(pattern)), -literals, pattern)


def covers(scope: Iterable[str], pattern: str) -> bool:
    """Tell whether some pattern in ``scope`` surely matches all that ``pattern`` matches.

    That is so for the same pattern, and for ``literal*`` where ``pattern`` starts with that literal.
    """
    return any(
        held == pattern
        or (held.endswith("*") and not is_pattern(held[:-1]) and pattern.startswith(held[:-1]))
        for held in scope
    )


def _always(_key: str) -> bool:
    return True


def _check_text(text: str, *, code: str, noun: str) -> None:
    if not text:
        raise ProtocolError(code, f"the {noun} is empty", field=noun)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ProtocolError(
            code, f"the {noun} holds a lone surrogate; it must be valid Unicode", field=noun
        ) from None
    if size > MAX_KEY_BYTES:
        raise ProtocolError(
            code, f"the {noun} is {size} bytes long; the limit is {MAX_KEY_BYTES}", field=noun
        )
    if match := _CONTROL.search(text):
        raise ProtocolError(
            code,
            f"the {noun} holds the control character {match[0]!a} at position {match.start()}",
            field=noun,
        )
