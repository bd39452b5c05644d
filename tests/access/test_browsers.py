"""Tickets, origins and CORS: what browsers need, and what pages of others must not get."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from memx_server.routes.api.origin_checks import check_origin
from memx_server.settings import Settings
from memx_server.storage.sqlite import SqliteStore
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from memx_sdk import AsyncMemxContext
from memx_sdk.protocol.errors import ProtocolError
from tests.support.memx_server import MemxServer, Served, serve_store


def _ticket(served: Served, key: str, agent: str | None = None) -> str:
    headers = {"x-api-key": key, **({"x-memx-agent": agent} if agent else {})}
    answer = httpx.post(f"{served.url}/ticket", json={}, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == 30
    return str(answer.json()["ticket"])


def _socket(served: Served, path: str) -> str:
    return served.url.replace("http", "ws") + path


async def test_a_ticket_opens_one_socket_as_its_owner(served: Served) -> None:
    key = served.fresh_key(agent="ann", read=("a",), write=("a",))
    ticket = _ticket(served, key, "browser")
    async with connect(_socket(served, f"/ws?ticket={ticket}")) as ws:
        hello = json.loads(await ws.recv())
        assert hello["principal"] == "ann"
        await ws.send(json.dumps({"id": 1, "op": "set", "key": "a", "value": 1}))
        assert json.loads(await ws.recv())["ok"]
        await ws.send(json.dumps({"id": 2, "op": "get", "key": "a"}))
        assert json.loads(await ws.recv())["entry"]["writer"] == "ann/browser"
        await ws.send(json.dumps({"id": 3, "op": "get", "key": "b"}))
        assert json.loads(await ws.recv())["error"] == "forbidden"
    with pytest.raises(InvalidStatus) as refused:
        await connect(_socket(served, f"/ws?ticket={ticket}"))
    assert refused.value.response.status_code == 403


async def test_a_ticket_is_redeemed_by_one_of_many(served: Served) -> None:
    ticket = _ticket(served, served.fresh_key())

    async def attempt() -> bool:
        try:
            async with connect(_socket(served, f"/subscribe/x?ticket={ticket}")):
                return True
        except InvalidStatus:
            return False

    assert sum(await asyncio.gather(*(attempt() for _ in range(8)))) == 1


async def test_a_ticket_opens_an_event_stream(served: Served) -> None:
    key = served.fresh_key()
    async with AsyncMemxContext(key, served.url) as memx:
        await memx.set("a", 1)
    query = {"ticket": _ticket(served, key), "pattern": "a"}
    async with (
        httpx.AsyncClient(headers={"accept": "text/event-stream"}) as client,
        client.stream("GET", f"{served.url}/changes", params=query) as answer,
    ):
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                assert json.loads(line[5:])["key"] == "a"
                break


async def test_a_ticket_of_a_revoked_key_and_a_made_up_one_open_nothing(served: Served) -> None:
    key = served.fresh_key()
    ticket = _ticket(served, key)
    served.keys.remove(key)
    for bad in (ticket, "made-up", ""):
        with pytest.raises(InvalidStatus) as refused:
            await connect(_socket(served, f"/ws?ticket={bad}"))
        assert refused.value.response.status_code in (401, 403)


def test_a_ticket_needs_an_api_key_and_is_none(served: Served) -> None:
    assert httpx.post(f"{served.url}/ticket", json={}).status_code == 401
    ticket = _ticket(served, served.fresh_key())
    answer = httpx.get(f"{served.url}/whoami", headers={"x-api-key": ticket})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        (None, None, 101),
        ("own", None, 101),
        ("https://evil.example", None, 403),
        ("null", None, 403),
        ("http://evil.example:8000", "evil.example:8000", 403),  # DNS rebinding
    ],
)
async def test_only_the_servers_own_pages_connect(
    served: Served, origin: str | None, host: str | None, status: int
) -> None:
    headers = {"x-api-key": served.fresh_key()}
    named = Origin(served.url if origin == "own" else origin) if origin else None
    own = urlsplit(served.url)
    opening = connect(
        f"ws://{host or own.netloc}/ws",
        host=own.hostname,
        port=own.port,
        additional_headers=headers,
        origin=named,
    )
    if status == 101:
        async with opening as ws:
            assert json.loads(await ws.recv())["event"] == "hello"
    else:
        with pytest.raises(InvalidStatus) as refused:
            await opening
        assert refused.value.response.status_code == status


@pytest.mark.parametrize(
    ("origin", "host", "opens"),
    [
        # A browser leaves the default port away, and a proxy may put it into Host.
        ("https://memory.example.com", "memory.example.com:443", True),
        ("http://memory.example.com:80", "memory.example.com", True),
        ("https://memory.example.com", "memory.example.com", True),
        ("https://memory.example.com", "memory.example.com:80", False),
        ("https://memory.example.com:8443", "memory.example.com", False),
        ("https://other.example.com", "memory.example.com:443", False),
        ("https://memory.example.com", "user@memory.example.com:443", False),
        ("https://memory.example.com:x", "memory.example.com", False),
    ],
)
def test_default_ports_are_the_same_origin(origin: str, host: str, opens: bool) -> None:
    scope = {"headers": [(b"origin", origin.encode()), (b"host", host.encode())]}
    if opens:
        check_origin(scope, ("memory.example.com",), ())
    else:
        with pytest.raises(ProtocolError, match="MEMX_ALLOWED_ORIGINS"):
            check_origin(scope, ("memory.example.com",), ())


@pytest.mark.parametrize("path", ["/", "/dashboard/app.js"])
def test_the_live_page_is_shown_under_the_servers_own_names(served: Served, path: str) -> None:
    assert httpx.get(f"{served.url}{path}").status_code == 200
    rebound = httpx.get(f"{served.url}{path}", headers={"host": "evil.example:8000"})
    assert (rebound.status_code, rebound.json()["error"]) == (403, "forbidden")
    assert "MEMX_ALLOWED_HOSTS" in rebound.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/docs", "/whoami", "/openapi.json", "/metrics", "/mcp"])
def test_a_developers_server_answers_to_its_own_names_alone(
    developers: MemxServer, path: str
) -> None:
    """Its API key is known to everybody, and a page can make its own name point to this machine."""
    headers = {"x-api-key": "local_dev_key"}
    at_home = httpx.get(f"{developers.url}{path}", headers=headers)
    rebound = httpx.get(f"{developers.url}{path}", headers={**headers, "host": "evil.example:8000"})
    assert at_home.status_code != 403
    assert rebound.status_code == 403


@pytest.fixture(scope="module")
def developers() -> Iterator[MemxServer]:
    with MemxServer("dev") as server:
        yield server


@pytest.fixture
def open_to_app(tmp_path: Path) -> Iterator[Served]:
    settings = Settings(allowed_origins=("https://app.example",))
    with serve_store(SqliteStore(tmp_path / "memx.db"), settings) as served:
        yield served


async def test_an_operator_may_let_other_pages_in(open_to_app: Served) -> None:
    key = open_to_app.fresh_key()
    origin = Origin("https://app.example")
    headers = {"x-api-key": key}
    async with connect(
        _socket(open_to_app, "/ws"), additional_headers=headers, origin=origin
    ) as ws:
        assert json.loads(await ws.recv())["event"] == "hello"


def test_an_operator_may_let_other_pages_call(open_to_app: Served) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(f"{open_to_app.url}/set", headers=asked)
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    stranger = httpx.options(
        f"{open_to_app.url}/set", headers={**asked, "Origin": "https://evil.example"}
    )
    assert "access-control-allow-origin" not in stranger.headers


def test_cross_origin_calls_are_off_by_default(served: Served) -> None:
    answer = httpx.get(
        f"{served.url}/whoami",
        headers={"Origin": "https://app.example", "x-api-key": served.fresh_key()},
    )
    assert "access-control-allow-origin" not in answer.headers
