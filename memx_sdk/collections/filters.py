"""Conditions on the members of a value: what a filter may say, and whether a value fits it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}

OPERATORS = ("$eq", "$ne", "$in", *_ORDER)


def check_filter(expected: Any) -> None:
    """Refuse a filter with an operator that nothing knows, whatever there is to find.

    Raises:
        ValueError: It has one.
    """
    if isinstance(expected, (list, tuple)):
        for part in expected:
            check_filter(part)
    elif isinstance(expected, Mapping):
        for name, part in expected.items():
            if str(name).startswith("$") and name not in OPERATORS:
                raise ValueError(f"operator {name!r}: use {', '.join(OPERATORS)}")
            check_filter(part)


def matches(value: Any, expected: Mapping[str, Any] | None) -> bool:
    """Whether every member that the filter names is as it says; `check_filter` has passed the filter.

    Args:
        value: An object of JSON, or something else, which fits no filter but an empty one.
        expected: Values by member; in place of a value an object of operators, or of members of the member.
    """
    if not expected:
        return True
    return isinstance(value, Mapping) and all(
        _fits(value.get(name), want) for name, want in expected.items()
    )


def _fits(found: Any, want: Any) -> bool:
    if isinstance(want, Mapping):
        if any(str(name).startswith("$") for name in want):
            return all(_compares(found, name, operand) for name, operand in want.items())
        return isinstance(found, Mapping) and matches(found, want)
    if isinstance(want, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(found) == len(want)
            and all(_fits(f, w) for f, w in zip(found, want, strict=True))
        )
    return bool(found == want)


def _compares(found: Any, name: str, operand: Any) -> bool:
    if name == "$eq":
        return bool(found == operand)
    if name == "$ne":
        return bool(found != operand)
    if name == "$in":
        return isinstance(operand, (list, tuple)) and any(found == each for each in operand)
    left, right = _number(found), _number(operand)
    if left is not None and right is not None:
        return _ORDER[name](left, right)
    # Two texts that are no numbers compare as texts: dates in ISO form are in the order of time so.
    both = isinstance(found, str) and isinstance(operand, str)
    return both and left is None and right is None and _ORDER[name](found, operand)


def _number(value: Any) -> int | float | Decimal | None:
    """Read a number, or a text of one, exactly; None for what is neither.

    ``float`` would fail with integers beyond its range, and take different large integers for the same.
    """
    try:
        number = value if isinstance(value, (int, float)) else Decimal(str(value))
    except InvalidOperation:
        return None
    is_nan = number.is_nan() if isinstance(number, Decimal) else number != number
    return None if is_nan else number  # Decimal raises when it is compared with NaN
