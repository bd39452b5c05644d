"""One registered schema: how it judges a value, and how a refusal reads."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from itertools import islice
from typing import Any

import jsonschema_rs
import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.schema_cost import weigh
from memx_server.domain.schema_registration import compile_schema, pointer

Violation = dict[str, Any]
"""A place where a value breaks its schema: ``path``, ``rule``, ``expected``, ``found``, ``message``."""

_SHOWN_ERRORS = 5
_SHOWN_BYTES = 200

_QUICK_WORK = 16 * 1024 * 1024
_QUICK_BYTES = 32 * 1024
_QUICK_WEIGHT = 128 * 1024
"""Up to here a value is judged within milliseconds, whatever it and its schema hold."""

_QUICK_EXPLANATION = 2048
"""Up to this length of a value its violations are collected within milliseconds."""


def _exact_number(text: str) -> float | Decimal:
    number = float(text)
    return number if repr(number) == text else Decimal(text)


_parse = msgspec.json.Decoder(float_hook=_exact_number).decode


class Schema:
    """A registered schema; compiled when it first judges.

    Attributes:
        pattern: The key or pattern that it is registered for.
        text: Its JSON text as it was sent.
    """

    def __init__(self, pattern: str, text: bytes) -> None:
        self.pattern = pattern
        self.text = text

    @cached_property
    def _weight(self) -> int:
        return weigh(self.text)

    @cached_property
    def _validator(self) -> jsonschema_rs.Validator:
        return compile_schema(self.text)

    @property
    def is_light(self) -> bool:
        """Whether it can be compiled and checked without holding others up."""
        return self._weight <= _QUICK_WEIGHT

    def is_quick_with(self, length: int) -> bool:
        """Tell whether a value of ``length`` bytes that fits is judged without holding others up."""
        return length <= _QUICK_BYTES and self.is_light and self._weight * length <= _QUICK_WORK

    def violations_at_once(self, value: bytes) -> list[Violation] | None:
        """Judge ``value`` like ``violations``; None where that may take longer than others can wait."""
        length = len(value)
        if not self.is_quick_with(length):
            return None
        instance = _parse(value)
        if self._validator.is_valid(instance):
            return []
        return self._explain(instance) if length <= _QUICK_EXPLANATION else None

    def violations(self, value: bytes) -> list[Violation]:
        """Judge ``value`` (JSON text): the first few violations, none when it fits."""
        instance = _parse(value)
        return [] if self._validator.is_valid(instance) else self._explain(instance)

    def first_violation(self, value: bytes) -> list[Violation]:
        """Judge ``value``: one violation, found much sooner than several, or none."""
        try:
            self._validator.validate(_parse(value))
        except jsonschema_rs.ValidationError as error:
            return [_describe(error)]
        return []

    def _explain(self, instance: Any) -> list[Violation]:
        return [
            _describe(each) for each in islice(self._validator.iter_errors(instance), _SHOWN_ERRORS)
        ]


def violation_error(key: str, pattern: str, violations: list[Violation]) -> ProtocolError:
    """The error for a value that its key's schema refuses."""
    first = violations[0]
    place = first["path"] or "the value itself"
    return ProtocolError(
        "schema_violation",
        f"the schema of {pattern!r} refuses this value of {key!r}: at {place}: {first['message']}; "
        "correct it and send it again (POST /validate tries a value without writing)",
        key=key,
        schema=pattern,
        errors=violations,
    )


def _describe(error: jsonschema_rs.ValidationError) -> dict[str, Any]:
    members = error.kind.as_dict()
    # Of members that may not be there the library tells which those are; the message says that too.
    expected = False if "unexpected" in members else next(iter(members.values()), None)
    return {
        "path": pointer(error.instance_path),
        "rule": error.kind.name,
        "expected": _plain(expected),
        "found": _shortened(error.instance),
        "message": error.message[:1000],
    }


def _plain(expected: Any) -> Any:
    """Make what a rule expected fit for JSON: nested errors become their messages."""
    if isinstance(expected, list):
        return [_plain(each) for each in expected]
    if isinstance(expected, jsonschema_rs.ValidationError):
        return expected.message
    return expected


def _shortened(instance: Any) -> Any:
    text = msgspec.json.encode(instance)
    if len(text) <= _SHOWN_BYTES:
        return instance
    return text[:_SHOWN_BYTES].decode(errors="ignore") + " ..."
