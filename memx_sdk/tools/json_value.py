"""JSON values in what tools take, return and show."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic import JsonValue as PydanticJsonValue

from memx_sdk.display import one_line_json

_SCALARS = [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]
_OBJECT = {"type": "object"}
_LIST = {"type": "array", "items": {"anyOf": [*_SCALARS, _OBJECT]}}


def from_json_text(value: Any) -> Any:
    """Read a text that is plainly the JSON of an object or a list; whatever else it is comes back as it is.

    Some hosts send objects and lists as strings. Where an argument takes nothing else, what they mean is plain.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value, object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError):
        # Not JSON after all, or nested without end: the validation of the argument says what it takes.
        return value


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    # Which of two members of one name is meant nobody can tell, so the text is not understood.
    if len(found) != len(members):
        raise ValueError("a name comes twice")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def is_json_text(value: Any) -> bool:
    """Whether a value is a text that holds the JSON of an object or a list."""
    return from_json_text(value) is not value


JsonValue = Annotated[
    PydanticJsonValue, WithJsonSchema({"anyOf": [*_SCALARS, _OBJECT, _LIST]}, mode="validation")
]
"""Any JSON value.

Its schema names the types, since hosts send what has none as text. It stands where it is used, not behind a ``$ref``,
and gives ``items`` of its own to each list, since strict providers refuse the one and want the other; a schema
without references can describe lists in lists only so far, but every JSON value is taken.
"""

JsonObject = Annotated[
    dict[str, PydanticJsonValue],
    BeforeValidator(from_json_text),
    WithJsonSchema(_OBJECT, mode="validation"),
]
"""Any JSON object; its JSON text is understood."""

JsonList = Annotated[
    list[PydanticJsonValue],
    BeforeValidator(from_json_text),
    WithJsonSchema(_LIST, mode="validation"),
]
"""Any JSON list; its JSON text is understood."""

JsonResult = Annotated[PydanticJsonValue, WithJsonSchema({})]
"""Any JSON value in a result: hosts check results against the schema, so it says nothing that is not always so."""


def one_line(value: Any) -> str:
    """Write a value as JSON on one line, so that nothing in it can pass for text around it.

    Line breaks of every kind, marks that turn the direction of text, and characters that cannot be seen are
    written as escapes of JSON, which any reader of JSON undoes.
    """
    return one_line_json(value)
