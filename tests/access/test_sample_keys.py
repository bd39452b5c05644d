"""The sample API keys, which everybody knows, open nothing to anybody but the server's own machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from memx_server.app import create_app
from memx_server.auth.acl_file import AclFile
from memx_server.auth.sample_keys import SAMPLE_CREDENTIALS, is_loopback
from memx_server.settings import Settings
from memx_server.storage.sqlite import SqliteStore

from tests.support.memx_server import running_app
from tests.support.roads import ROADS, Road, by_name, code_of

SAMPLE, REAL = "local_dev_key", "Zk3vJ1qk-own-key"
REBOUND = {"host": "evil.example:8000"}
PROXIED = [
    {"forwarded": "for=192.0.2.7"},
    {"x-forwarded-for": "192.0.2.7"},
    {"x-forwarded-host": "memx.example.org"},
    {"x-real-ip": "192.0.2.7"},
    {"via": "1.1 proxy"},
]
_GOOD = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


async def _mcp(url: str, headers: Any, count: int) -> list[str]:
    call = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with httpx.AsyncClient(headers={**_GOOD, **headers}) as http:
        answers = [await http.post(f"{url}/mcp", json=call) for _ in range(count)]
    # Whatever MCP makes of a single ping: it is the key's doing only where the status is that of a refused key.
    refused = [each.status_code == 403 and b"sample API key" in each.content for each in answers]
    return ["forbidden" if each else "ok" for each in refused]


async def _ticket(url: str, headers: Any, count: int) -> list[str]:
    """Tickets, which are made on the server's own machine, redeemed wherever ``headers`` come from."""
    found = []
    key = {"x-api-key": headers["x-api-key"]}
    others = {name: value for name, value in headers.items() if name != "x-api-key"}
    async with httpx.AsyncClient() as http:
        for _ in range(count):
            issued = await http.post(f"{url}/ticket", json={}, headers=key)
            if issued.status_code >= 400:
                found.append(code_of(issued.status_code, issued.content))
                continue
            query = {"ticket": issued.json()["ticket"]}
            accept = {"accept": "text/event-stream", **others}
            async with http.stream("GET", f"{url}/changes", params=query, headers=accept) as answer:
                body = await answer.aread() if answer.status_code >= 400 else b""
                found.append(code_of(answer.status_code, body))
    return found


EVERY_ROAD = (*ROADS, Road("/mcp", "", _mcp), Road("a ticket", "", _ticket))
on_every_road = pytest.mark.parametrize("road", EVERY_ROAD, ids=by_name(EVERY_ROAD))


@contextmanager
def serving(folder: Path, *, address: str | None = None, **settings: Any) -> Iterator[str]:
    """A server with both keys in its file; where an address is given, its connections were made to that."""
    acl = folder / "acl.json"
    acl.write_text(json.dumps({SAMPLE: ["*"], REAL: ["*"]}))
    app = create_app(
        Settings(**settings), store=SqliteStore(folder / "memx.db"), authenticator=AclFile(acl)
    )

    async def moved(scope: Any, receive: Any, send: Any) -> None:
        if address is not None and scope["type"] != "lifespan":
            scope["server"] = (address, 8000)
        await app(scope, receive, send)

    with running_app(moved) as url:
        yield url


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("home")) as url:
        yield url


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("elsewhere"), address="192.0.2.1") as url:
        yield url


@on_every_road
async def test_on_the_servers_own_machine_it_works(at_home: str, road: Road) -> None:
    assert await road.ask(at_home, {"x-api-key": SAMPLE}, 1) == [road.outcome]


@on_every_road
async def test_under_a_foreign_name_it_is_refused(at_home: str, road: Road) -> None:
    """The name is that of a page which made it point here (DNS rebinding)."""
    assert await road.ask(at_home, {"x-api-key": SAMPLE, **REBOUND}, 1) == ["forbidden"]
    assert await road.ask(at_home, {"x-api-key": REAL, **REBOUND}, 1) == [road.outcome]


