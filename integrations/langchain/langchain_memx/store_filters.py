"""LangGraph's rules for which items and namespaces an operation means."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langgraph.store.base import MatchCondition

_ORDER: Mapping[str, Callable[[float, float], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def in_namespace(prefix: Sequence[str], namespace: Sequence[str]) -> bool:
    """Tell whether ``namespace`` starts with ``prefix``."""
    return list(namespace[: len(prefix)]) == list(prefix)


def matches_filter(value: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Tell whether every member that the filter names is as it says.

    Raises:
        ValueError: An operator that LangGraph does not know.
    """
    return all(_is_as_wanted(value.get(name), want) for name, want in (wanted or {}).items())


def matches_condition(condition: MatchCondition, namespace: Sequence[str]) -> bool:
    """Tell whether a namespace starts or ends as the condition says; ``*`` stands for any label."""
    wanted = condition.path
    if len(namespace) < len(wanted):
        return False
    if condition.match_type == "prefix":
        part = namespace[: len(wanted)]
    elif condition.match_type == "suffix":
        part = namespace[len(namespace) - len(wanted) :]
    else:
        raise ValueError(f"match type {condition.match_type!r}: use prefix or suffix")
    return all(want in ("*", label) for want, label in zip(wanted, part, strict=True))


def _is_as_wanted(found: Any, want: Any) -> bool:
    if isinstance(want, Mapping):
        if any(name.startswith("$") for name in want):
            return all(_compares(found, name, operand) for name, operand in want.items())
        return isinstance(found, Mapping) and matches_filter(found, want)
    if isinstance(want, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(found) == len(want)
            and all(_is_as_wanted(f, w) for f, w in zip(found, want, strict=True))
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
