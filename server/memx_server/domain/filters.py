"""The filter language: conditions on the members of a value.

A filter is a JSON object. Each of its members names a member of the value and says what it must be, and all
of them must hold::

    {"status": "open", "score": {"$gte": 0.5, "$lt": 1}, "author": {"name": "ann"}}

What a member must be is a value that it equals, an object of operators (``OPERATORS``), or an object of
further conditions, on the members of a member that is an object itself. Only a value that is an object has
members; a member that is missing counts as null. Numbers are compared exactly, whatever their size and however
they are written; texts by code point, which is the order of time for ISO dates of one form.

Nothing here waits or reads anything: an evaluating process runs it too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.values import check_exact, nests_deeper_than, same

FILTER_BYTES: Final = 8 * 1024
"""The longest JSON text of a filter."""
FILTER_CONDITIONS: Final = 64
"""The most conditions of a filter, those within other conditions included."""
FILTER_NESTING: Final = 8
"""How deep conditions may lie in one another."""
_JSON_NESTING: Final = 64
"""How deep arrays and objects may lie in one another, in a value that a member is to equal too."""

_Found = msgspec.Raw | None
"""A member of a value as JSON text; None where it is missing."""
_Condition = Callable[[_Found], bool]

_exact = msgspec.json.Decoder(float_hook=Decimal).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _EntryValue(msgspec.Struct):
    """The part of an entry that a filter looks at; the members that it does not name stay text."""

    value: dict[str, msgspec.Raw]


_entry_value = msgspec.json.Decoder(_EntryValue).decode


class Filter:
    """A filter that has been checked.

    Attributes:
        text: Its JSON text, of which ``parse_filter`` makes the same filter elsewhere.
    """

    __slots__ = ("_conditions", "text")

    def __init__(self, text: bytes, conditions: Sequence[tuple[str, _Condition]]) -> None:
        self.text = text
        self._conditions = conditions

    def matches_entry(self, entry: bytes) -> bool:
        """Tell whether the value of an entry (its JSON text) fulfils every condition."""
        try:
            found = _entry_value(entry).value
        except msgspec.ValidationError:
            return False  # it is no object
        return all(holds(found.get(name)) for name, holds in self._conditions)


def parse_filter(text: bytes) -> Filter | None:
    """Read a filter; None where it has no conditions, and so every value fulfils it.

    Args:
        text: JSON text, from a client.

    Raises:
        ProtocolError: ``invalid_json``, ``invalid_request`` or ``too_large``, with what to mend; the field is
            ``filter``.
    """
    if len(text) > FILTER_BYTES:
        raise ProtocolError(
            "too_large",
            f"the filter is {len(text)} bytes of JSON; the limit is {FILTER_BYTES}",
            field="filter",
            limit="filter_bytes",
        )
    try:
        check_exact(text)
    except ProtocolError as error:
        # Over HTTP it is a parameter, and the words for a body would point to the wrong place.
        error.detail = error.detail.replace("the body is empty", "the filter is empty")
        error.extra["field"] = "filter"
        raise
    if nests_deeper_than(_JSON_NESTING, text):
        raise _refusal("", f"it nests deeper than {_JSON_NESTING} levels of arrays and objects")
    conditions = _FilterReader().conditions(_exact(text), "")
    return Filter(text, conditions) if conditions else None


class _FilterReader:
    """Makes conditions of a filter's JSON, and counts them."""

    def __init__(self) -> None:
        self._left = FILTER_CONDITIONS

    def conditions(self, wanted: Any, path: str, depth: int = 1) -> list[tuple[str, _Condition]]:
        """Read an object whose members name the members of a value.

        Args:
            wanted: The object.
            path: Where it stands in the filter, for errors.
            depth: How deep that is.
        """
        if not isinstance(wanted, dict):
            raise _refusal(path, "a filter is an object that names members of the value")
        if depth > FILTER_NESTING:
            raise _refusal(path, f"conditions nest {FILTER_NESTING} deep at the most")
        return [
            (name, self._condition(name, part, f"{path}/{name}", depth))
            for name, part in wanted.items()
        ]

    def _condition(self, name: str, wanted: Any, path: str, depth: int) -> _Condition:
        self._left -= 1
        if self._left < 0:
            raise _refusal(path, f"a filter has {FILTER_CONDITIONS} conditions at the most")
        if name.startswith("$"):
            known = "stands inside of a member's condition, " if name in OPERATORS else "is none; "
            raise _refusal(
                path,
                f'{name} {known}like {{"score": {{"$gte": 1}}}}; the operators are {_KNOWN}',
            )
        if not isinstance(wanted, dict):
            return _equals(wanted)
        if any(each.startswith("$") for each in wanted):
            return self._operators(wanted, path)
        inner = self.conditions(wanted, path, depth + 1)
        return lambda found: found is not None and _fulfils(found, inner)

    def _operators(self, wanted: Mapping[str, Any], path: str) -> _Condition:
        tests: list[_Condition] = []
        for name, operand in wanted.items():
            make = OPERATORS.get(name)
            if make is None:
                raise _refusal(f"{path}/{name}", f"there is no operator {name}; use {_KNOWN}")
            self._left -= 1
            tests.append(make(operand, f"{path}/{name}"))
        if self._left < 0:
            raise _refusal(path, f"a filter has {FILTER_CONDITIONS} conditions at the most")
        if len(tests) == 1:
            return tests[0]
        return lambda found: all(test(found) for test in tests)