@on_every_road
async def test_behind_a_proxy_it_is_refused(at_home: str, road: Road) -> None:
    headers = {"x-forwarded-for": "192.0.2.7"}
    assert await road.ask(at_home, {"x-api-key": SAMPLE, **headers}, 1) == ["forbidden"]
    assert await road.ask(at_home, {"x-api-key": REAL, **headers}, 1) == [road.outcome]


@on_every_road
async def test_on_an_address_of_the_network_it_is_refused(elsewhere: str, road: Road) -> None:
    assert await road.ask(elsewhere, {"x-api-key": SAMPLE}, 1) == ["forbidden"]
    assert await road.ask(elsewhere, {"x-api-key": REAL}, 1) == [road.outcome]


@pytest.mark.parametrize("headers", PROXIED, ids=lambda each: next(iter(each)))
def test_every_header_of_a_proxy_counts(at_home: str, headers: dict[str, str]) -> None:
    for key in (SAMPLE, REAL):
        for credential in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
            answer = httpx.get(f"{at_home}/whoami", headers={**credential, **headers})
            assert answer.status_code == (403 if key == SAMPLE else 200)


@pytest.mark.parametrize("headers", [REBOUND, *PROXIED[:1]], ids=["host", "proxy"])
def test_the_refusal_says_what_to_do(at_home: str, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{at_home}/whoami", headers={"x-api-key": SAMPLE, **headers})
    assert answer.json()["error"] == "forbidden"
    assert "memx api-keys create" in answer.json()["detail"]


def test_a_page_that_rebinds_reads_nothing(at_home: str) -> None:
    """As a browser sends it: the page is the server's own, by the name that it was reached under."""
    page = {"origin": "http://evil.example:8000", "sec-fetch-site": "same-origin", **REBOUND}
    for path in ("/get?key=a", "/keys", "/changes"):
        answer = httpx.get(f"{at_home}{path}", headers={"x-api-key": SAMPLE, **page})
        assert answer.status_code == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_the_servers_own_names(at_home: str, host: str) -> None:
    answer = httpx.get(f"{at_home}/whoami", headers={"x-api-key": SAMPLE, "host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(("hosts", "status"), [(("memx.test",), 200), (("*",), 403)])
def test_further_names_are_the_operators(
    tmp_path: Path, hosts: tuple[str, ...], status: int
) -> None:
    """That any name will do is no name."""
    with serving(tmp_path, allowed_hosts=hosts) as url:
        for host in ("memx.test", "localhost"):
            answer = httpx.get(f"{url}/whoami", headers={"x-api-key": SAMPLE, "host": host})
            assert answer.status_code == (200 if host == "localhost" else status)


def test_a_port_that_is_published_on_loopback_counts_as_one(tmp_path: Path) -> None:
    """As by Compose: the connection comes from the container's network."""
    with serving(tmp_path, address="172.18.0.3", published_on_loopback=True) as url:
        own = {"x-api-key": SAMPLE}
        assert httpx.get(f"{url}/whoami", headers=own).status_code == 200
        for headers in (REBOUND, *PROXIED):
            answer = httpx.get(f"{url}/whoami", headers={**own, **headers})
            assert answer.status_code == 403


def test_an_old_client_without_a_host_is_refused(at_home: str) -> None:
    address = urlsplit(at_home)
    with socket.create_connection((address.hostname, address.port), 5) as wire:
        wire.sendall(f"GET /whoami HTTP/1.0\r\nx-api-key: {SAMPLE}\r\n\r\n".encode())
        assert b" 403 " in wire.recv(1000).split(b"\r\n")[0]


def test_the_keys_of_the_sample_file_are_the_sample_keys() -> None:
    names = json.loads(Path("config/acl.json").read_text())
    assert {sha256(name.encode()).hexdigest() for name in names} <= SAMPLE_CREDENTIALS


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("/run/memx.sock", False),
    ],
)
def test_what_a_loopback_address_is(address: str, local: bool) -> None:
    assert is_loopback(address) == local
