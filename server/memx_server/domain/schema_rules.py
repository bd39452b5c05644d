"""One JSON Schema: what may be registered, how a value is judged, how a refusal reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any, NoReturn

import jsonschema
import jsonschema_rs
import msgspec
from jsonschema.validators import validator_for

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.values import nests_deeper_than
from memx_server.settings import Limits

_LINEAR_TIME = jsonschema_rs.RegexOptions()
_SHOWN_ERRORS = 5
_SHOWN_BYTES = 200

_UNKNOWN_DRAFT = jsonschema.Draft3Validator
"""Stands for every draft that no validator here knows, being one of them."""

_DRAFTS: dict[type[Any], type[jsonschema_rs.Validator]] = {
    jsonschema.Draft4Validator: jsonschema_rs.Draft4Validator,
    jsonschema.Draft6Validator: jsonschema_rs.Draft6Validator,
    jsonschema.Draft7Validator: jsonschema_rs.Draft7Validator,
    jsonschema.Draft201909Validator: jsonschema_rs.Draft201909Validator,
    jsonschema.Draft202012Validator: jsonschema_rs.Draft202012Validator,
}


def _exact_number(text: str) -> float | Decimal:
    number = float(text)
    return number if repr(number) == text else Decimal(text)


_parse = msgspec.json.Decoder(float_hook=_exact_number).decode


class Schema:
    """A registered schema, ready to judge values.

    Attributes:
        pattern: The key or pattern that it is registered for.
        text: Its JSON text as it was sent.
    """

    __slots__ = ("_is_valid", "_validator", "pattern", "text")

    def __init__(self, pattern: str, text: bytes) -> None:
        self.pattern = pattern
        self.text = text
        self._validator = _compile(text)
        self._is_valid = self._validator.is_valid

    def violations(self, value: bytes) -> list[dict[str, Any]]:
        """Judge ``value`` (JSON text): the first few violations, none when it fits."""
        instance = _parse(value)
        if self._is_valid(instance):
            return []
        errors: Iterator[Any] = self._validator.iter_errors(instance)
        return [_describe(error) for error in islice(errors, _SHOWN_ERRORS)]

    def refuse(self, key: str, value: bytes) -> None:
        """Raise ``schema_violation`` unless ``value`` fits."""
        if violations := self.violations(value):
            raise violation_error(key, self.pattern, violations)


def violation_error(key: str, pattern: str, violations: list[dict[str, Any]]) -> ProtocolError:
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


def check_registration(text: bytes, limits: Limits) -> None:
    """Refuse a schema that cannot be relied on.

    Raises:
        ProtocolError: ``invalid_schema`` or ``too_large``, with what to mend.
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
    schema = json.loads(text)
    if not isinstance(schema, dict | bool):
        raise _invalid("it must be an object, true or false")
    _compile(text)
    _check_by_reference(schema)


def _check_by_reference(schema: dict[str, Any] | bool) -> None:
    # jsonschema would check patterns in Python's dialect, which is not the one that runs here.
    try:
        _reference_class(schema).check_schema(schema, format_checker=None)
    except jsonschema.SchemaError as error:
        path = _pointer(error.absolute_path)
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


def _compile(text: bytes) -> jsonschema_rs.Validator:
    schema = json.loads(text)
    engine = _DRAFTS[_reference_class(schema)]
    try:
        return engine(
            text.decode(),
            pattern_options=_LINEAR_TIME,
            retriever=_refuse_retrieval,
            validate_formats=False,
        )
    except jsonschema_rs.ValidationError as error:
        raise _compile_error(error) from None
    except (ValueError, RecursionError) as error:
        raise _invalid(str(error)) from None


def _compile_error(error: jsonschema_rs.ValidationError) -> ProtocolError:
    path = _pointer(error.instance_path)
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
    return _invalid(f"at {path or 'its root'}: {error.message}", path=path)


def _refuse_retrieval(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not part of the schema")


def _invalid(detail: str, **extra: Any) -> ProtocolError:
    return ProtocolError(
        "invalid_schema", f"the schema cannot be registered: {detail}", field="schema", **extra
    )


def _describe(error: jsonschema_rs.ValidationError) -> dict[str, Any]:
    members = error.kind.as_dict()
    return {
        "path": _pointer(error.instance_path),
        "rule": error.kind.name,
        "expected": _plain(next(iter(members.values()), None)),
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


def _pointer(path: Any) -> str:
    """Write a path as an RFC 6901 pointer."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
