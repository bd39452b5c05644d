"""One registered schema: how it judges a value, and how a refusal reads."""

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
from memx_server.domain.schema.cost import weigh
from memx_server.domain.values import nests_deeper_than
from memx_server.settings import Limits

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


_LINEAR_TIME = jsonschema_rs.RegexOptions()
_SHOWN_BYTES = 200
_MASK = "this value"
"""Stands in messages for the value, which the error shows beside."""

_UNKNOWN_DRAFT = jsonschema.Draft3Validator
"""Stands for every draft that no validator here knows, being one of them."""

_DRAFTS: dict[type[Any], type[jsonschema_rs.Validator]] = {
    jsonschema.Draft4Validator: jsonschema_rs.Draft4Validator,
    jsonschema.Draft6Validator: jsonschema_rs.Draft6Validator,
    jsonschema.Draft7Validator: jsonschema_rs.Draft7Validator,
    jsonschema.Draft201909Validator: jsonschema_rs.Draft201909Validator,
    jsonschema.Draft202012Validator: jsonschema_rs.Draft202012Validator,
}


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
    if isinstance(declared, str):
        known: type[Any] = validator_for(schema, default=_UNKNOWN_DRAFT)
    else:
        known = _UNKNOWN_DRAFT
    if known not in _DRAFTS:
        raise _invalid(
            f"its $schema is {declared!r}; known are drafts 4, 6, 7, 2019-09 and 2020-12 "
            "(leave it away for 2020-12)",
            path="/$schema",
        )
    return known


def compile_schema(text: bytes) -> jsonschema_rs.Validator:
    """Make what judges values by a schema.

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
