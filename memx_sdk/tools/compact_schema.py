"""The JSON Schemas of tools: each character costs every agent tokens, and strict providers refuse some forms."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


class CompactJsonSchema(GenerateJsonSchema):
    """Generates schemas without titles, defaults that say nothing, and docstrings of programmers."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Give no member a title: it would repeat its name."""
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave out a default that says nothing: null, 0, false, no text, no items."""
        described = super().default_schema(schema)
        if not described.get("default"):
            described.pop("default", None)
        return described

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Describe an object without the name of its class and its docstring."""
        described = super().model_schema(schema)
        described.pop("title", None)
        described.pop("description", None)
        return described


class ArgumentsJsonSchema(CompactJsonSchema):
    """Generates schemas of arguments, without the null that only says that one may be left out.

    A null is still taken for an argument that was left out: hosts send it. That a schema need not say so saves a
    fourth of it, and providers that know no null take the schema as well.
    """

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Describe only what may be there."""
        return self.generate_inner(schema["schema"])


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Put each definition in the place of the references to it, which strict providers refuse.

    Args:
        schema: Of a model that does not refer to itself; its ``$defs`` are taken out of it.
    """
    # Taken out first: with every reference replaced nothing names them any more.
    definitions = schema.pop("$defs", {})
    whole: dict[str, Any] = _inlined(schema, definitions)
    return whole


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(reference := schema.get("$ref"), str):
        # What stands beside a reference, such as a description of this use, goes before what the
        # definition says.
        rest = {name: part for name, part in schema.items() if name != "$ref"}
        return _inlined({**definitions[reference.rpartition("/")[2]], **rest}, definitions)
    return {name: _inlined(part, definitions) for name, part in schema.items()}
