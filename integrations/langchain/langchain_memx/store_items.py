"""The items of LangGraph's long-term memory, and its rules for which of them an operation means."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from langgraph.store.base import Item, MatchCondition

from memx_sdk import Entry
from memx_sdk.collections import ForeignValues

_MEMBERS = {"namespace", "key", "value", "created_at"}

_foreign = ForeignValues(logging.getLogger(__name__), "item")

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}

_OPERATORS = ("$eq", "$ne", *_ORDER)


class MemxItem(Item):
    """An item that knows the revision for a conditional put."""

    __slots__ = ("revision",)

    def __init__(self, *, revision: int, **item: Any) -> None:
        super().__init__(**item)
        self.revision = revision

    def dict(self) -> dict[str, Any]:
        """Write the item as JSON; a checkpoint of a state that holds one restores it from that."""
        return {**super().dict(), "revision": self.revision}


def is_item(entry: Entry) -> bool:
    """Whether an entry is an item, and not what another agent put in its place, which is logged."""
    stored = entry.value
    good = (
        isinstance(stored, dict)
        and stored.keys() >= _MEMBERS
        and isinstance(stored["namespace"], list)
        and all(isinstance(label, str) for label in stored["namespace"])
        and isinstance(stored["key"], str)
        and isinstance(stored["value"], dict)
        and _is_time(stored["created_at"])
        and _is_ttl(stored.get("ttl"))
    )
    if not good:
        _foreign.note(entry.key)
    return good


def item_members(entry: Entry) -> dict[str, Any]:
    """Read the arguments of LangGraph's ``Item`` out of an entry that is one."""
    stored = entry.value
    return {
        "namespace": tuple(stored["namespace"]),
        "key": stored["key"],
        "value": stored["value"],
        "created_at": datetime.fromisoformat(stored["created_at"]),
        "updated_at": datetime.fromtimestamp(entry.ts, UTC),
    }


def in_namespace(prefix: Sequence[str], namespace: Sequence[str]) -> bool:
    """Whether ``namespace`` starts with ``prefix``."""
    return list(namespace[: len(prefix)]) == list(prefix)


def check_filter(expected: Any) -> None:
    """Refuse a filter with an operator that LangGraph does not know, whatever there is to find.

    Raises:
        ValueError: It has one.
    """
    if isinstance(expected, (list, tuple)):
        for part in expected:
            check_filter(part)
    elif isinstance(expected, Mapping):
        for name, part in expected.items():
            if str(name).startswith("$") and name not in _OPERATORS:
                raise ValueError(f"operator {name!r}: use {', '.join(_OPERATORS)}")
            check_filter(part)


def matches_filter(value: Mapping[str, Any], expected: Mapping[str, Any] | None) -> bool:
    """Whether every member that the filter names is as it says; `check_filter` has passed the filter."""
    return all(_matches_value(value.get(name), want) for name, want in (expected or {}).items())


def matches_condition(condition: MatchCondition, namespace: Sequence[str]) -> bool:
    """Whether a namespace starts or ends as the condition says; ``*`` stands for any label."""
    expected = condition.path
    if len(namespace) < len(expected):
        return False
    if condition.match_type == "prefix":
        part = namespace[: len(expected)]
    elif condition.match_type == "suffix":
        part = namespace[len(namespace) - len(expected) :]
    else:
        raise ValueError(f"match type {condition.match_type!r}: use prefix or suffix")
    return all(want in ("*", label) for want, label in zip(expected, part, strict=True))


def _matches_value(found: Any, want: Any) -> bool:
    if isinstance(want, Mapping):
        if any(str(name).startswith("$") for name in want):
            return all(_compares(found, name, operand) for name, operand in want.items())
        return isinstance(found, Mapping) and matches_filter(found, want)
    if isinstance(want, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(found) == len(want)
            and all(_matches_value(f, w) for f, w in zip(found, want, strict=True))
        )
    return bool(found == want)


def _compares(found: Any, name: str, operand: Any) -> bool:
    if name == "$eq":
        return bool(found == operand)
    if name == "$ne":
        return bool(found != operand)
    left, right = _number(found), _number(operand)
    return left is not None and right is not None and _ORDER[name](left, right)


def _number(value: Any) -> int | float | Decimal | None:
    """Read a number, or a text of one, exactly; None for what is neither, which no comparison holds for.

    ``float`` would fail with integers beyond its range, and take different large integers for the same.
    """
    try:
        number = value if isinstance(value, (int, float)) else Decimal(str(value))
    except InvalidOperation:
        return None
    is_nan = number.is_nan() if isinstance(number, Decimal) else number != number
    return None if is_nan else number  # Decimal raises when it is compared with NaN


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_ttl(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and value > 0)
