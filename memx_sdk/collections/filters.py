"""The filter language of memX's lists, for values that the server cannot look into, as those that lie in parts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from memx_sdk.core import values

_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}

OPERATORS: Final = ("$eq", "$ne", *_ORDER, "$in", "$nin", "$exists")

_LARGEST = int(1.7976931348623157e308)
"""The server takes numbers that a double reaches; larger ones are compared here."""

_LONGEST: Final = 4000
"""Bytes of a filter's text that fit into the query of a URL; with a longer one everything is read."""

_MISSING: Final = object()


def check_filter(expected: Any) -> None:
    """Refuse a filter with an operator that there is not, whatever there is to find.

    Raises:
        ValueError: It has one, or an operator stands where a member should.
    """
    if expected is None:
        return
    if not isinstance(expected, Mapping):
        raise ValueError("a filter is an object that names members of the value")
    for name, part in expected.items():
        if str(name).startswith("$"):
            raise ValueError(f"operator {name!r} stands outside of a member: " + _example(name))
        if isinstance(part, Mapping):
            _check_member(part)


def may_be_sent(expected: Mapping[str, Any]) -> bool:
    """Whether a filter fits into a request and the server takes its numbers."""
    return _is_within_doubles(expected) and len(values.encode(expected)) <= _LONGEST


def _is_within_doubles(expected: Any) -> bool:
    if isinstance(expected, Mapping):
        return all(_is_within_doubles(part) for part in expected.values())
    if isinstance(expected, (list, tuple)):
        return all(_is_within_doubles(part) for part in expected)
    return not isinstance(expected, (int, Decimal)) or -_LARGEST <= expected <= _LARGEST


def matches(value: Any, expected: Mapping[str, Any] | None) -> bool:
    """Whether a value fulfils every condition; `check_filter` has passed the filter.

    Args:
        value: JSON; only an object has members.
        expected: Conditions by member: a value that it equals, operators, or conditions on its own members.
    """
    if not expected:
        return True
    return isinstance(value, Mapping) and all(
        _fulfils(value.get(name, _MISSING), wanted) for name, wanted in expected.items()
    )


def _check_member(wanted: Mapping[str, Any]) -> None:
    if not any(str(name).startswith("$") for name in wanted):
        check_filter(wanted)
        return
    for name, operand in wanted.items():
        if name not in OPERATORS:
            raise ValueError(f"operator {name!r}: use {', '.join(OPERATORS)}")
        if name in ("$in", "$nin") and not isinstance(operand, (list, tuple)):
            raise ValueError(f"{name} takes a list of values")
        if name == "$exists" and not isinstance(operand, bool):
            raise ValueError("$exists takes true or false")


def _example(name: str) -> str:
    known = name if name in OPERATORS else "$gte"
    return f'{{"score": {{"{known}": 1}}}}; the operators are {", ".join(OPERATORS)}'


def _fulfils(found: Any, wanted: Any) -> bool:
    if not isinstance(wanted, Mapping):
        return _same(None if found is _MISSING else found, wanted)
    if any(str(name).startswith("$") for name in wanted):
        return all(_holds(found, name, operand) for name, operand in wanted.items())
    return isinstance(found, Mapping) and matches(found, wanted)


def _holds(found: Any, name: str, operand: Any) -> bool:
    if name == "$exists":
        return (found is not _MISSING) is operand
    value = None if found is _MISSING else found
    if name in ("$in", "$nin"):
        return any(_same(value, each) for each in operand) is (name == "$in")
    if name in ("$eq", "$ne"):
        return _same(value, operand) is (name == "$eq")
    # A number is compared with numbers, a text with texts; true and false are numbers to Python, not to JSON.
    if isinstance(value, bool) or isinstance(operand, bool):
        return False
    kind = str if isinstance(operand, str) else (int, float, Decimal)
    return isinstance(value, kind) and isinstance(operand, kind) and _ORDER[name](value, operand)


def _same(left: Any, right: Any) -> bool:
    """Whether two values are the same in JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    if _is_list(left) and _is_list(right):
        return len(left) == len(right) and all(
            _same(a, b) for a, b in zip(left, right, strict=True)
        )
    return bool(left == right)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
