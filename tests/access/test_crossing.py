"""Every road to the memory, crossed with two tenants and every kind of scopes, on both stores.

Markers stand in all that a tenant holds: in keys, values, writers, reasons and schemas. Nothing that another tenant
gets, or a role that may not read it, shows one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest
from memx_server import mcp_endpoint
from memx_server.routes.api.operations import OPERATIONS
from memx_server.routes.http import events
from memx_server.routes.ws import frames

from memx_sdk.tools.catalogue import TOOLS as CATALOGUE
from tests.access.crossing import (
    ABSENT,
    HIDDEN,
    KEYS,
    KINDS,
    OPEN,
    PUBLIC,
    ROADS,
    ROLES,
    ROWS,
    SHUT,
    TOOLS,
    Row,
    Tenant,
    client,
    shown,
)
from tests.support.memx_server import Served


@pytest.fixture(scope="module")
def tenants(served: Served) -> Iterator[tuple[Tenant, Tenant]]:
    one, other = Tenant(served, "one"), Tenant(served, "other")
    yield one, other
    one.close()
    other.close()


def hidden_from(role: str, row: Row) -> tuple[str, ...]:
    kinds = HIDDEN[role]
    if row.operation == "presence":  # tells who is here to whoever may read something
        kinds = tuple(kind for kind in kinds if kind != "writer")
    return kinds


def test_nothing_is_missing_from_the_table(served: Served) -> None:
    app = served.app
    assert {row.operation for row in ROWS} == {each.name for each in OPERATIONS}
    assert set(frames.CONTROLS) == {"subscribe", "unsubscribe", "ping"}
    paths = {each.path for each in OPERATIONS}
    assert set(app._endpoints) == paths | set(mcp_endpoint.PATHS)
    assert events.PATH in app._endpoints
    assert app._sockets.paths == {"/ws", "/subscribe/"}
    assert set(_paths(app.routes)) == PUBLIC
    assert mcp_endpoint.PATHS[0] == "/mcp"
    assert set(TOOLS) == set(CATALOGUE)


def _paths(routes: Iterable[Any]) -> Iterator[str]:
    """The paths of routes, and of routers among them (FastAPI keeps those as they are)."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is None:
            yield str(route.path)
        else:
            yield from _paths(inner.routes)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("role", ROLES)
def test_a_scope_opens_what_it_says_and_shows_no_more(
    served: Served, tenants: tuple[Tenant, Tenant], role: str, road: str
) -> None:
    tenant, other = tenants
    faults: list[str] = []
    with ROADS[road](served.url, tenant.keys[role]) as caller:
        for row in ROWS:
            answers: dict[str, tuple[int, str]] = {}
            for key in KEYS if row.names_a_key else (OPEN,):
                status, text = answers[key] = caller.ask(row.operation, row.of(key))
                about = f"{role} {row.operation} {row.of(key)} -> {status} {text[:300]}"
                if (status != 403) != row.permitted(role, key) or status >= 500:
                    faults.append(f"not as the table says: {about}")
                if kinds := shown(text, tenant, hidden_from(role, row)):
                    faults.append(f"shows {kinds}: {about}")
                if kinds := shown(text, other):
                    faults.append(f"shows another tenant's {kinds}: {about}")
                if row.changes_something and status != 403:
                    tenant.plant()
            faults += _differences(role, row, answers)
    assert faults == []


def _differences(role: str, row: Row, answers: dict[str, tuple[int, str]]) -> list[str]:
    """Missing and forbidden must look alike: a refusal may not depend on what is there."""
    if SHUT not in answers or row.permitted(role, SHUT):
        return []
    (status, text), (other_status, other_text) = answers[SHUT], answers[ABSENT]
    if (status, text.replace(SHUT, "?")) == (other_status, other_text.replace(ABSENT, "?")):
        return []
    return [f"tells {role} what is there: {row.operation}: {text} / {other_text}"]


@pytest.mark.parametrize("road", ROADS)
def test_another_tenant_sees_nothing_and_changes_nothing(
    served: Served, tenants: tuple[Tenant, Tenant], road: str
) -> None:
    tenant, stranger = tenants
    before, revision = tenant.state(), tenant.revision()
    cursor = stranger.revision()
    try:
        with ROADS[road](served.url, stranger.keys["owner"]) as caller:
            for row in (*ROWS, Row("changes", {"since": revision}), Row("keys", {"cursor": "c2g"})):
                for key in KEYS:
                    status, text = caller.ask(row.operation, row.of(key))
                    assert status not in (401, 403, 500), (row, text)
                    assert shown(text, tenant) == [], (row, text)
        assert tenant.state() == before
        assert tenant.revision() == revision
        assert stranger.revision() != cursor  # it did write, in its own space
    finally:
        stranger.plant()


