"""One compiled JSON Schema: what may be registered, how a value is validated, and how a refusal reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from functools import cached_property
from itertools import islice
from typing import Any, NoReturn

import jsonschema
import jsonschema_rs
import msgspec
from jsonschema.validators import validator_for

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.schema.cost import Cost, cost_of
from memx_server.domain.values import SHORT_JSON, nests_deeper_than
from memx_server.settings import Limits

Violation = dict[str, Any]
"""A place where a value breaks its schema: ``path``, ``rule``, ``expected``, ``found``, ``message``."""

_SHOWN_ERRORS = 5
_SHOWN_BYTES = 200

_LOOP_SIZE = 1000
"""Keywords that are compiled on the event loop at the most, within some milliseconds."""
_LOOP_WORK = 20_000.0
"""Units of work (see ``cost.py``) that a validation may take on the event loop: about two milliseconds."""
INSTANT_WORK = 5000.0
"""Units that so many validations may take one after the other as a socket's writes are committed together."""
_ENDLESS = float("inf")
_LOOP_ERRORS = 500.0
"""A bound on the errors that are collected on the event loop; each takes some ten microseconds."""
_LOOP_CHECK_BYTES = 1024
_LOOP_CHECK_SIZE = 40
"""A schema of so many keywords is checked by the reference, in Python, within some milliseconds."""
_PART_WORK = 2.0
"""Units that it takes to hand one part of a value over to the validator."""
_BYTES_PER_UNIT = 2000
_DIGITS = 400
_EXPONENT = 400
"""Arithmetic with numbers of more digits, or with larger exponents, is not done on the event loop."""

_ALL_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * _DIGITS


class _UnusualNumberError(Exception):
    """A number is so long, so large or so small that exact arithmetic with it takes long."""


def _exact_number(text: str) -> float | Decimal:
    """Keep a number as a float where that is exact, and as a decimal elsewhere."""
    number = float(text)
    return number if repr(number) == text else Decimal(text)


def _usual_number(text: str) -> float | Decimal:
    number = _exact_number(text)
    # Read as a float, 1e-999999999 is 0.0: only the decimal tells how small it is.
    if isinstance(number, Decimal) and abs(number.adjusted()) > _EXPONENT:
        raise _UnusualNumberError
    return number


_parse = msgspec.json.Decoder(float_hook=_exact_number).decode
_parse_usual = msgspec.json.Decoder(float_hook=_usual_number).decode


class Schema:
    """A registered schema; it is weighed and compiled when it is first needed.

    A store may hold schemas that were registered under other rules, so nothing is taken on trust from
    their registration: each is weighed again by the process that uses it.

    Attributes:
        pattern: The key or pattern that it is registered for.
        text: Its JSON text as it was sent.
    """

    def __init__(self, pattern: str, text: bytes) -> None:
        self.pattern = pattern
        self.text = text

    @cached_property
    def _cost(self) -> Cost | None:
        """What it takes on the event loop; None where it must not be used there."""
        cost = cost_of(self.text)
        return None if cost is None or cost.size > _LOOP_SIZE else cost

    @cached_property
    def _validator(self) -> jsonschema_rs.Validator:
        return compile_schema(self.text)

    @property
    def is_quick_to_check(self) -> bool:
        """Whether its registration can be checked without holding others up for long."""
        return (
            len(self.text) <= _LOOP_CHECK_BYTES
            and self._cost is not None
            and self._cost.size <= _LOOP_CHECK_SIZE
        )

    def is_instant_with(self, value: bytes) -> bool:
        """Tell whether a value that fits is validated so soon that many may follow each other at once."""
        return self.is_compiled and self.work(value) <= INSTANT_WORK

    @property
    def is_compiled(self) -> bool:
        """Whether the schema need not be weighed and compiled any more."""
        return "_validator" in self.__dict__

    def work(self, value: bytes) -> float:
        """Bound the units of work that the validation of a value takes on the event loop."""
        cost, length = self._cost, len(value)
        if cost is None or (length > SHORT_JSON and _LONG_NUMBER in value.translate(_ALL_DIGITS)):
            return _ENDLESS
        return (
            (_PART_WORK + cost.per_part) * _count_parts(value)
            + cost.per_kb * length / 1000
            + length / _BYTES_PER_UNIT
        )

    def violations_at_once(self, value: bytes, work: float | None = None) -> list[Violation] | None:
        """Validate ``value`` like ``violations``; None where that may take longer than others can wait.

        Args:
            value: The value.
            work: What ``work`` has returned for it, if it was called.
        """
        if (self.work(value) if work is None else work) > _LOOP_WORK:
            return None
        try:
            instance = _parse_usual(value)
        except _UnusualNumberError:
            return None
        if self._validator.is_valid(instance):
            return []
        return self._explain(instance) if self._is_quick_to_explain(value) else None

    def violations(self, value: bytes) -> list[Violation]:
        """Validate ``value`` (JSON text): the first few violations, none when it fits."""
        instance = _parse(value)
        return [] if self._validator.is_valid(instance) else self._explain(instance)

    def first_violation(self, value: bytes) -> list[Violation]:
        """Validate ``value``: one violation, found much sooner than several, or none."""
        try:
            self._validator.validate(_parse(value))
        except jsonschema_rs.ValidationError as error:
            return [_describe(error)]
        return []

    def _explain(self, instance: Any) -> list[Violation]:
        return [
            _describe(each) for each in islice(self._validator.iter_errors(instance), _SHOWN_ERRORS)
        ]

    def _is_quick_to_explain(self, value: bytes) -> bool:
        """Tell whether all errors that there may be, each with a copy of its place, are soon collected."""
        assert self._cost is not None
        parts = _count_parts(value)
        return self._cost.per_part * parts * (1 + parts / 50 + len(value) / 2000) <= _LOOP_ERRORS


