"""Names of keys and the patterns that match them.

A key is 1 to 512 bytes of UTF-8 without control characters and without ``* ? [ ]``, which make a
pattern. A pattern is a glob over the whole key: ``*`` any run of characters (also across ``:``), ``?``
one character, ``[...]`` a set. Matching is case-sensitive on every platform.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from memx_sdk.protocol.errors import ProtocolError

MAX_KEY_BYTES = 512

_GLOB = re.compile(r"[*?\[\]]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SET = re.compile(r"\[!?[^\[\]]+\]")
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


def validate_pattern(pattern: str) -> str:
    """Return ``pattern`` if it is a key or a well-formed glob.

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
    return pattern


@lru_cache(maxsize=16_384)
def compile_pattern(pattern: str) -> Callable[[str], object]:
    """Compile ``pattern`` into a function that is truthy for the keys it matches."""
    if not is_pattern(pattern):
        return pattern.__eq__
    if pattern == "*":
        return _always
    if pattern.endswith("*") and not is_pattern(prefix := pattern[:-1]):
        return lambda key: key.startswith(prefix)
    return re.compile(fnmatch.translate(pattern)).match


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
