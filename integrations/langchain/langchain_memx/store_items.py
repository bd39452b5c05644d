"""The items of LangGraph's long-term memory, and its rules for which of them an operation means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from langgraph.store.base import Item, MatchCondition, SearchItem

from memx_sdk.collections import Record

_MEMBERS = {"namespace", "key", "value", "created_at"}

_OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
"""What LangGraph's own stores know."""


class MemxItem(Item):
    """An item that knows the revision for a conditional put."""

    __slots__ = ("revision",)

    def __init__(self, *, revision: int, **item: Any) -> None:
        super().__init__(**item)
        self.revision = revision

    def dict(self) -> dict[str, Any]:
        """Write the item as JSON; a checkpoint of a state that holds one restores it from that."""
        return {**super().dict(), "revision": self.revision}


class MemxSearchItem(SearchItem):
    """An item that a search found, and that knows the revision for a conditional put."""

    __slots__ = ("revision",)

    def __init__(self, *, revision: int, **item: Any) -> None:
        super().__init__(**item)
        self.revision = revision

    def dict(self) -> dict[str, Any]:
        """Write the item as JSON; a checkpoint of a state that holds one restores it from that."""
        return {**super().dict(), "revision": self.revision}


class ItemForm:
    """Items as JSON: what LangGraph's own stores keep of one."""

    def dump(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write an item."""
        return value

    def load(self, stored: Any) -> Mapping[str, Any]:
        """Read an item.

        Raises:
            ValueError: It is none, but what another agent put in its place.
        """
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
            raise ValueError("no item")
        item: Mapping[str, Any] = stored
        return item


def item_members(record: Record[Mapping[str, Any]]) -> dict[str, Any]:
    """Read the arguments of LangGraph's ``Item`` out of a record."""
    stored = record.value
    return {
        "namespace": tuple(stored["namespace"]),
        "key": stored["key"],
        "value": stored["value"],
        "created_at": datetime.fromisoformat(stored["created_at"]),
        "updated_at": datetime.fromtimestamp(record.ts, UTC),
    }


def in_namespace(prefix: Sequence[str], namespace: Sequence[str]) -> bool:
    """Whether ``namespace`` starts with ``prefix``."""
    return list(namespace[: len(prefix)]) == list(prefix)


def check_item_filter(expected: Any) -> None:
    """Refuse a filter with an operator that LangGraph does not know, whatever there is to find.

    Raises:
        ValueError: It has one.
    """
    if isinstance(expected, (list, tuple)):
        for part in expected:
            check_item_filter(part)
    elif isinstance(expected, Mapping):
        for name, part in expected.items():
            if str(name).startswith("$") and name not in _OPERATORS:
                raise ValueError(f"operator {name!r}: use {', '.join(_OPERATORS)}")
            check_item_filter(part)


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


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_ttl(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and value > 0)
