"""The conformance suite's fixtures, played by memX: their names on the wire, memX's own answers behind them.

Some scenarios call tools, resources and prompts of fixed names. Each of these stands for something of memX's that does
what the scenario is about; only names are exchanged in what goes in and comes out, everything else is memx-mcp's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOOLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "test_simple_text": ("memx_get", {"key": "static-text"}),
    "test_error_handling": ("memx_get", {"key": "no*key"}),
    "test_tool_with_progress": ("memx_wait", {"pattern": "never", "timeout": 7}),
}
PROMPTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "test_simple_prompt": ("summarise_changes", {}),
    "test_prompt_with_arguments": ("resolve_conflict", {"arg1": "key", "arg2": "intention"}),
}
RESOURCES: Mapping[str, str] = {
    "test://static-text": "memx://key/static-text",
    "test://template/123/data": "memx://key/template%2F123%2Fdata",
    "test://watched-resource": "memx://key/watched",
}
VALUES: Mapping[str, Any] = {"static-text": "some text", "template/123/data": {"id": "123"}}


def with_fixtures(app: ASGIApp) -> ASGIApp:
    """Wrap an MCP endpoint so that it knows the fixtures' names."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        body = await _body(receive) if scope["method"] == "POST" else None
        if body is None:
            await app(scope, receive, send)
            return
        text = json.dumps(_translated(json.loads(body))).encode()
        headers = [_header(name, value, len(text)) for name, value in scope["headers"]]
        await app({**scope, "headers": headers}, _replay(text, receive), _named_back(send))

    return wrapped


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _translated(request: Any) -> Any:
    params = request.get("params") if isinstance(request, dict) else None
    if not isinstance(params, dict):
        return request
    if request["method"] == "tools/call" and params.get("name") in TOOLS:
        params["name"], params["arguments"] = TOOLS[params["name"]]
    elif request["method"] == "prompts/get" and params.get("name") in PROMPTS:
        params["name"], names = PROMPTS[params["name"]]
        params["arguments"] = {names[n]: v for n, v in params.get("arguments", {}).items()}
    elif params.get("uri") in RESOURCES:
        params["uri"] = RESOURCES[params["uri"]]
    return request


def _header(name: bytes, value: bytes, length: int) -> tuple[bytes, bytes]:
    """Exchange what repeats a part of the body (SEP-2243), as the later protocol demands."""
    if name == b"content-length":
        return name, str(length).encode()
    if name == b"mcp-name":
        text = value.decode()
        named = {**TOOLS, **PROMPTS}.get(text, (RESOURCES.get(text, text), {}))[0]
        return name, named.encode()
    return name, value


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _named_back(send: Send) -> Callable[[Message], Any]:
    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(n, v) for n, v in message["headers"] if n != b"content-length"]
            message = {**message, "headers": kept}
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            for theirs, ours in RESOURCES.items():
                body = body.replace(ours.encode(), theirs.encode())
            message = {**message, "body": body}
        await send(message)

    return named