def test_what_everybody_gets_shows_nothing(served: Served, tenants: tuple[Tenant, Tenant]) -> None:
    secrets = [key for tenant in tenants for key in tenant.keys.values()]
    for key in (None, "unknown", tenants[0].keys["nobody"], tenants[0].keys["owner"]):
        headers = {"x-api-key": key} if key else {}
        with httpx.Client(base_url=served.url, headers=headers, verify=False) as http:
            for path in sorted(PUBLIC):
                text = http.get(path).text
                assert [shown(text, tenant) for tenant in tenants] == [[], []], path
                assert not any(secret in text for secret in secrets), path


_MALFORMED: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/nothing/here", {}),
    ("PUT", "/set", {}),
    ("POST", "/set", {"content": b"{"}),
    ("POST", "/set", {"content": b'{"key":"shut:x","value":1,"value":2}'}),
    ("POST", "/set", {"json": {"key": SHUT}}),
    ("POST", "/set", {"json": {"key": SHUT, "value": 1, "surprise": 1}}),
    ("GET", "/get", {}),
    ("GET", "/get", {"params": {"key": "shut:*"}}),
    ("GET", "/get", {"params": {"key": SHUT, "at": "-1"}}),
    ("GET", "/keys", {"params": {"cursor": "!"}}),
    ("GET", "/keys", {"params": {"limit": "100000"}}),
    ("GET", "/changes", {"params": {"since": "nonsense"}}),
    ("GET", "/changes", {"params": {"event": "nonsense"}}),
    ("POST", "/txn", {"json": {"then": [{"op": "nonsense", "key": SHUT}]}}),
    ("POST", "/update", {"json": {"key": SHUT}}),
    ("POST", "/update", {"json": {"key": SHUT, "patch": [{"op": "test"}]}}),
    ("POST", "/schema", {"json": {"key": SHUT, "schema": {"$ref": "#/nowhere"}}}),
]


@pytest.mark.parametrize("role", [*ROLES, "stranger", "unknown"])
def test_the_texts_of_errors_show_nothing(
    served: Served, tenants: tuple[Tenant, Tenant], role: str
) -> None:
    tenant, stranger = tenants
    others = {"stranger": stranger.keys["owner"], "unknown": "an-unknown-key"}
    key = others.get(role) or tenant.keys[role]
    hidden = HIDDEN.get(role, KINDS)
    with httpx.Client(base_url=served.url, headers={"x-api-key": key}, verify=False) as http:
        for method, path, options in _MALFORMED:
            answer = http.request(method, path, **options)
            assert 400 <= answer.status_code < 500, (method, path, answer.text)
            assert shown(answer.text, tenant, hidden) == [], (method, path, answer.text)
            assert key not in answer.text + str(answer.headers)
            assert {"error", "detail"} <= set(answer.json())


def test_a_page_cursor_does_not_name_a_key_that_may_not_be_read(
    served: Served, tenants: tuple[Tenant, Tenant]
) -> None:
    """A page that ends among keys that were passed over has to go on from one of them."""
    tenant = Tenant(served, "crowded")
    marker = tenant.markers["key"]
    with client(served.url, tenant.keys["owner"]) as owner:
        for start in range(0, 2304, 128):
            sets = [
                {"op": "set", "key": f"m:{marker}:{start + n:05}", "value": 0} for n in range(128)
            ]
            assert owner.post("/txn", json={"then": sets}).status_code == 200
        for key in ("a", "z"):
            owner.post("/set", json={"key": key, "value": 0})
    reader = served.keys.add(
        space=tenant.space, read=("a*", "*z"), write=()
    )  # no prefix skips the rest
    found: list[str] = []
    with client(served.url, reader) as limited:
        query: dict[str, Any] = {"limit": 1}
        for _ in range(10):
            answer = limited.get("/keys", params=query)
            assert shown(answer.text, tenant) == [], answer.text
            found += answer.json()["keys"]
            if answer.json()["next"] is None:
                break
            query["cursor"] = answer.json()["next"]
    assert found == ["a", "z"]
    tenant.close()
