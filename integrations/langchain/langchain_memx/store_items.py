"""The items of LangGraph's long-term memory, and its rules for which of them an operation means."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from langgraph.store.base import Item, MatchCondition

from memx_sdk import Entry

_MEMBERS = {"namespace", "key", "value", "created_at"}

_ORDER: Mapping[str, Callable[[float, float], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


class MemxItem(Item):
    """An item that knows the revision for a conditional put."""

    __slots__ = ("revision",)

    def __init__(self, *, revision: int, **item: Any) -> None:
        super().__init__(**item)
        self.revision = revision


def is_item(entry: Entry) -> bool:
    """Whether an entry is an item, and not what another agent put in its place."""
    return isinstance(entry.value, dict) and entry.value.keys() >= _MEMBERS


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


def matches_filter(value: Mapping[str, Any], expected: Mapping[str, Any] | None) -> bool:
    """Whether every member that the filter names is as it says.

    Raises:
        ValueError: An operator that LangGraph does not know.
    """
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
        if any(name.startswith("$") for name in want):
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
    compare = _ORDER.get(name)
    if compare is None:
        raise ValueError(f"operator {name!r}: use $eq, $ne, $gt, $gte, $lt or $lte")
    try:
        return compare(float(found), float(operand))
    except (TypeError, ValueError):
        return False
