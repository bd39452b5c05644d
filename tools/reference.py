"""The references that are made from the code: operations, frames, the SDK, errors, commands, settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import msgspec
import typer
from memx_server.app import create_app
from memx_server.routes.ws.frames import BY_NAME, CONTROLS
from memx_server.settings import Settings

from memx_sdk import __version__
from memx_sdk.cli.app import build

SDK = """# The SDK

`AsyncMemxContext` has the calls of `memxContext`, each with `await`.

::: memx_sdk.memxContext

## What comes back

::: memx_sdk.models
    options:
      show_root_heading: false
      heading_level: 3

## Subscriptions

::: memx_sdk.Subscription
    options:
      heading_level: 3
"""
ERRORS = """# Errors

::: memx_sdk.errors
    options:
      show_root_heading: false
"""
SETTINGS = """# Settings

The environment variables are [on the server's page](../server.md#settings). This is what they become:

::: memx_server.settings.Settings

::: memx_server.settings.Limits
"""


def pages() -> Iterator[tuple[str, str]]:
    """Yield each page of the reference with its name."""
    yield "sdk.md", SDK
    yield "errors.md", ERRORS
    yield "settings.md", SETTINGS
    yield "http.md", http_page()
    yield "websocket.md", websocket_page()
    yield "commands.md", commands_page()


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document that a server with the default settings shows."""
    app = create_app(Settings(store_url=f"sqlite:{Path(gettempdir(), 'memx-never-opened.db')}"))
    document: dict[str, Any] = app.openapi()
    return document


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document of ``/ws``: every operation of the HTTP API as a frame, and the controls.

    The operations' members are those of OpenAPI; what only a socket has comes from the types that decode its frames.
    """
    http = openapi()
    own, schemas = msgspec.json.schema_components(
        CONTROLS.values(), ref_template="#/components/schemas/{name}"
    )
    schemas = {**http["components"]["schemas"], **schemas}
    asked = dict(zip(CONTROLS, own, strict=True))
    for path in http["paths"].values():
        for operation in path.values():
            if operation["operationId"] in BY_NAME:
                asked[operation["operationId"]] = _members(operation)
    messages: dict[str, Any] = {
        f"{name}_request": {"name": name, "payload": _frame(name, _resolved(schema, schemas))}
        for name, schema in sorted(asked.items())
    }
    messages["answer"] = {"name": "answer", "payload": _ANSWER}
    messages["event"] = {"name": "event", "payload": _EVENT}
    refs = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    channel = {"$ref": "#/channels/socket"}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "memX over a WebSocket",
            "version": __version__,
            "license": {"name": "MIT"},
            "description": "Requests and subscriptions on one socket. Frames are JSON texts.",
        },
        "servers": {"local": {"host": "127.0.0.1:8000", "protocol": "ws"}},
        "channels": {"socket": {"address": "/ws", "messages": refs}},
        "operations": {
            "ask": {"action": "receive", "channel": channel, "messages": _of(refs, "_request")},
            "answer": {"action": "send", "channel": channel, "messages": _of(refs, "answer")},
            "tell": {"action": "send", "channel": channel, "messages": _of(refs, "event")},
        },
        "components": {"messages": messages, "schemas": schemas},
    }


_ID = {"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 64}]}
_ANSWER = {
    "type": "object",
    "description": "What the operation answers over HTTP, or an error.",
    "required": ["id", "ok"],
    "properties": {
        "id": {"oneOf": [*_ID["oneOf"], {"type": "null"}]},
        "ok": {"type": "boolean"},
        "error": {"type": "string"},
        "detail": {"type": "string"},
    },
}
_EVENTS = ["value", "schema", "live", "mark", "reset", "end", "presence"]
_EVENT = {
    "type": "object",
    "required": ["event"],
    "properties": {
        "sub": {
            "type": "integer",
            "description": "The subscription; hello, the first frame, has none.",
        },
        "event": {"enum": ["hello", *_EVENTS]},
        "cursor": {"type": "string"},
        "more": {"const": True},
        "snapshot": {"const": True},
    },
}


def _frame(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a request's frame: what the operation takes, and what every frame has."""
    if "oneOf" in schema:
        return {**schema, "oneOf": [_frame(name, each) for each in schema["oneOf"]]}
    own = {"id": _ID, "op": {"const": name}, "idempotency_key": {"type": "string"}}
    return {
        **schema,
        "properties": {**own, **schema.get("properties", {})},
        "required": ["id", "op", *schema.get("required", ())],
    }


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return dict(schemas[name]) if name else schema


def _of(refs: dict[str, Any], ending: str) -> list[dict[str, str]]:
    return [
        {"$ref": f"#/channels/socket/messages/{name}"} for name in refs if name.endswith(ending)
    ]


def _members(operation: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of what an operation is given: its body, or its query as an object."""
    body = operation.get("requestBody")
    if body:
        schema: dict[str, Any] = body["content"]["application/json"]["schema"]
        return schema
    query = [each for each in operation.get("parameters", ()) if each["in"] == "query"]
    return {
        "type": "object",
        "required": [each["name"] for each in query if each.get("required")],
        "properties": {each["name"]: _schema_of(each) for each in query},
        "additionalProperties": False,
    }


def _schema_of(parameter: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter; one that is JSON in a URL has it under its content type."""
    content = parameter.get("content", {})
    schema: dict[str, Any] = (
        content["application/json"]["schema"] if content else parameter["schema"]
    )
    return schema


def http_page() -> str:
    """Return the page of all HTTP operations."""
    lines = [
        "# Each HTTP operation",
        "",
        "As programs read it: `openapi.json`, at the site's root.",
        "",
    ]
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            lines += [f"## {method.upper()} {path}", "", f"{operation.get('summary', '')}.", ""]
            lines += [operation.get("description", ""), ""]
            lines += _table(_rows(operation))
            answers = operation.get("responses", {})
            lines += ["Answers: " + ", ".join(f"`{code}`" for code in answers) + ".", ""]
    return "\n".join(lines)


def _rows(operation: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    schemas = openapi_schemas()
    for each in operation.get("parameters", ()):
        if each["in"] == "query":
            yield each["name"], _kind(_schema_of(each)), each.get("description", "")
    body = operation.get("requestBody")
    if body:
        schema = body["content"]["application/json"]["schema"]
        resolved = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
        for name, member in resolved.get("properties", {}).items():
            yield name, _kind(member), member.get("description", "")


def openapi_schemas() -> dict[str, Any]:
    """Return the schemas that the OpenAPI document refers to."""
    schemas: dict[str, Any] = openapi()["components"]["schemas"]
    return schemas


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    return str(schema.get("type", "any JSON"))


def _table(rows: Iterator[tuple[str, str, str]]) -> list[str]:
    found = [f"| `{name}` | {kind} | {_cell(text)} |" for name, kind, text in rows]
    return ["| member | type | meaning |", "|---|---|---|", *found, ""] if found else []


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def websocket_page() -> str:
    """Return the page of the frames of ``/ws``."""
    names = ", ".join(
        f"`{each['name']}`"
        for name, each in asyncapi()["components"]["messages"].items()
        if name.endswith("_request")
    )
    return f"""# The WebSocket

[The feed](../feed.md#ws) tells how `/ws` behaves. As programs read it: `asyncapi.json`, at the site's root,
AsyncAPI 3.0 with every frame's schema. A server's requests are {names}.

A request for `subscribe`:

```json
{json.dumps(asyncapi()["components"]["schemas"].get("SubscribeRequest", {}), indent=2)}
```
"""


def commands_page() -> str:
    """Return the page of all commands, as ``--help`` knows them."""
    command: Any = typer.main.get_command(build())
    return "\n".join(["# Commands", "", *_command(command, "memx", 2)])


def _command(command: Any, name: str, level: int) -> Iterator[str]:
    if level > 2:
        yield from (f"{'#' * (level - 1)} {name}", "", command.help or "", "")
    for each in command.params:
        names = " ".join(f"`{option}`" for option in each.opts) or f"`{each.name}`"
        text = getattr(each, "help", None)
        if text:
            yield f"- {names}: {_cell(text)}"
    yield ""
    for child in getattr(command, "commands", {}).values():
        if not child.hidden:
            yield from _command(child, f"{name} {child.name}", level + 1)
