"""The bound on how much work one schema can cause, read from its JSON text.

Whether a schema is *plain* is decided here. Only a plain schema is compiled, and values validated by
it, on the event loop; every other one goes to the evaluation processes, which can be killed. The rule
errs on the side of the processes: plain is what holds nothing but keywords of a short list, and no
reference but ``#/$defs/Name`` or ``#/definitions/Name`` to a member of the root's definitions, without
a circle. Such a reference means the same to every resolver, since a plain schema has no ``$id``,
``$anchor`` or escape that could move it. Those are the references that pydantic writes for nested models.

Work is counted in units of 0.1 µs or so at the most. ``tests/access/test_slowness.py`` holds the
bounds against what the validator really takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import msgspec

_READ_BYTES = 16 * 1024
"""A longer schema is not looked into: to read it would take the event loop long enough."""

_NUMBER_WORK = 25.0
"""Comparing numbers exactly takes as long as so many simple checks."""
_LOOKUP_WORK = 0.1
_REQUIRED_WORK = 0.5
_LENGTH_WORK_PER_KB = 8.0
_UNIQUE_WORK = 15.0
"""``uniqueItems`` compares short lists in pairs, of up to fifteen items, down to their leaves."""
_COMPILED_STATES = 50
"""So many states of a pattern take as long to compile as one keyword."""

_REFERENCE = re.compile(r"#/(\$defs|definitions)/([A-Za-z0-9_.-]+)")
_UNUSUAL_NUMBER = re.compile(rb"[eE][+-]?[0-9]{4}|[0-9]{400}")


class Cost(NamedTuple):
    """How much work a plain schema causes.

    Attributes:
        size: Keywords to compile, each reference written out.
        own: Units that the value itself takes.
        descent: Units that each part of the value takes at the most.
        per_kb: Units that each thousand bytes of strings and names take.
    """

    size: float
    own: float
    descent: float
    per_kb: float

    def __add__(self, other: object) -> Cost:
        """Both apply to the same value."""
        assert isinstance(other, Cost)
        return Cost(*(one + another for one, another in zip(self, other, strict=True)))

    @property
    def per_part(self) -> float:
        """Units for each part of a value, whichever part it is."""
        return max(self.own, self.descent)

    def below(self) -> Cost:
        """The same schema, applied to children of the value in place of the value."""
        return Cost(self.size, 0.0, self.per_part, self.per_kb)

    def either(self, other: Cost) -> Cost:
        """Each child meets one of the two schemas, never both."""
        return Cost(
            self.size + other.size,
            max(self.own, other.own),
            max(self.descent, other.descent),
            max(self.per_kb, other.per_kb),
        )


class NotPlainError(Exception):
    """The schema holds what this module does not bound."""


_NOTHING = Cost(0.0, 0.0, 0.0, 0.0)


def cost_of(text: bytes) -> Cost | None:
    """Return the cost of a schema (JSON text), or None where it is not plain.

    The reading itself takes time that grows with the length of the text alone.
    """
    if len(text) > _READ_BYTES or _UNUSUAL_NUMBER.search(text):
        return None
    root = json.loads(text)
    try:
        return _Reader(root).read_root()
    except (NotPlainError, RecursionError):
        return None


class _Reader:
    """One pass over a schema; each definition is read once.

    Args:
        root: The schema, decoded.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._definitions: dict[tuple[str, str], Cost | None] = {}

    def read_root(self) -> Cost:
        if not isinstance(self._root, dict):
            return self.read(self._root)
        members = dict(self._root)
        members.pop("$schema", None)
        has_base = members.pop("$id", None) is not None
        unused = _NOTHING
        for keyword in ("$defs", "definitions"):
            for definition in _mapping(members.pop(keyword, {})).values():
                # What nothing refers to is compiled all the same by some drafts, and must be plain.
                unused += self.read(definition)
        cost = self.read(members) + Cost(unused.size, 0.0, 0.0, 0.0)
        if has_base and self._definitions:
            raise NotPlainError  # a base could give the references another meaning
        return cost

    def read(self, schema: Any) -> Cost:
        if isinstance(schema, bool):
            return Cost(1.0, 1.0, 0.0, 0.0)
        cost = Cost(1.0, 1.0, 0.0, 0.0)
        for keyword, value in _mapping(schema).items():
            if keyword in _ANNOTATIONS:
                continue
            rule = _RULES.get(keyword)
            if rule is None:
                raise NotPlainError(keyword)
            cost += rule(self, value)
        return cost + self._children_of_object(schema) + self._children_of_array(schema)

    def in_place(self, schemas: Any) -> Cost:
        """All of a list of schemas apply to the value."""
        return sum(map(self.read, _sequence(schemas)), Cost(1.0, 1.0, 0.0, 0.0))

    def reference(self, reference: Any) -> Cost:
        match = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
        if match is None:
            raise NotPlainError(reference)
        name = (match[1], match[2])
        if name not in self._definitions:
            definitions = _mapping(self._root.get(name[0]))
            if name[1] not in definitions:
                raise NotPlainError(reference)
            self._definitions[name] = None  # as long as this is so, the reference is a circle
            self._definitions[name] = self.read(definitions[name[1]])
        cost = self._definitions[name]
        if cost is None:
            raise NotPlainError(reference)
        return cost

    def _children_of_object(self, schema: dict[str, Any]) -> Cost:
        """A member meets its own schema and those of all patterns, or else the additional one."""
        named = _NOTHING
        for each in _mapping(schema.get("properties", {})).values():
            named = named.either(self.read(each).below())
        patterned = sum(
            (
                self.read(each).below()
                for each in _mapping(schema.get("patternProperties", {})).values()
            ),
            _NOTHING,
        )
        return (named + patterned).either(self._below(schema, "additionalProperties"))

    def _children_of_array(self, schema: dict[str, Any]) -> Cost:
        """An item meets the schema of its place or that of the others, and ``contains`` besides."""
        placed = self._below(schema, "additionalItems")
        items = schema.get("items", True)
        for each in (
            *_sequence(schema.get("prefixItems", [])),
            *(items if isinstance(items, list) else (items,)),
        ):
            placed = placed.either(self.read(each).below())
        return placed + self._below(schema, "contains")

    def _below(self, schema: dict[str, Any], keyword: str) -> Cost:
        return self.read(schema[keyword]).below() if keyword in schema else _NOTHING


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NotPlainError
    return value


