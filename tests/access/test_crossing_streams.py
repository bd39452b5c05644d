"""What subscriptions and the MCP endpoint show, crossed with two tenants and every kind of scopes."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

import httpx
import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from memx_mcp.uris import uri_of
from memx_server.routes.streaming.subscribe_request import SubscribeRequest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.access.crossing import HIDDEN, KEYS, KINDS, OPEN, ROLES, SHUT, TOOLS, Tenant, may, shown
from tests.support.memx_server import Served

EVENTS = ("value", "schema", "all", "presence")
PATTERNS = (SHUT, OPEN, "shut:*", "*")
STARTS: tuple[dict[str, str], ...] = ({}, {"snapshot": "true"}, {"since": "now"})
QUIET = 0.4
"""Seconds of silence after which a stream has told what it had to tell."""


@pytest.fixture(scope="module")
def tenants(served: Served) -> Iterator[tuple[Tenant, Tenant]]:
    one, other = Tenant(served, "one"), Tenant(served, "other")
    yield one, other
    one.close()
    other.close()


@dataclass
class Stream:
    """One subscription: what opened it, and what came."""

    role: str
    event: str
    pattern: str
    start: dict[str, str]
    heard: list[str] = field(default_factory=list)

    @property
    def permitted(self) -> bool:
        exact = "*" not in self.pattern and self.event != "presence"
        return bool(ROLES[self.role]["read"]) and (
            not exact or may(self.role, "read", self.pattern)
        )

    @property
    def hidden(self) -> tuple[str, ...]:
        kinds = HIDDEN[self.role]
        return tuple(k for k in kinds if k != "writer") if self.event == "presence" else kinds


def every_stream() -> list[Stream]:
    combinations = itertools.product(ROLES, EVENTS, PATTERNS, STARTS)
    return [Stream(*each) for each in combinations]


def test_every_kind_of_event_is_crossed() -> None:
    hints = get_type_hints(SubscribeRequest)
    assert set(EVENTS) == set(get_args(hints["event"]))


def check(streams: list[Stream], tenant: Tenant, other: Tenant) -> None:
    for stream in streams:
        text = "\n".join(stream.heard)
        assert shown(text, tenant, stream.hidden) == [], (stream, text)
        assert shown(text, other) == [], (stream, text)
        if not stream.permitted:
            assert "forbidden" in text, (stream, text)
    heard = [s for s in streams if s.role == "reader" and s.event == "all" and s.pattern == "*"]
    assert heard
    for stream in heard:
        assert "value" in shown("\n".join(stream.heard), tenant), stream


async def stir(tenant: Tenant, other: Tenant) -> None:
    """Change everything in both spaces."""
    for each in (tenant, other):
        await asyncio.to_thread(each.plant)


async def _hear(socket: ClientConnection, heard: list[str]) -> None:
    with suppress(TimeoutError):
        while True:
            heard.append(str(await asyncio.wait_for(socket.recv(), QUIET)))


async def test_multiplexed(served: Served, tenants: tuple[Tenant, Tenant]) -> None:
    tenant, other = tenants
    streams = every_stream()
    address = served.url.replace("http", "ws", 1) + "/ws"
    async with AsyncExitStack() as stack:
        sockets: dict[str, ClientConnection] = {}
        for role in ROLES:
            headers = {"x-api-key": tenant.keys[role]}
            sockets[role] = await stack.enter_async_context(
                connect(address, additional_headers=headers)
            )
        for number, stream in enumerate(streams):
            start = {name: True if v == "true" else v for name, v in stream.start.items()}
            asked = {"pattern": stream.pattern, "event": stream.event, **start}
            await sockets[stream.role].send(json.dumps({"id": number, "op": "subscribe", **asked}))
        frames: dict[str, list[str]] = {role: [] for role in ROLES}
        await asyncio.gather(*(_hear(sockets[role], frames[role]) for role in ROLES))
        await stir(tenant, other)
        await asyncio.gather(*(_hear(sockets[role], frames[role]) for role in ROLES))
    for role, texts in frames.items():
        numbers: dict[int, Stream] = {}
        for frame, text in ((json.loads(text), text) for text in texts):
            if "id" in frame:
                stream = streams[frame["id"]]
                if frame["ok"]:
                    numbers[frame["sub"]] = stream
                stream.heard.append(text)
            elif "sub" in frame:
                numbers[frame["sub"]].heard.append(text)
            else:
                assert frame["event"] == "hello", (role, text)
    check(streams, tenant, other)


async def test_a_socket_each(served: Served, tenants: tuple[Tenant, Tenant]) -> None:
    tenant, other = tenants
    streams = [s for s in every_stream() if s.event in ("all", "presence")]
    base = served.url.replace("http", "ws", 1)

    async def follow(stream: Stream, opened: asyncio.Event, stirred: asyncio.Event) -> None:
        query = httpx.QueryParams({"event": stream.event, **stream.start})
        headers = {"x-api-key": tenant.keys[stream.role]}
        address = f"{base}/subscribe/{stream.pattern}?{query}"
        try:
            async with connect(address, additional_headers=headers) as socket:
                opened.set()
                await stirred.wait()
                await _hear(socket, stream.heard)
        except InvalidStatus as refused:
            stream.heard.append((refused.response.body or b"").decode())
            opened.set()

    await _follow_all(streams, follow, tenant, other)
    check(streams, tenant, other)


async def test_server_sent_events(served: Served, tenants: tuple[Tenant, Tenant]) -> None:
    tenant, other = tenants
    streams = [s for s in every_stream() if s.event in ("all", "presence")]
    limits = httpx.Limits(max_connections=None)

    async with httpx.AsyncClient(base_url=served.url, verify=False, limits=limits) as http:

        async def follow(stream: Stream, opened: asyncio.Event, stirred: asyncio.Event) -> None:
            query = {"pattern": stream.pattern, "event": stream.event, **stream.start}
            headers = {"x-api-key": tenant.keys[stream.role], "accept": "text/event-stream"}
            async with http.stream("GET", "/changes", params=query, headers=headers) as answer:
                opened.set()
                if answer.status_code != 200:
                    assert answer.status_code == 403
                    stream.heard.append((await answer.aread()).decode())
                    return
                await stirred.wait()
                lines = answer.aiter_lines()
                with suppress(TimeoutError, StopAsyncIteration):
                    while True:
                        stream.heard.append(await asyncio.wait_for(anext(lines), QUIET))

        await _follow_all(streams, follow, tenant, other)
    check(streams, tenant, other)


async def _follow_all(streams: list[Stream], follow: Any, tenant: Tenant, other: Tenant) -> None:
    stirred = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            opened = asyncio.Event()
            group.create_task(follow(stream, opened, stirred))
            async with asyncio.timeout(30):
                await opened.wait()
        await stir(tenant, other)
        stirred.set()


@pytest.mark.parametrize("role", [*ROLES, "stranger"])
async def test_mcp(served: Served, tenants: tuple[Tenant, Tenant], role: str) -> None:
    tenant, other = tenants
    key = other.keys["owner"] if role == "stranger" else tenant.keys[role]
    told: dict[str, str] = {}
    before = tenant.state()
    async with httpx2.AsyncClient(headers={"x-api-key": key}, timeout=30) as http:
        transport = streamable_http_client(f"{served.url}/mcp", http_client=http)
        async with Client(transport, mode="auto") as client:
            for name, arguments in TOOLS.items():
                filled = json.loads(json.dumps(arguments).replace("KEY", SHUT))
                told[name] = await _text(client.call_tool(name, filled))
            told["resources"] = await _text(client.list_resources())
            for reached in KEYS:
                told[f"resource {reached}"] = await _text(client.read_resource(uri_of(reached)))
    hidden = HIDDEN.get(role, KINDS)
    for what, text in told.items():
        assert shown(text, tenant, hidden) == [], (what, text)
        if role != "stranger":
            assert shown(text, other) == [], (what, text)
    if role in ("stranger", "nobody", "reader"):
        assert tenant.state() == before
    for each in tenants:
        each.plant()


async def _text(asked: Any) -> str:
    try:
        return str(await asked)
    except MCPError as error:
        return f"{error} {error.error}"
