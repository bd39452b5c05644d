"""Each rule of the one way in, on every road: a rule that misses a road is none."""

from __future__ import annotations

import ast
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import memx_server.routes
import pytest
import websockets
from memx_server import mcp_endpoint
from memx_server.domain.access import Principal
from memx_server.routes.api.gateway import HANDSHAKE
from memx_server.routes.http.endpoint import HttpOperations
from memx_server.routes.http.events import EventsEndpoint
from memx_server.routes.ws.frames import BY_NAME, CONTROLS
from memx_server.settings import RateLimit, Settings
from memx_server.storage.base import StoreUnavailable
from memx_server.storage.sqlite import SqliteStore

from tests.support.memx_server import Served, serve_store
from tests.support.roads import ROADS, Road, by_name

BURST = 6
EVERY_ROAD = pytest.mark.parametrize("road", ROADS, ids=by_name(ROADS))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_store(SqliteStore(tmp_path_factory.mktemp("memx") / "memx.db")) as server:
        yield server


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One window is an hour, so that within a test it does not end."""
    settings = Settings(rate_limit=RateLimit(per_second=BURST / 3600, burst=BURST))
    store = SqliteStore(tmp_path_factory.mktemp("memx") / "memx.db")
    with serve_store(store, settings) as server:
        yield server


def headers(key: str) -> dict[str, str]:
    return {"x-api-key": key}


@EVERY_ROAD
async def test_the_rate_limit_lets_in_the_first_and_refuses_the_rest(
    limited: Served, road: Road
) -> None:
    codes = await road.ask(limited.url, headers(limited.fresh_key()), BURST + 2)
    admitted = BURST - road.handshakes
    assert codes == [road.outcome] * admitted + ["rate_limited"] * (2 + road.handshakes)


@EVERY_ROAD
async def test_an_unknown_key_and_none_are_refused(served: Served, road: Road) -> None:
    assert await road.ask(served.url, headers("made-up"), 1) == ["forbidden"]
    assert await road.ask(served.url, {}, 1) == ["unauthenticated"]


@pytest.mark.parametrize(
    "road", [each for each in ROADS if each.operation != HANDSHAKE], ids=lambda road: road.name
)
async def test_the_caller_is_present(served: Served, road: Road) -> None:
    key = served.fresh_key(agent="ann")
    await road.ask(served.url, {**headers(key), "x-memx-agent": "walker"}, 1)
    async with httpx.AsyncClient(base_url=served.url, headers=headers(key)) as http:
        answer = await http.get("/presence")
    assert "ann/walker" in [each["writer"] for each in answer.json()["present"]]


@EVERY_ROAD
async def test_it_is_counted(served: Served, road: Road) -> None:
    counted = served.app.services.requests.by_outcome
    before = Counter(counted)
    await road.ask(served.url, headers(served.fresh_key()), 3)
    assert (Counter(counted) - before)[road.operation, road.outcome] == 3


@EVERY_ROAD
async def test_what_nobody_expected_becomes_an_error_with_an_id(
    served: Served, road: Road, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    admitted = itertools.count()

    class BrokenLimit:
        async def admit(self, _: Principal, count: int) -> tuple[int, None]:
            """Let a handshake pass, so that the frames behind it meet the fault."""
            if next(admitted) >= road.handshakes:
                raise RuntimeError("planted fault")
            return count, None

    monkeypatch.setattr(served.app.services, "rates", BrokenLimit())
    codes = await road.ask(served.url, headers(served.fresh_key()), 1)
    assert codes == ["internal"]
    assert "planted fault" in caplog.text


@EVERY_ROAD
async def test_a_store_that_does_not_answer_is_unavailable(
    limited: Served, road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate limit asks it on every road, before anything else does."""

    async def fail(*_: Any, **__: Any) -> tuple[int, int]:
        raise StoreUnavailable("planted outage")

    monkeypatch.setattr(limited.app.store.state, "take_tokens", fail)
    codes = await road.ask(limited.url, headers(limited.fresh_key()), 1)
    assert codes == ["unavailable"]


def test_the_roads_are_all_that_there_are(served: Served) -> None:
    """A new endpoint, operation or frame makes this fail: give it a road."""
    assert served.app._sockets.paths == {"/ws", "/subscribe/"}
    # The calls of /mcp come in through the operations, in process.
    endpoints = dict(served.app._endpoints)
    for path in mcp_endpoint.PATHS:
        del endpoints[path]
    assert {type(each) for each in endpoints.values()} == {HttpOperations, EventsEndpoint}
    assert set(CONTROLS) == {"subscribe", "unsubscribe", "ping"}
    assert set(BY_NAME) >= {road.operation for road in ROADS} - {*CONTROLS, HANDSHAKE, "unknown"}


def test_only_the_gateway_knows_the_rules() -> None:
    """The parts of the server that a rule needs are reached from one file."""
    rules = {"rates", "authenticator", "requests"}
    folder = Path(memx_server.routes.__file__).parent
    found = {
        f"{path.relative_to(folder)}: {node.attr}"
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in rules
    }
    assert {each for each in found if not each.startswith("api/gateway.py")} == {
        "http/metrics.py: requests"
    }


def test_the_routes_reach_no_store(served: Served) -> None:
    """Neither as one of the services nor as a public attribute of one."""
    store = served.app.store
    services = served.app.services
    for name in services.__slots__:
        service = getattr(services, name)
        for attribute in ["", *(each for each in dir(service) if not each.startswith("_"))]:
            held = service if not attribute else getattr(service, attribute, None)
            assert held is not store, f"{name}.{attribute}"
            assert held is not store.state, f"{name}.{attribute}"


async def test_unsubscribing_is_never_refused(limited: Served) -> None:
    key = limited.fresh_key()
    address = limited.url.replace("http", "ws", 1) + "/ws"
    async with websockets.connect(address, additional_headers=headers(key)) as socket:
        await socket.recv()
        for number in range(BURST):
            await socket.send(json.dumps({"id": number, "op": "subscribe", "pattern": "a"}))
        await socket.send(json.dumps({"id": BURST, "op": "unsubscribe", "sub": 1}))
        answers: dict[int, Any] = {}
        while len(answers) <= BURST:
            answer = json.loads(await socket.recv())
            if "id" in answer:
                answers[answer["id"]] = answer
        assert answers[BURST - 1]["error"] == "rate_limited"
        assert answers[BURST]["ok"]
