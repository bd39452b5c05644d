"""What a response can make the server hold has a bound in bytes, and so has what slow readers leave unread."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from memx_server.settings import Limits, Settings
from memx_server.storage.base import Store
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore
from websockets.sync.client import connect as connect_socket
from websockets.sync.connection import Connection

from memx_sdk import AsyncMemxContext
from tests.access.crossing import client
from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import RedisServer
from tests.support.wire import SOON, head_of, until

RESPONSE = 400_000
ALL_RESPONSES = 4_000_000
VALUE = "a" * 120_000
LIMITS = Limits(value_bytes=130_000, response_bytes=RESPONSE, responses_bytes=ALL_RESPONSES)
LONGEST = RESPONSE + 1000
"""A response in bytes: what it carries, and the names around it."""


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("memx")
    if request.param == "sqlite":
        store: Store = SqliteStore(folder / "memx.db")
    else:
        redis: RedisServer = request.getfixturevalue("redis_any")
        store = RedisStore(redis.url, prefix=f"large-{folder.name}")
    with serve_store(store, Settings(limits=LIMITS)) as served:
        yield served


@pytest.fixture
def key(served: Served) -> str:
    """An API key for a space with ten entries of which three fit into a response."""
    key = served.fresh_key()
    with client(served.url, key) as api:
        for number in range(10):
            api.post("/set", json={"key": f"k{number}", "value": VALUE}).raise_for_status()
    return key


@pytest.fixture
async def memory(served: Served, key: str) -> AsyncIterator[AsyncMemxContext]:
    async with AsyncMemxContext(key, served.url) as memory:
        yield memory


def pages(api: httpx.Client, path: str, member: str, **query: Any) -> Iterator[dict[str, Any]]:
    """Follow the cursors of a path, asserting that no page is too long."""
    more = True
    while more:
        answer = api.get(path, params=query)
        assert answer.status_code == 200, answer.text
        assert len(answer.content) <= LONGEST
        page: dict[str, Any] = answer.json()
        yield page
        more = page.get("more", page.get("next") is not None)
        query[{"next": "cursor", "cursor": "since"}[member]] = page[member]


def test_pages_of_entries_end_where_they_are_full_and_go_on(served: Served, key: str) -> None:
    with client(served.url, key) as api:
        found = list(pages(api, "/keys", "next", values="true"))
        assert [len(page["entries"]) for page in found] == [3, 3, 3, 1]
        keys = [entry["key"] for page in found for entry in page["entries"]]
        assert keys == [f"k{number}" for number in range(10)]
        # Keys alone are short, whatever they hold.
        assert len(api.get("/keys").json()["keys"]) == 10


def test_pages_of_changes_end_where_they_are_full_and_go_on(served: Served, key: str) -> None:
    with client(served.url, key) as api:
        found = list(pages(api, "/changes", "cursor"))
        assert [len(page["changes"]) for page in found] == [3, 3, 3, 1]
        keys = [change["key"] for page in found for change in page["changes"]]
        assert keys == [f"k{number}" for number in range(10)]


def test_a_transaction_that_is_longer_than_a_page_comes_whole(served: Served) -> None:
    with client(served.url, served.fresh_key()) as api:
        then = [{"op": "set", "key": f"k{number}", "value": VALUE} for number in range(5)]
        api.post("/set", json={"key": "before", "value": 1}).raise_for_status()
        api.post("/txn", json={"then": then}).raise_for_status()
        api.post("/set", json={"key": "after", "value": 1}).raise_for_status()
        first = api.get("/changes").json()
        second = api.get("/changes", params={"since": first["cursor"]}).json()
        third = api.get("/changes", params={"since": second["cursor"]}).json()
        assert [len(page["changes"]) for page in (first, second, third)] == [1, 5, 1]
        assert [page["more"] for page in (first, second, third)] == [True, True, False]


async def test_the_sdk_follows_pages_that_end_early(
    memory: AsyncMemxContext, served: Served, key: str
) -> None:
    assert [entry.key for entry in await memory.entries("*")] == [f"k{n}" for n in range(10)]
    for number in range(5):
        await memory.set("long", f"{number}{VALUE}")
    changes = await memory.history("long", limit=4)
    assert [change.value[0] for change in changes] == ["4", "3", "2", "1"]


def test_entries_that_are_too_much_together_are_refused_and_it_is_said_how_many_fit(
    served: Served, key: str
) -> None:
    keys = [f"k{number}" for number in range(10)]
    with client(served.url, key) as api:
        refused = api.post("/mget", json={"keys": keys})
        error = refused.json()
        assert (refused.status_code, error["error"], error["limit"]) == (
            413,
            "too_large",
            "response_bytes",
        )
        assert error["fits"] == 3
        fitting = api.post("/mget", json={"keys": keys[: error["fits"]]})
        assert len(fitting.json()["entries"]) == 3
        gets = [{"op": "get", "key": each} for each in keys]
        refused = api.post("/txn", json={"then": gets})
        assert (refused.status_code, refused.json()["limit"]) == (413, "response_bytes")
        assert api.post("/txn", json={"then": gets[:3]}).status_code == 200


def test_reads_that_come_together_are_answered_however_much_they_are(
    served: Served, key: str
) -> None:
    with _socket(served, key) as ws:
        names = [f"k{number}" for number in range(10)] * 10 + ["none", "* no key"]
        for number, name in enumerate(names):
            ws.send(json.dumps({"id": number, "op": "get", "key": name}))
        answers = {}
        for _ in names:
            answer = json.loads(ws.recv(SOON))
            answers[answer["id"]] = answer
        for number, name in enumerate(names[:100]):
            assert name in json.dumps(answers[number])
            assert VALUE in json.dumps(answers[number])
        assert not answers[101]["ok"]
    until(lambda: served.app.services.responses.held == 0)


def test_responses_that_nobody_reads_hold_no_more_than_the_share_of_a_space(
    served: Served, key: str
) -> None:
    budget = served.app.services.responses
    request = head_of("/keys?values=true", f"x-api-key: {key}")
    other = served.fresh_key()
    with client(served.url, key) as api, client(served.url, other) as others, ExitStack() as stack:
        wires = [stack.enter_context(_narrow(served)) for _ in range(12)]
        for wire in wires:
            wire.sendall(request * 30)
        until(lambda: budget.held > ALL_RESPONSES // 2 - LONGEST)
        assert budget.held <= ALL_RESPONSES // 2
        refused = api.get("/keys", params={"values": "true"})
        assert (refused.status_code, refused.json()["limit"]) == (503, "responses_bytes")
        assert "retry-after" in refused.headers
        # What is small is answered all the same, and so are other spaces.
        assert api.get("/get", params={"key": "k1"}).status_code == 200
        for number in range(3):
            others.post("/set", json={"key": f"k{number}", "value": VALUE}).raise_for_status()
        assert len(others.get("/keys", params={"values": "true"}).json()["entries"]) == 3
    until(lambda: budget.held == 0)


def test_snapshots_count_until_they_are_sent(served: Served, key: str) -> None:
    """Each of them is built for itself, since its pattern is its own."""
    budget = served.app.services.responses
    with ExitStack() as stack:
        for number in range(8):
            ws = stack.enter_context(_socket(served, key))
            pattern = "*" * (number + 1)
            frame = {"id": 1, "op": "subscribe", "pattern": pattern, "snapshot": True}
            ws.send(json.dumps(frame))
            values = 0
            while "live" not in (text := str(ws.recv(SOON))):
                values += VALUE in text
            assert values == 10
    until(lambda: budget.held == 0)


@contextmanager
def _socket(served: Served, key: str) -> Iterator[Connection]:
    address = served.url.replace("http", "ws", 1)
    with connect_socket(
        f"{address}/ws", additional_headers={"x-api-key": key}, max_size=None, compression=None
    ) as ws:
        ws.recv(SOON)  # hello
        yield ws


@contextmanager
def _narrow(served: Served) -> Iterator[socket.socket]:
    """A connection that takes hardly anything unless it is read."""
    host, _, port = served.url.removeprefix("http://").rpartition(":")
    with socket.socket() as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect((host, int(port)))
        yield narrow
