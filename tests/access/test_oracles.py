"""No answer depends on what its caller may not read, and neither does the time that it takes.

Two spaces differ in nothing but the secret under one key: its value, writer, version and reason. Every
operation is done in both by callers who may not read that key. Whatever they get must be the same.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from memx_server.routes.ws.frames import BY_NAME

from tests.access.crossing import ROADS, ROWS, TOOLS, Row, client
from tests.support.memx_server import Served

SECRET, MINE = "sec:x", "mine:a"

CALLERS: dict[str, dict[str, tuple[str, ...]]] = {
    "writer": {"read": (), "write": ("sec:*", "mine:*")},  # and admin, which write stands for
    "drop box": {"read": ("mine:*",), "write": ("sec:*",), "admin": ()},
    "neighbour": {"read": ("mine:*",), "write": ("mine:*",), "admin": ("mine:*",)},
    "reader of other": {"read": ("mine:*", "other:*"), "write": (), "admin": ()},
    "admin": {"read": (), "write": (), "admin": ("sec:*",)},
}


@dataclass(frozen=True)
class Secret:
    """What the key holds in one of the two spaces."""

    value: Any
    writer: str
    versions: int


PAIRS: dict[str, tuple[Secret, Secret]] = {
    "texts": (Secret("a" * 20, "anna", 1), Secret("b" * 20, "bert", 3)),
    "numbers": (Secret(9.5e307, "anna", 1), Secret(1, "bert", 2)),
    "objects": (Secret({"pin": "11"}, "anna", 2), Secret({"pin": "22", "x": 1}, "bert", 1)),
    "sizes": (Secret([], "anna", 1), Secret([[1, 2, 3]] * 20_000, "bert", 1)),
}


def _txn(**parts: Any) -> tuple[str, dict[str, Any]]:
    return "txn", parts


_EDGE = 9e307
PROBES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "a schema of the caller's own": [
        ("set_schema", {"key": SECRET, "schema": {"type": "string", "pattern": "^a"}}),
        ("update", {"key": SECRET, "merge": {}}),
        ("update", {"key": SECRET, "append": []}),
        _txn(then=[{"op": "merge", "key": SECRET, "merge": {}}]),
        _txn(then=[{"op": "touch", "key": SECRET, "touch": None}]),
        ("validate", {"key": SECRET, "value": "a"}),
        ("set_schema", {"key": "sec:*", "schema": {"properties": {"pin": {"pattern": "^1"}}}}),
        ("delete_schema", {"key": SECRET}),
        ("update", {"key": SECRET, "merge": {}}),
        ("set_schema", {"key": "sec:*", "schema": False}),
        ("set", {"key": SECRET, "value": 1}),
        ("delete_schema", {"key": "sec:*"}),
    ],
    "the edge of what a number holds": [
        ("update", {"key": SECRET, "increment": _EDGE}),
        ("update", {"key": SECRET, "increment": 0, "maximum": 5}),
        _txn(then=[{"op": "increment", "key": SECRET, "increment": _EDGE}]),
        _txn(then=[{"op": "increment", "key": SECRET, "increment": 0, "minimum": 5}]),
    ],
    "patches and merges": [
        ("update", {"key": SECRET, "patch": [{"op": "test", "path": "/pin", "value": "11"}]}),
        ("update", {"key": SECRET, "patch": [{"op": "remove", "path": "/pin"}]}),
        ("update", {"key": SECRET, "merge": {"pin": None}, "if_revision": 1}),
        ("update", {"key": SECRET, "append": [1], "cap": 1}),
        ("update", {"key": SECRET, "touch": 100}),
    ],
    "compares": [
        _txn(**{"if": [{"key": SECRET, "value": "a" * 20}], "then": []}),
        _txn(**{"if": [{"key": SECRET, "version": 1}]}),
        _txn(**{"if": [{"key": SECRET, "revision": 5}]}),
        _txn(then=[{"op": "get", "key": SECRET}]),
    ],
    "conditions": [
        ("set", {"key": SECRET, "value": 1, "if_revision": 0}),
        ("set", {"key": SECRET, "value": 1, "if_revision": 2**40}),
        ("delete", {"key": SECRET, "if_revision": 2**40}),
        ("set", {"key": SECRET, "value": 1}),
        ("delete", {"key": SECRET}),
        ("delete", {"key": SECRET}),
    ],
    "several keys": [
        ("mget", {"keys": [MINE, SECRET]}),
        ("keys", {"pattern": "*", "limit": 1}),
        ("keys", {"pattern": "*", "limit": 2, "values": True}),
        ("changes", {"pattern": "*", "limit": 2}),
        _txn(then=[{"op": "set", "key": SECRET, "value": 1}, {"op": "get", "key": MINE}]),
        ("history", {"key": SECRET}),
        ("get", {"key": SECRET, "at": 2**40}),
    ],
}


class World:
    """A space with a secret, and an API key for each kind of caller."""

    def __init__(self, served: Served, secret: Secret) -> None:
        self._secret = secret
        space = f"world-{secrets.token_hex(4)}"
        self.space = space
        # In both spaces the callers have the same names: what differs is the secret's.
        self.keys = {
            name: served.keys.add(
                agent=name.replace(" ", "-"),
                space=space,
                read=grant["read"],
                write=grant["write"],
                admin=grant.get("admin"),
            )
            for name, grant in CALLERS.items()
        }
        owner = served.keys.add(agent="owner", space=space)
        self._owner = client(served.url, owner)
        self.url = served.url

    def plant(self) -> None:
        """Put everything (back) to where it was."""
        for key in (SECRET, "sec:*"):
            self._owner.delete("/schema", params={"key": key})
        self._owner.delete("/delete", params={"key": SECRET})
        for _ in range(self._secret.versions):
            written = self._owner.post(
                "/set",
                json={"key": SECRET, "value": self._secret.value, "reason": self._secret.writer},
                headers={"x-memx-agent": self._secret.writer},
            )
            assert written.status_code == 200, written.text
        assert self._owner.post("/set", json={"key": MINE, "value": "open"}).status_code == 200

    def close(self) -> None:
        self._owner.close()


@pytest.fixture(scope="module", params=PAIRS)
def worlds(request: pytest.FixtureRequest, served: Served) -> Iterator[tuple[World, World]]:
    """Two spaces that differ in a secret of one kind."""
    one, other = (World(served, secret) for secret in PAIRS[request.param])
    yield one, other
    one.close()
    other.close()


_MOMENTS = re.compile(
    r'"(revision|ts|expires_at|since|last_seen|claimed_at|acked_at|ticket)": ?("[^"]*"|[0-9.e+-]+)'
)
_CURSOR = re.compile(r"[0-9a-z]{4,32}-[0-9]{1,16}")
_PAGE = re.compile(r'"next": ?"~[^"]+"')
_LARGE = re.compile(r"[0-9]{12,}(\.[0-9]+)?")


def without_moments(text: str, world: World) -> str:
    """An answer without what no two requests have in common: revisions, cursors, times, tickets."""
    text = text.replace(world.space, "SPACE").replace('\\"', '"')
    text = _PAGE.sub('"next":PAGE', _MOMENTS.sub(r'"\1":MOMENT', text))
    return _LARGE.sub("NUMBER", _CURSOR.sub("CURSOR", text))


def _about_presence(row: Row) -> bool:
    return row.operation == "presence"  # it names who is active in the space, whatever they write


def differences(answers: dict[str, list[tuple[int, str]]], about: str) -> Iterator[str]:
    """Where two lists of answers are not the same."""
    one, other = answers.values()
    for number, (here, there) in enumerate(zip(one, other, strict=True)):
        if here != there:
            yield f"{about}, request {number}: {here[0]} {here[1][:300]} / {there[0]} {there[1][:300]}"


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("caller", CALLERS)
def test_no_answer_depends_on_the_secret(
    worlds: tuple[World, World], caller: str, road: str
) -> None:
    requests = {name: list(probe) for name, probe in PROBES.items()}
    for number, row in enumerate(ROWS):
        if not _about_presence(row):
            requests[f"{row.operation} {number}"] = [(row.operation, row.of(SECRET))]
    faults: list[str] = []
    answers: dict[str, dict[str, list[tuple[int, str]]]] = {name: {} for name in requests}
    for world in worlds:
        world.plant()
        with ROADS[road](world.url, world.keys[caller]) as asking:
            for name, sequence in requests.items():
                got = answers[name][world.space] = []
                for operation, parameters in sequence:
                    status, text = asking.ask(operation, parameters)
                    assert status < 500, (operation, parameters, text)
                    got.append((status, without_moments(text, world)))
                if any(BY_NAME[operation].writes for operation, _ in sequence) and any(
                    status == 200 for status, _ in got
                ):
                    world.plant()
    for name, pair in answers.items():
        faults += differences(pair, f"{caller}, {name}")
    assert faults == []


@pytest.mark.parametrize("caller", CALLERS)
async def test_no_tool_depends_on_the_secret(worlds: tuple[World, World], caller: str) -> None:
    answers: dict[str, list[tuple[int, str]]] = {}
    for world in worlds:
        got = answers[world.space] = []
        headers = {"x-api-key": world.keys[caller]}
        async with httpx2.AsyncClient(headers=headers, timeout=15) as http:
            transport = streamable_http_client(f"{world.url}/mcp", http_client=http)
            async with Client(transport) as tools:
                world.plant()
                for name, arguments in TOOLS.items():
                    given = json.loads(json.dumps(arguments).replace("KEY", SECRET))
                    result = await tools.call_tool(name, given)
                    text = result.model_dump_json(include={"content", "structured_content"})
                    got.append((int(result.is_error or 0), without_moments(text, world)))
                    if not result.is_error:
                        world.plant()
    assert list(differences(answers, caller)) == []


def test_where_a_page_of_changes_ends_tells_nothing_of_what_is_passed_over(served: Served) -> None:
    """A store's page is shorter where values are long; a caller's is not."""
    texts = []
    for secret in (1, "x" * 1_000_000):
        world = World(served, Secret(secret, "anna", 30))
        world.plant()
        with client(world.url, world.keys["neighbour"]) as reader:
            answer = reader.get("/changes", params={"pattern": "*", "limit": 50}).json()
        texts.append(([change["key"] for change in answer["changes"]], answer["more"]))
        world.close()
    assert texts == [([MINE], False)] * 2


TIMED: list[tuple[str, dict[str, Any]]] = [
    ("get", {"key": SECRET}),
    ("keys", {"pattern": "*"}),
    ("changes", {"pattern": "mine:*", "limit": 5}),
    ("update", {"key": SECRET, "merge": {"a": 1}}),
    ("update", {"key": SECRET, "patch": [{"op": "test", "path": "/0/0", "value": 1}]}),
    ("update", {"key": SECRET, "append": [1]}),
    _txn(**{"if": [{"key": SECRET, "value": [[1, 2, 3]] * 50}]}),
    _txn(then=[{"op": "append", "key": SECRET, "append": [1]}]),
    ("set", {"key": SECRET, "value": 1, "if_revision": 2**40}),
    ("delete", {"key": SECRET, "if_revision": 2**40}),
    ("validate", {"key": SECRET, "value": [1]}),
]
"""Requests that change nothing, whoever of the callers sends them."""

ROUNDS, TOOL_ROUNDS = 15, 7


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("caller", ["writer", "drop box", "neighbour"])
def test_no_time_tells_the_secret_apart(served: Served, caller: str, road: str) -> None:
    """The answers of both spaces are timed in turns, so that a busy machine is busy for both."""
    worlds = [World(served, secret) for secret in PAIRS["sizes"]]
    for world in worlds:
        world.plant()
    for operation, parameters in TIMED:
        tries = 3  # a difference that is one stays one
        while True:
            short, long = _times(worlds, caller, road, operation, parameters)
            if not _differ(short, long):
                break
            tries -= 1
            assert tries, f"{operation} {parameters}: {short:.6f} s and {long:.6f} s"
    for world in worlds:
        world.close()


TIMED_TOOLS: dict[str, dict[str, Any]] = {
    "memx_get": {"key": SECRET},
    "memx_list": {"pattern": "*", "values": True},
    "memx_history": {"key": SECRET},
    "memx_update": {"key": SECRET, "merge": {"a": 1}},
    "memx_set": {"key": SECRET, "value": 1, "if_revision": 2**40},
    "memx_delete": {"key": SECRET, "if_revision": 2**40},
    "memx_check": {"key": SECRET, "value": [1]},
}


@pytest.mark.parametrize("caller", ["writer", "neighbour"])
async def test_no_time_of_a_tool_tells_the_secret_apart(served: Served, caller: str) -> None:
    worlds = [World(served, secret) for secret in PAIRS["sizes"]]
    async with AsyncExitStack() as stack:
        clients = []
        for world in worlds:
            stack.callback(world.close)
            world.plant()
            http = httpx2.AsyncClient(headers={"x-api-key": world.keys[caller]}, timeout=15)
            transport = streamable_http_client(
                f"{world.url}/mcp", http_client=await stack.enter_async_context(http)
            )
            clients.append(await stack.enter_async_context(Client(transport)))
        for name, arguments in TIMED_TOOLS.items():
            tries = 3
            while True:
                taken: list[list[float]] = [[] for _ in clients]
                for _ in range(TOOL_ROUNDS):
                    for tools, times in zip(clients, taken, strict=True):
                        begun = time.perf_counter()
                        await tools.call_tool(name, arguments)
                        times.append(time.perf_counter() - begun)
                short, long = sorted(map(median, taken))
                if not _differ(short, long):
                    break
                tries -= 1
                assert tries, f"{name} {arguments}: {short:.6f} s and {long:.6f} s"


def _differ(short: float, long: float) -> bool:
    return long >= 2 * short + 0.001


def _times(
    worlds: list[World], caller: str, road: str, operation: str, parameters: dict[str, Any]
) -> tuple[float, float]:
    """The median seconds of an answer in each space, the shorter one first."""
    roads = [ROADS[road](world.url, world.keys[caller]) for world in worlds]
    taken: list[list[float]] = [[] for _ in roads]
    for round_ in range(ROUNDS + 1):
        for asking, times in zip(roads, taken, strict=True):
            begun = time.perf_counter()
            asking.ask(operation, parameters)
            if round_:  # the first one connects
                times.append(time.perf_counter() - begun)
    for asking in roads:
        asking.__exit__()
    short, long = sorted(map(median, taken))
    return short, long
