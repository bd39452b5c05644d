"""``/mcp`` of a memX server itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import mcp_types as types
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.subscriptions import ResourceUpdated
from mcp.shared.exceptions import MCPError
from memx_mcp.uris import uri_of
from memx_server.settings import Settings
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore

from memx_sdk import AsyncMemxContext
from tests.support.memx_server import Served, serve_store

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def _http(key: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(headers={"x-api-key": key, "x-memx-agent": "mcp"}, timeout=30)


async def test_each_caller_may_do_what_their_own_key_permits(served: Served, mode: str) -> None:
    writer = served.fresh_key(agent="ann")
    space = served.keys.add(space="elsewhere", agent="bob", write=())
    async with _http(writer) as http:
        transport = streamable_http_client(f"{served.url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as ann:
            result = await ann.call_tool("memx_set", {"key": "plan", "value": 1})
            assert not result.is_error
    async with _http(space) as http:
        transport = streamable_http_client(f"{served.url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as bob:
            read = await bob.call_tool("memx_get", {"key": "plan"})
            assert read.structured_content["exists"] is False  # another space
            assert "memx_set" not in {tool.name for tool in (await bob.list_tools()).tools}
    async with AsyncMemxContext(writer, served.url) as memx:
        entry = await memx.get("plan")
        assert entry is not None
        assert entry.writer == "ann/mcp"


@pytest.fixture(scope="module")
def with_sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """On SQLite sessions are kept: there is one process."""
    with serve_store(SqliteStore(tmp_path_factory.mktemp("memx") / "memx.db")) as server:
        yield server


async def test_two_clients_one_writes_the_others_notification_arrives(
    with_sessions: Served, mode: str
) -> None:
    served = with_sessions
    key = served.fresh_key()
    arrived = asyncio.Event()

    async def note(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            arrived.set()

    async with _http(key) as one, _http(key) as two:
        url = f"{served.url}/mcp"
        watching = Client(
            streamable_http_client(url, http_client=one), mode=mode, message_handler=note
        )
        writing = Client(streamable_http_client(url, http_client=two), mode=mode)
        async with watching as watcher, writing as writer, asyncio.timeout(20):
            if mode == "legacy":
                await watcher.subscribe_resource(uri_of("plan"))
                await writer.call_tool("memx_set", {"key": "plan", "value": 1})
                await arrived.wait()
            else:
                async with watcher.listen(resource_subscriptions=[uri_of("plan")]) as events:
                    await writer.call_tool("memx_set", {"key": "plan", "value": 1})
                    async for event in events:
                        assert event == ResourceUpdated(uri_of("plan"))
                        break


def test_without_a_good_key_401_and_how_to_send_one(served: Served) -> None:
    for headers in ({}, {"x-api-key": "unknown"}, {"Authorization": "Bearer unknown"}):
        answer = httpx.post(f"{served.url}/mcp", json=INITIALIZE, headers={**ACCEPT, **headers})
        assert answer.status_code == 401
        # RFC 6750, section 3: a realm, and an error only where something came that is wrong.
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="memX"')
        assert ('error="invalid_token", error_description="' in challenge) is bool(headers)
        assert answer.json()["error"] in ("unauthenticated", "forbidden")


def test_a_session_belongs_to_the_key_that_opened_it(with_sessions: Served) -> None:
    served = with_sessions
    mine = {**ACCEPT, "x-api-key": served.fresh_key()}
    opened = httpx.post(f"{served.url}/mcp", json=INITIALIZE, headers=mine)
    session = {"mcp-session-id": opened.headers["mcp-session-id"]}
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    theirs = {**ACCEPT, **session, "x-api-key": served.fresh_key()}
    assert httpx.post(f"{served.url}/mcp", json=listing, headers=theirs).status_code == 404
    assert (
        httpx.post(f"{served.url}/mcp", json=listing, headers={**mine, **session}).status_code
        == 200
    )


@pytest.mark.parametrize("header", ["Host", "Origin"])
def test_foreign_hosts_and_origins_are_refused(served: Served, header: str) -> None:
    foreign = {"Host": "evil.example", "Origin": "http://evil.example"}[header]
    headers = {**ACCEPT, "x-api-key": served.fresh_key(), header: foreign}
    answer = httpx.post(f"{served.url}/mcp", json=INITIALIZE, headers=headers)
    assert answer.status_code == {"Host": 421, "Origin": 403}[header]
    assert f"MEMX_ALLOWED_{header.upper()}S" in answer.json()["detail"]


def test_what_is_announced_is_what_comes(with_sessions: Served, one_of_several: Served) -> None:
    for server, comes in ((with_sessions, "true"), (one_of_several, "false")):
        headers = {**ACCEPT, "x-api-key": server.fresh_key()}
        answer = httpx.post(f"{server.url}/mcp", json=INITIALIZE, headers=headers)
        assert f'"resources":{{"listChanged":{comes},"subscribe":{comes}}}' in answer.text


@pytest.fixture
def one_of_several(tmp_path: Path) -> Iterator[Served]:
    with serve_store(SqliteStore(tmp_path / "memx.db"), Settings(workers=2)) as served:
        yield served


async def test_behind_several_workers_each_request_stands_alone(
    one_of_several: Served, mode: str
) -> None:
    key = one_of_several.fresh_key()
    async with _http(key) as http:
        transport = streamable_http_client(f"{one_of_several.url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            assert not (await client.call_tool("memx_set", {"key": "a", "value": 1})).is_error
            if mode == "legacy":
                with pytest.raises(MCPError, match="keeps no sessions"):
                    await client.subscribe_resource(uri_of("a"))


def test_on_redis_no_session_is_opened_that_a_restart_would_end(served: Served) -> None:
    on_redis = isinstance(served.app.store, RedisStore)
    mine = {**ACCEPT, "x-api-key": served.fresh_key()}
    opened = httpx.post(f"{served.url}/mcp", json=INITIALIZE, headers=mine)
    assert ("mcp-session-id" in opened.headers) is not on_redis
    if on_redis:
        # The session of another server, or of this one before it was restarted, goes on.
        stale = {**mine, "mcp-session-id": "of-another", "mcp-protocol-version": "2025-11-25"}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        answer = httpx.post(f"{served.url}/mcp", json=listing, headers=stale)
        assert "memx_get" in answer.text
        # Nothing would ever come on such a stream.
        assert httpx.get(f"{served.url}/mcp", headers=mine).status_code == 405


def test_a_path_with_a_slash_at_the_end_is_the_same(served: Served) -> None:
    mine = {**ACCEPT, "x-api-key": served.fresh_key()}
    assert httpx.post(f"{served.url}/mcp/", json=INITIALIZE, headers=mine).status_code == 200


def test_pages_that_may_call_can_use_mcp(tmp_path: Path) -> None:
    page = "https://page.example"
    settings = Settings(allowed_origins=(page,), mcp_sessions=True)
    with serve_store(SqliteStore(tmp_path / "memx.db"), settings) as served:
        asked = "content-type,x-api-key,mcp-session-id,mcp-protocol-version,last-event-id"
        preflight = httpx.options(
            f"{served.url}/mcp",
            headers={
                "Origin": page,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": asked,
            },
        )
        assert preflight.status_code == 200
        mine = {**ACCEPT, "Origin": page, "x-api-key": served.fresh_key()}
        answer = httpx.post(f"{served.url}/mcp", json=INITIALIZE, headers=mine)
        assert answer.headers["access-control-allow-origin"] == page
        assert "mcp-session-id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["mcp-session-id"]
    anybody = Settings(allowed_origins=("*",))
    with serve_store(SqliteStore(tmp_path / "open.db"), anybody) as served:
        mine = {**ACCEPT, "Origin": page, "x-api-key": served.fresh_key()}
        assert httpx.post(f"{served.url}/mcp", json=INITIALIZE, headers=mine).status_code == 200


def test_sessions_and_several_workers_do_not_go_together() -> None:
    assert Settings.from_env({}).mcp_sessions is None
    assert Settings.from_env({"MEMX_MCP_SESSIONS": "1"}).mcp_sessions is True
    with pytest.raises(ValueError, match="MEMX_MCP_SESSIONS must be 0 with several workers"):
        Settings.from_env({"MEMX_MCP_SESSIONS": "1", "MEMX_WORKERS": "2"})