def _sequence(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise NotPlainError
    return value


def _simple(_: _Reader, __: Any) -> Cost:
    return Cost(1.0, 1.0, 0.0, 0.0)


def _number(_: _Reader, __: Any) -> Cost:
    return Cost(1.0, _NUMBER_WORK, 0.0, 0.0)


def _multiple(_: _Reader, value: Any) -> Cost:
    if not isinstance(value, int) or not 0 < value < 2**53:
        raise NotPlainError  # exact division by a fraction may take long
    return Cost(1.0, _NUMBER_WORK, 0.0, 0.0)


def _length(_: _Reader, __: Any) -> Cost:
    return Cost(1.0, 1.0, 0.0, _LENGTH_WORK_PER_KB)


def _constants(_: _Reader, value: Any) -> Cost:
    """Each constant is compared, and comparing ends at the first difference."""
    text = msgspec.json.encode(value)
    parts = 1.0 + text.count(b",") + text.count(b"[") + text.count(b"{")
    return Cost(parts, parts, 0.0, parts)


def _pattern(_: _Reader, value: Any) -> Cost:
    return _cost_of_pattern(value)


def _patterns(_: _Reader, value: Any) -> Cost:
    return sum(map(_cost_of_pattern, _mapping(value)), _simple(_, value))


def _cost_of_pattern(pattern: Any) -> Cost:
    if not isinstance(pattern, str):
        raise NotPlainError
    states = states_of(pattern)
    return Cost(1.0 + states / _COMPILED_STATES, 1.0, 0.0, 10.0 * states)


def _names(_: _Reader, value: Any) -> Cost:
    count = len(_mapping(value))
    return Cost(count, 1.0 + _LOOKUP_WORK * count, 0.0, 0.0)


def _required(_: _Reader, value: Any) -> Cost:
    count = len(value) if isinstance(value, list) else 0
    return Cost(1.0 + count / 8, 1.0 + _REQUIRED_WORK * count, 0.0, 0.0)


def _unique(_: _Reader, __: Any) -> Cost:
    return Cost(1.0, 1.0, _UNIQUE_WORK, 0.0)


def _for_names(reader: _Reader, value: Any) -> Cost:
    return reader.read(value).below()


_ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "examples", "example", "deprecated", "$comment"),
        *("readOnly", "writeOnly", "discriminator", "format"),  # formats are not validated
    }
)
_Rule = Callable[[_Reader, Any], Cost]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("type", "minItems", "maxItems", "minProperties", "maxProperties"), _simple),
    **dict.fromkeys(("minContains", "maxContains"), _simple),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    **dict.fromkeys(("minLength", "maxLength"), _length),
    **dict.fromkeys(("enum", "const"), _constants),
    **dict.fromkeys(("allOf", "anyOf", "oneOf"), _Reader.in_place),
    **dict.fromkeys(("not", "if", "then", "else"), _Reader.read),
    # What these hold is counted where the children of an object or of a list are.
    **dict.fromkeys(("items", "prefixItems", "additionalItems", "contains"), _simple),
    "additionalProperties": _simple,
    "properties": _names,
    "patternProperties": _patterns,
    "propertyNames": _for_names,
    "multipleOf": _multiple,
    "pattern": _pattern,
    "required": _required,
    "uniqueItems": _unique,
    "$ref": _Reader.reference,
}
"""The keywords of a plain schema, and what each takes."""

_REPETITION = re.compile(r"\{[0-9, ]+\}")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
_WIDE_CLASS = re.compile(r"\\[wWpPbB]")
_NEGATED_CLASS = re.compile(r"\\[dDsS]|\[\^|\.")
_FLAGS = re.compile(r"\(\?[^:]")
_WIDE_STATES, _NEGATED_STATES = 500, 30
_MOST_STATES = 10**9


def states_of(pattern: str) -> int:
    """Return a bound on the states of a regular expression's automaton.

    Raises:
        NotPlainError: It has flags or groups that may change what the rest means.
    """
    if _FLAGS.search(pattern):
        raise NotPlainError
    repetitions = (map(int, _WHOLE_NUMBER.findall(each)) for each in _REPETITION.findall(pattern))
    states = (
        len(pattern)
        + _WIDE_STATES * len(_WIDE_CLASS.findall(pattern))
        + _NEGATED_STATES * len(_NEGATED_CLASS.findall(pattern))
    )
    # Repetitions are taken to be nested, which they mostly are not: then the bound is too high.
    repeated = prod(max(counts, default=1) or 1 for counts in repetitions)
    return min(states * repeated, _MOST_STATES)
