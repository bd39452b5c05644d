"""The places of a log: what one of them holds, and how items are divided among them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_MADE_KEY = re.compile(r"#([0-9]{1,10})(?:\.([0-9]{1,6}))?")
MOST_PLACES = 40
"""Places that one append fills: more items share them."""


def bounds(members: Mapping[str, Any]) -> tuple[int, int]:
    """Read from a head the first place that may hold items, and the first one that is free."""
    first, end = members.get("first", 1), members.get("next", 1)
    good = isinstance(first, int) and isinstance(end, int) and 0 < first <= end < 10**10
    return (first, end) if good else (1, 1)


def made_key(place: int, number: int) -> str:
    """Name an item that was given no name."""
    return f"#{place}.{number}" if number else f"#{place}"


def given_key(key: str) -> int:
    """Read the place out of a key that the log made; 0 where it is none."""
    match = _MADE_KEY.fullmatch(key)
    return int(match[1]) if match else 0


def index_value(key: str, place: int) -> dict[str, Any]:
    """Write what the index holds of a key."""
    return {"key": key, "place": place}


def place_of(value: Any, key: str) -> int:
    """Read a place from the index; 0 where it holds something else."""
    if not isinstance(value, Mapping) or value.get("key") != key:
        return 0
    place = value.get("place")
    return place if isinstance(place, int) and 0 < place < 10**10 else 0


def written_items(items: Sequence[Any], keys: Sequence[str] | None) -> dict[str, Any]:
    """Write the items of a place."""
    if keys is None:
        return {"items": [{"value": item} for item in items]}
    return {"items": [{"key": key, "value": item} for key, item in zip(keys, items, strict=True)]}


def items_of(place: int, value: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield of each item of a place its number there, its key and its value.

    Raises:
        ValueError: The place holds something else.
    """
    items = value.get("items") if isinstance(value, Mapping) and value.keys() == {"items"} else None
    if not isinstance(items, list) or not items:
        raise ValueError("no items")
    for number, item in enumerate(items):
        if item is None:  # it was removed; the others keep their numbers
            continue
        if not isinstance(item, Mapping) or "value" not in item:
            raise ValueError("no item")
        key = item.get("key", made_key(place, number))
        if not isinstance(key, str):
            raise TypeError("no key")
        yield number, key, item["value"]


def groups(count: int) -> list[slice]:
    """Divide so many items among places: one each as long as there are few."""
    each = max(1, -(-count // MOST_PLACES))
    return [slice(start, min(start + each, count)) for start in range(0, count, each)]
