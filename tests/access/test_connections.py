"""How many connections a server keeps has a bound, and those that nobody knows lock nobody out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection

import pytest
from memx_server.routes.http.protocol import HttpProtocol
from memx_server.settings import Limits, Settings
from memx_server.storage.sqlite import SqliteStore
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.mcp.test_mounted import ACCEPT, INITIALIZE
from tests.support.memx_server import Served, serve_store
from tests.support.wire import SOON, Wire, head_of, refused, until

MOST, UNKNOWN = 8, 4
HEAD_SECONDS = 3.0
SETTINGS = Settings(
    limits=Limits(connections=MOST, unknown_connections=UNKNOWN), head_timeout=HEAD_SECONDS
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_store(SqliteStore(tmp_path_factory.mktemp("memx") / "memx.db"), SETTINGS) as server:
        yield server


class Known:
    """A connection that is kept, on which an API key was shown."""

    def __init__(self, served: Served, key: str) -> None:
        host, _, port = served.url.removeprefix("http://").rpartition(":")
        self._connection = HTTPConnection(host, int(port), timeout=SOON)
        self._key = key

    def status(self) -> int:
        self._connection.request("GET", "/get?key=a", headers={"x-api-key": self._key})
        response = self._connection.getresponse()
        response.read()
        return response.status

    def mcp_status(self) -> int:
        headers = {"x-api-key": self._key, "Content-Type": "application/json", **ACCEPT}
        self._connection.request("POST", "/mcp", json.dumps(INITIALIZE), headers)
        response = self._connection.getresponse()
        response.read()
        return response.status

    def close(self) -> None:
        self._connection.close()


def test_unknown_connections_make_room_the_oldest_first_and_known_ones_stay(
    served: Served,
) -> None:
    known = Known(served, served.fresh_key())
    assert known.status() == 200
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(served.url)) for _ in range(UNKNOWN)]
        for wire in wires:
            wire.send(b"GET /healthz HTTP/1.1\r\n")
        late = stack.enter_context(Wire(served.url))
        refused(wires[0], 503, "unavailable", "connections")
        assert b"retry-after: 1" in wires[0].received
        # The others are as they were.
        late.send(head_of("/healthz", "connection: close"))
        assert b" 200 " in late.all()
        wires[1].send(b"host: localhost\r\nconnection: close\r\n\r\n")
        assert b" 200 " in wires[1].all()
    assert known.status() == 200
    known.close()


def test_a_client_of_mcp_that_has_shown_its_key_is_known_too(served: Served) -> None:
    known = Known(served, served.fresh_key())
    assert known.mcp_status() == 200
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(served.url)) for _ in range(UNKNOWN)]
        for wire in wires:
            wire.send(b"GET /healthz HTTP/1.1\r\n")
        late = stack.enter_context(Wire(served.url))
        late.send(head_of("/healthz", "connection: close"))
        assert b" 200 " in late.all()
        # It is the oldest one, and would have made room were it unknown.
        assert known.mcp_status() == 200
    known.close()


def test_a_flood_of_connections_without_a_key_lets_those_with_one_in(served: Served) -> None:
    key = served.fresh_key()
    with ExitStack() as stack:
        for _ in range(10):
            for _ in range(5):
                stack.enter_context(Wire(served.url))
            known = Known(served, key)
            assert known.status() == 200
            known.close()


def test_a_full_server_says_so_and_goes_on_when_there_is_room(served: Served) -> None:
    key = served.fresh_key()
    address = served.url.replace("http", "ws", 1) + "/ws"
    headers = {"x-api-key": key}
    with ExitStack() as stack:
        # Sockets and requests count together.
        sockets = [
            stack.enter_context(connect(address, additional_headers=headers))
            for _ in range(MOST // 2)
        ]
        known = [Known(served, key) for _ in range(MOST - MOST // 2)]
        assert [each.status() for each in known] == [200] * len(known)
        with Wire(served.url) as wire:
            with suppress(OSError):
                wire.send(head_of("/get?key=a", f"x-api-key: {key}"))
            refused(wire, 503, "unavailable", "connections")
        with pytest.raises(InvalidStatus) as caught:
            connect(address, additional_headers=headers)
        assert caught.value.response.status_code == 503
        assert json.loads(caught.value.response.body or b"{}")["limit"] == "connections"
        # Those that are open are served as before.
        sockets[0].recv(SOON)
        sockets[0].send('{"id":1,"op":"ping"}')
        assert json.loads(sockets[0].recv(SOON))["ok"]
        known.pop().close()

        def has_room() -> bool:
            with suppress(OSError):
                another = Known(served, key)
                found = another.status() == 200
                another.close()
                return found
            return False

        until(has_room)
        for each in known:
            each.close()


def test_a_request_that_trickles_in_is_read_in_steps(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte would otherwise cost a turn, and a thousand connections may send one at a time."""
    pieces: list[int] = []
    take = HttpProtocol.data_received

    def count(self: HttpProtocol, data: bytes) -> None:
        pieces.append(len(data))
        take(self, data)

    monkeypatch.setattr(HttpProtocol, "data_received", count)
    head = head_of("/healthz", "connection: close", "x-long: " + "a" * 400)
    with Wire(served.url) as wire:
        began = time.monotonic()
        for place in range(len(head)):
            wire.send(head[place : place + 1])
            time.sleep(0.001)  # the slowness of the sender is what is tested
        assert b" 200 " in wire.all()
        assert time.monotonic() - began < HEAD_SECONDS
    assert sum(pieces) == len(head)
    assert len(pieces) < 100
