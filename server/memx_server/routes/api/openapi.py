"""The OpenAPI document: the table's operations, described by their own structs."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from fastapi import FastAPI

from memx_sdk.protocol.durability import HEADER, Durability
from memx_sdk.protocol.errors import STATUS_BY_CODE
from memx_server.domain.request_schemas import with_choices, with_limits
from memx_server.routes.api import response_schemas
from memx_server.routes.api.operation import Operation
from memx_server.routes.api.operations import OPERATIONS
from memx_server.settings import Limits

_REF = "#/components/schemas/{name}"
_ANY_REQUEST = (
    "invalid_request",
    "unauthenticated",
    "forbidden",
    "rate_limited",
    "internal",
    "unavailable",
)
_WITH_BODY = ("invalid_json", "unsupported_media_type", "too_large")

_HEADER_TEXT = "^[!-~]([ -~]*[!-~])?$"
"""Printable; HTTP takes spaces at the ends away."""

_AGENT = {
    "name": "x-memx-agent",
    "in": "header",
    "description": "What the caller calls itself; it becomes part of the writer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": _HEADER_TEXT},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Sent again within 24 hours, the write is applied once and answers the same.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": _HEADER_TEXT},
}

_DURABILITY = {
    "name": HEADER,
    "in": "header",
    "description": "How safe the write is to be when it is answered: in the store's memory, on a replica, on "
    "its disk. `confirmed` says whether it is.",
    "schema": {"type": "string", "enum": list(get_args(Durability))},
}


def describe(app: FastAPI, limits: Limits) -> None:
    """Make ``app`` document the table's operations beside its own routes."""
    of_framework = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:  # it is made at the first request for it, and kept
            app.openapi_schema = with_limits(with_operations(of_framework()), limits)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def with_operations(document: dict[str, Any]) -> dict[str, Any]:
    """Add the table's operations to an OpenAPI document."""
    types = [each.request for each in OPERATIONS if each.method == "POST"]
    answers = [each.answer for each in OPERATIONS]
    schemas, components = msgspec.json.schema_components(
        [*types, *answers, response_schemas.ErrorResponse], ref_template=_REF
    )
    answer_schemas = dict(zip((op.name for op in OPERATIONS), schemas[len(types) :], strict=False))
    paths = document.setdefault("paths", {})
    for operation in OPERATIONS:
        described = _describe(operation, answer_schemas[operation.name])
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {}).update(
        {name: with_choices(name, schema) for name, schema in components.items()}
    )
    parts["securitySchemes"] = {
        "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    return document


def _describe(operation: Operation, answer: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": ["memory"],
        "security": [{"api_key": []}, {"bearer": []}],
        "parameters": [_AGENT, *([_IDEMPOTENCY_KEY, _DURABILITY] if operation.writes else [])],
        "responses": _responses(operation, answer),
    }
    if operation.method == "POST":
        name = operation.request.__name__
        described["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": _REF.format(name=name)},
                    "example": operation.example,
                }
            },
        }
    else:
        described["parameters"] += _query_parameters(operation)
    return described


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    schema = msgspec.json.schema(operation.request)
    struct = schema["$defs"][operation.request.__name__]
    parameters = []
    for name, member in struct.get("properties", {}).items():
        member = _without_null(member)
        parameter = {
            "name": name,
            "in": "query",
            "required": name in struct.get("required", ()),
        }
        if member.get("type") == "object":
            parameter["content"] = {"application/json": {"schema": member}}
        else:
            parameter["schema"] = member
        if "description" in member:
            parameter["description"] = member["description"]
        if name in operation.example:
            parameter["example"] = operation.example[name]
        parameters.append(parameter)
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out is never null or empty in a query."""
    alternatives = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(alternatives) == 1:
        return dict(alternatives[0])
    return {
        name: value
        for name, value in schema.items()
        if name != "default" or value not in (None, "")
    }


def _responses(operation: Operation, answer: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {
            "description": "Done",
            "content": {"application/json": {"schema": answer}},
        }
    }
    by_status: dict[int, list[str]] = {}
    codes = (*operation.errors, *_ANY_REQUEST, *(_WITH_BODY if operation.method != "GET" else ()))
    if operation.writes:
        codes += ("idempotency_mismatch",)
    for code in dict.fromkeys(codes):
        by_status.setdefault(STATUS_BY_CODE[code], []).append(code)
    for status, names in sorted(by_status.items()):
        responses[str(status)] = {
            "description": " or ".join(f"`{name}`" for name in names),
            "content": {
                "application/json": {"schema": {"$ref": _REF.format(name="ErrorResponse")}}
            },
        }
    return responses
