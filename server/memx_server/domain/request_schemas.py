"""The JSON Schemas of parts of requests, for the OpenAPI document.

They say what a schema can say. What it cannot say is checked where the part is used: lengths in bytes,
and what depends on the present state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from memx_sdk.protocol.keys import MAX_KEY_BYTES
from memx_server.settings import Limits

Schema = dict[str, Any]

_CONTROL: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_TEXT: Final = {"minLength": 1, "maxLength": MAX_KEY_BYTES}

KEY_FORM: Final[Schema] = {**_TEXT, "pattern": rf"^[^{_CONTROL}*?\[\]]+$"}
PATTERN_FORM: Final[Schema] = {
    **_TEXT,
    "pattern": rf"^([^{_CONTROL}\[\]]|\[[^{_CONTROL}\[\]]+\])+$",
}
CURSOR_FORM: Final[Schema] = {"pattern": "^[0-9a-z]{1,32}-[0-8]?[0-9]{1,15}$"}
ITEMS: Final[Schema] = {"type": "array", "items": {}}

_POINTER: Final = {"type": "string", "pattern": "^(/([^/~]|~[01])*)*$"}


def _patch_operation(*names: str, **members: Schema) -> Schema:
    properties = {"op": {"enum": list(names)}, "path": _POINTER, **members}
    return {"type": "object", "properties": properties, "required": list(properties)}


PATCH_FORM: Final[Schema] = {
    "type": "array",
    "maxItems": 1000,
    "items": {
        "anyOf": [
            _patch_operation("add", "replace", "test", value={}),
            _patch_operation("remove"),
            _patch_operation("move", "copy", **{"from": _POINTER}),
        ]
    },
}

_LIMIT: Final = "x-memx-limit"
_KEYWORDS: Final = {
    "page": "maximum",
    "keys_per_read": "maxItems",
    "transaction_operations": "maxItems",
    "reason_bytes": "maxLength",
}

UPDATES: Final[Mapping[str, tuple[str, ...]]] = {
    "merge": ("ttl",),
    "patch": ("ttl",),
    "increment": ("minimum", "maximum", "ttl"),
    "append": ("cap", "ttl"),
    "touch": (),
}
"""The kinds of update, of which a request asks for exactly one, each with its own options."""

COMPARES: Final = ("revision", "version", "exists", "value")
"""The properties of an entry that a compare can test; each compare tests exactly one."""

_EXCLUSIVE: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "UpdateRequest": UPDATES,
    "CompareRequest": dict.fromkeys(COMPARES, ()),
}


def limited(limit: str) -> Schema:
    """Mark a part that a limit of the server's settings bounds."""
    return {_LIMIT: limit}


def with_limits(schema: Any, limits: Limits) -> Any:
    """Return ``schema`` with the numbers of ``limits`` where it is ``limited``."""
    if isinstance(schema, list):
        return [with_limits(each, limits) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: with_limits(part, limits) for name, part in schema.items() if name != _LIMIT}
    if limit := schema.get(_LIMIT):
        found[_KEYWORDS[limit]] = getattr(limits, limit)
    return found


def with_choices(name: str, schema: Schema) -> Schema:
    """Return the schema of the request ``name`` with its exclusive members apart."""
    kinds = _EXCLUSIVE.get(name)
    if kinds is None:
        return schema
    special = {*kinds, *(option for options in kinds.values() for option in options)}
    common = {each: part for each, part in schema["properties"].items() if each not in special}
    choices = [
        {
            "title": kind,
            "type": "object",
            "properties": common | {each: schema["properties"][each] for each in (kind, *options)},
            "required": [*schema["required"], kind],
            "additionalProperties": False,
        }
        for kind, options in kinds.items()
    ]
    about = {each: part for each, part in schema.items() if each in ("title", "description")}
    return {**about, "oneOf": choices}
