"""``GET /metrics``: true figures, for whom they are meant, and nothing of what is in the memory."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from memx_server.app import create_app
from memx_server.settings import Settings
from memx_server.storage.sqlite import SqliteStore
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from tests.access.crossing import ROADS, ROLES, ROWS, Tenant, shown
from tests.server.conftest import client
from tests.support.memx_server import Served, serve_store

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def figures(url: str) -> Figures:
    answer = httpx.get(f"{url}/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def figure(found: Figures, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


def requests(found: Figures, operation: str, outcome: str) -> float:
    return figure(found, "memx_requests_total", operation=operation, outcome=outcome)


def test_requests_are_counted_by_operation_and_outcome(server: Served) -> None:
    with client(server, server.fresh_key()) as api:
        for number in range(3):
            api.set(f"k{number}", number)
        api.post("/set", {"key": "*", "value": 1}, 400)
        api.post("/set", {"key": "k0", "value": 1, "if_revision": 7}, 409)
        api.get("/get", key="k0")

    found = figures(server.url)

    assert requests(found, "set", "ok") == 3
    assert requests(found, "set", "invalid_key") == 1
    assert requests(found, "set", "conflict") == 1
    assert requests(found, "get", "ok") == 1
    assert figure(found, "memx_request_duration_seconds_count", operation="set") == 5
    assert figure(found, "memx_request_duration_seconds_bucket", operation="set", le="+Inf") == 5
    assert 0 < figure(found, "memx_request_duration_seconds_sum", operation="set") < 5
    assert figure(found, "memx_store_up") == 1


def test_frames_of_a_socket_count_like_requests(server: Served) -> None:
    address = server.url.replace("http", "ws", 1) + "/ws"
    with connect(address, additional_headers={"x-api-key": server.api_key}) as socket:
        socket.recv(10)
        for frame in (
            {"op": "set", "key": "a", "value": 1},
            {"op": "get", "key": "a"},
            {"op": "get", "key": "*"},
            {"op": "keys", "limit": 0},
            {"op": "keys", "cursor": "?"},
            {"op": "subscribe", "pattern": "a"},
            {"op": "subscribe", "pattern": "b"},
        ):
            socket.send(json.dumps({"id": 1, **frame}))
            socket.recv(10)
        found = figures(server.url)

    assert requests(found, "set", "ok") == 1
    assert requests(found, "get", "ok") == 1
    assert requests(found, "get", "invalid_key") == 1
    assert requests(found, "keys", "invalid_cursor") == 1
    assert figure(found, "memx_connections") == 1
    assert figure(found, "memx_subscriptions") == 2
    assert figure(found, "memx_feed_spaces") == 1


def test_the_newer_format_is_answered_to_who_asks_for_it(served: Served) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    answer = httpx.get(f"{served.url}/metrics", headers={"accept": accept})

    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = openmetrics(answer.text)  # type: ignore[no-untyped-call]  # it has no types
    assert "memx_requests" in {family.name for family in families}


def test_no_figure_names_anybody(served: Served) -> None:
    tenant = Tenant(served, "counted")
    try:
        for role, road in ((role, road) for role in ROLES for road in ROADS):
            with ROADS[road](served.url, tenant.keys[role]) as caller:
                for row in ROWS:
                    caller.ask(row.operation, row.of("shut:x"))
                text = httpx.get(f"{served.url}/metrics").text
                assert shown(text, tenant) == []
                for secret in (tenant.space, "shut:", "owner-counted", *tenant.keys.values()):
                    assert secret not in text
    finally:
        tenant.close()


async def ask(app: Any, peer: str, host: str = "localhost") -> tuple[int, str]:
    transport = httpx.ASGITransport(app=app, client=(peer, 5))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as http:
        answer = await http.get("/metrics")
    return answer.status_code, answer.text


@pytest.mark.parametrize(
    ("setting", "peer", "host", "status"),
    [
        ("local", "127.0.0.1", "localhost:8000", 200),
        ("local", "::1", "[::1]:8000", 200),
        ("local", "10.0.0.7", "localhost", 403),
        ("local", "127.0.0.1", "evil.example", 403),
        ("open", "10.0.0.7", "memx.example", 200),
        ("off", "127.0.0.1", "localhost", 404),
    ],
)
async def test_who_is_told(tmp_path: Any, setting: str, peer: str, host: str, status: int) -> None:
    store = SqliteStore(tmp_path / "memx.db")
    app = create_app(Settings.from_env({"MEMX_METRICS": setting}), store=store)
    await store.open()
    try:
        assert (await ask(app, peer, host))[0] == status
    finally:
        await store.close()


async def test_a_store_that_is_away_shows(tmp_path: Any) -> None:
    app = create_app(Settings(), store=SqliteStore(tmp_path / "memx.db"))  # never opened

    _, text = await ask(app, "127.0.0.1")

    assert "\nmemx_store_up 0.0\n" in text


async def test_of_several_workers_each_tells_its_own(tmp_path: Any) -> None:
    app = create_app(Settings(workers=2), store=SqliteStore(tmp_path / "memx.db"))
    app.services.requests.count("get", "ok", 0.001)

    _, text = await ask(app, "127.0.0.1")

    ours = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(ours) > 10
    assert all('worker="' in line for line in ours)


def test_a_scrape_asks_no_tenant_of_the_rate_limit(tmp_path: Any) -> None:
    settings = Settings.from_env({"MEMX_RATE_LIMIT": "1", "MEMX_RATE_BURST": "1"})
    with serve_store(SqliteStore(tmp_path / "memx.db"), settings) as served:
        for _ in range(5):
            figures(served.url)
