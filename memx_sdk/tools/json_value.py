"""JSON values in what tools take, return and show."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import JsonValue as PydanticJsonValue
from pydantic.json_schema import WithJsonSchema

from memx_sdk.display import one_line_json

_SCALARS = [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]
_OBJECT = {"type": "object"}
_LIST = {"type": "array", "items": {"anyOf": [*_SCALARS, _OBJECT]}}

JsonValue = Annotated[
    PydanticJsonValue, WithJsonSchema({"anyOf": [*_SCALARS, _OBJECT, _LIST]}, mode="validation")
]
"""Any JSON value.

Its schema names the types, since hosts send what has none as text. It stands where it is used, not behind a ``$ref``,
and gives ``items`` of its own to each list, since strict providers refuse the one and want the other; a schema
without references can describe lists in lists only so far, but every JSON value is taken.
"""

JsonObject = Annotated[dict[str, PydanticJsonValue], WithJsonSchema(_OBJECT, mode="validation")]
"""Any JSON object."""

JsonList = Annotated[list[PydanticJsonValue], WithJsonSchema(_LIST, mode="validation")]
"""Any JSON list."""

JsonResult = Annotated[PydanticJsonValue, WithJsonSchema({})]
"""Any JSON value in a result: hosts check results against the schema, so it says nothing that is not always so."""


def one_line(value: Any) -> str:
    """Write a value as JSON on one line, so that nothing in it can pass for text around it.

    Line breaks of every kind, marks that turn the direction of text, and characters that cannot be seen are
    written as escapes of JSON, which any reader of JSON undoes.
    """
    return one_line_json(value)
