"""How much work a schema may cause, told from its text alone.

The weight is the length that the schema would have with every reference written out, where that is
known; judging a value takes at the most some multiple of the two lengths' product. What recurs, or
refers to where this does not look, is as heavy as can be.
"""

from __future__ import annotations

import json
import re
from math import prod
from typing import Any

HEAVIEST = 10**9

_UNPREDICTABLE = frozenset({"$dynamicRef", "$recursiveRef"})
_DEFINITIONS = frozenset({"$defs", "definitions"})
_LOOKING_BACK = frozenset({"unevaluatedProperties", "unevaluatedItems"})
_FRACTION_WEIGHT = 1000
_REPETITION = re.compile(r"\{[0-9, ]+\}")
_NUMBER = re.compile(r"[0-9]{1,9}")


def weigh(text: bytes) -> int:
    """Return the weight of a schema (JSON text), ``HEAVIEST`` at the most."""
    root = json.loads(text)
    try:
        return min(_Scale(root).weigh(root), HEAVIEST)
    except (RecursionError, LookupError, ValueError):
        return HEAVIEST


class _Scale:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._by_reference: dict[str, int | None] = {}

    def weigh(self, part: Any) -> int:
        if isinstance(part, list):
            return 2 + sum(map(self.weigh, part))
        if not isinstance(part, dict):
            return len(str(part)) + 1
        own = 2 + sum(
            len(name) + self._weigh_member(name, value)
            for name, value in part.items()
            if name not in _DEFINITIONS
        )
        # These judge once more all that stands beside them, and do so at each level.
        return own * 2 if _LOOKING_BACK & part.keys() else own

    def _weigh_member(self, name: str, value: Any) -> int:
        if name in _UNPREDICTABLE:
            return HEAVIEST
        if name == "$ref" and isinstance(value, str):
            return self._weigh_reference(value)
        if name == "pattern" and isinstance(value, str):
            return _weigh_pattern(value)
        if name == "patternProperties" and isinstance(value, dict):
            return sum(_weigh_pattern(each) for each in value) + self.weigh(value)
        if name == "multipleOf" and not isinstance(value, int):
            return _FRACTION_WEIGHT
        return self.weigh(value)

    def _weigh_reference(self, reference: str) -> int:
        if reference not in self._by_reference:
            self._by_reference[reference] = None  # as long as this is so, it is a circle
            self._by_reference[reference] = self.weigh(self._find(reference))
        weight = self._by_reference[reference]
        return HEAVIEST if weight is None else min(weight, HEAVIEST)

    def _find(self, reference: str) -> Any:
        if reference != "#" and not reference.startswith("#/"):
            raise LookupError(reference)
        part = self._root
        for step in reference.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            part = part[int(name)] if isinstance(part, list) else part[name]
        return part


def _weigh_pattern(pattern: str) -> int:
    """A pattern grows with its counted repetitions, and more so where they are nested."""
    repetitions = (map(int, _NUMBER.findall(each)) for each in _REPETITION.findall(pattern))
    return len(pattern) * prod(max(counts, default=1) or 1 for counts in repetitions)