def _count_parts(value: bytes) -> int:
    return 1 + value.count(b",") + value.count(b"[") + value.count(b"{")


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
    # Where members are not permitted, the library names them in place of the rule's value, which is False.
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


_LINEAR_TIME = jsonschema_rs.RegexOptions()
_MASK = "this value"
"""Stands in messages for the value, which the error shows beside."""

_DRAFTS: dict[type[Any], type[jsonschema_rs.Validator]] = {
    jsonschema.Draft4Validator: jsonschema_rs.Draft4Validator,
    jsonschema.Draft6Validator: jsonschema_rs.Draft6Validator,
    jsonschema.Draft7Validator: jsonschema_rs.Draft7Validator,
    jsonschema.Draft201909Validator: jsonschema_rs.Draft201909Validator,
    jsonschema.Draft202012Validator: jsonschema_rs.Draft202012Validator,
}
"""The drafts that can be registered: the reference's class for each, and the one that validates values."""

_NO_DRAFT = jsonschema.Draft3Validator
"""What ``validator_for`` is told to return for a ``$schema`` that it does not know: a draft that is not in
``_DRAFTS``, so that such a schema is refused as draft 3 is."""


def check_registration(text: bytes, limits: Limits) -> None:
    """Refuse a schema that cannot be relied on.

    Raises:
        ProtocolError: ``invalid_schema`` or ``too_large``, with what to mend.
    """
    check_size(text, limits)
    schema = json.loads(text)
    if not isinstance(schema, dict | bool):
        raise _invalid("it must be an object, true or false")
    compile_schema(text)
    _check_by_reference(schema)


def check_size(text: bytes, limits: Limits) -> None:
    """Refuse a schema that is too long or too deep to be looked at.

    Raises:
        ProtocolError: ``invalid_schema`` or ``too_large``.
    """
    if len(text) > limits.schema_bytes:
        raise ProtocolError(
            "too_large",
            f"the schema is {len(text)} bytes of JSON; the limit is {limits.schema_bytes}",
            field="schema",
            limit="schema_bytes",
        )
    if nests_deeper_than(limits.nesting, text):
        raise _invalid(f"it nests deeper than {limits.nesting} levels")


def _check_by_reference(schema: dict[str, Any] | bool) -> None:
    # jsonschema would check patterns in Python's dialect, which is not the one that runs here.
    try:
        _reference_class(schema).check_schema(schema, format_checker=None)
    except jsonschema.SchemaError as error:
        path = pointer(error.absolute_path)
        raise _invalid(f"at {path or 'its root'}: {error.message}", path=path) from None
    except RecursionError:
        raise _invalid("its references go round in circles") from None


def _reference_class(schema: dict[str, Any] | bool) -> type[Any]:
    declared = schema.get("$schema") if isinstance(schema, dict) else None
    if declared is None:
        return jsonschema.Draft202012Validator
    known: type[Any] = _NO_DRAFT
    if isinstance(declared, str):
        known = validator_for(schema, default=_NO_DRAFT)
    if known not in _DRAFTS:
        raise _invalid(
            f"its $schema is {declared!r}; known are drafts 4, 6, 7, 2019-09 and 2020-12 "
            "(leave it away for 2020-12)",
            path="/$schema",
        )
    return known


def compile_schema(text: bytes) -> jsonschema_rs.Validator:
    """Make the validator of a schema.

    Raises:
        ProtocolError: ``invalid_schema``.
    """
    schema = json.loads(text)
    engine = _DRAFTS[_reference_class(schema)]
    try:
        return engine(
            text.decode(),
            pattern_options=_LINEAR_TIME,
            retriever=_refuse_retrieval,
            validate_formats=False,
            mask=_MASK,
        )
    except jsonschema_rs.ValidationError as error:
        raise _compile_error(error) from None
    except (ValueError, RecursionError) as error:
        raise _invalid(str(error)) from None


def _compile_error(error: jsonschema_rs.ValidationError) -> ProtocolError:
    path = pointer(error.instance_path)
    if error.kind.name == "format":
        return _invalid(
            f"the pattern {error.instance!r} is no regular expression that runs in linear time: "
            "write it without look-around and back-references, and smaller if it repeats much",
            path=path,
            pattern=error.instance,
        )
    if error.kind.name == "$ref":
        return _invalid(
            f"a $ref leads nowhere: {error.message}; references must stay inside the schema "
            "(#/$defs/...), nothing is fetched",
        )
    found = msgspec.json.encode(error.instance)[:_SHOWN_BYTES].decode(errors="ignore")
    message = error.message.replace(_MASK, found)
    return _invalid(f"at {path or 'its root'}: {message}", path=path)


def _refuse_retrieval(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not part of the schema")


def _invalid(detail: str, **extra: Any) -> ProtocolError:
    return ProtocolError(
        "invalid_schema", f"the schema cannot be registered: {detail}", field="schema", **extra
    )


def pointer(path: Iterable[str | int]) -> str:
    """Write a path as an RFC 6901 pointer."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