def _fulfils(value: msgspec.Raw, conditions: Sequence[tuple[str, _Condition]]) -> bool:
    try:
        found = _members(value)
    except msgspec.ValidationError:
        return False  # it is no object
    return all(holds(found.get(name)) for name, holds in conditions)


def _value_of(found: _Found) -> Any:
    return None if found is None else _exact(found)


def _equals(wanted: Any) -> _Condition:
    return lambda found: same(_value_of(found), wanted)


def _differs(wanted: Any) -> _Condition:
    return lambda found: not same(_value_of(found), wanted)


def _compares(holds: Callable[[Any, Any], bool], operand: Any) -> _Condition:
    """Make the comparison with a number or a text; of anything else it never holds."""
    kind = str if isinstance(operand, str) else (int, Decimal)

    def compare(found: _Found) -> bool:
        value = _value_of(found)
        # True and false are integers to Python, and none to JSON.
        return isinstance(value, kind) and not isinstance(value, bool) and holds(value, operand)

    return compare


def _ordered(holds: Callable[[Any, Any], bool]) -> Callable[[Any, str], _Condition]:
    def make(operand: Any, path: str) -> _Condition:
        if isinstance(operand, bool) or not isinstance(operand, (str, int, Decimal)):
            raise _refusal(path, "it compares with a number or a text (such as an ISO date)")
        return _compares(holds, operand)

    return make


def _among(operand: Any, path: str) -> _Condition:
    if not isinstance(operand, list):
        raise _refusal(path, "it takes a list of values, one of which the member must equal")
    if len(operand) > FILTER_CONDITIONS:
        raise _refusal(path, f"a list holds {FILTER_CONDITIONS} values at the most")

    def is_among(found: _Found) -> bool:
        value = _value_of(found)
        return any(same(value, each) for each in operand)

    return is_among


def _not_among(operand: Any, path: str) -> _Condition:
    is_among = _among(operand, path)
    return lambda found: not is_among(found)


def _exists(operand: Any, path: str) -> _Condition:
    if not isinstance(operand, bool):
        raise _refusal(path, "it takes true (there is such a member) or false (there is none)")
    return lambda found: (found is not None) is operand


OPERATORS: Final[Mapping[str, Callable[[Any, str], _Condition]]] = {
    "$eq": lambda operand, _: _equals(operand),
    "$ne": lambda operand, _: _differs(operand),
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$in": _among,
    "$nin": _not_among,
    "$exists": _exists,
}
"""The operators, each with what makes its condition of the operand and its place in the filter."""

_KNOWN: Final = ", ".join(OPERATORS)


def _refusal(path: str, detail: str) -> ProtocolError:
    where = f"at {path}: " if path else ""
    return ProtocolError("invalid_request", f"filter: {where}{detail}", field="filter")
