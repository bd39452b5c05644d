"""A head that a connection sends again is not read again, and everything else in it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from memx_server.app import create_app
from memx_server.settings import Settings
from memx_server.storage.sqlite import SqliteStore

from tests.support.memx_server import Served, running_app, serve_store

VALUE = {"key": "head", "value": "x"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = SqliteStore(str(tmp_path_factory.mktemp("head") / "memx.db"))
    with serve_store(store) as server:
        yield server


@pytest.fixture
async def connection(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests all go over one connection."""
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(base_url=served.url, limits=limits) as client:
        yield client


async def test_another_api_key_or_agent_is_another_caller(
    served: Served, connection: httpx.AsyncClient
) -> None:
    writers = []
    for name, agent in (("ann", None), ("ann", None), ("ben", None), ("ben", "b2"), ("ann", None)):
        key = served.keys.add(key=f"key-{name}", agent=name, space="heads")
        headers = {"x-api-key": key} | ({"x-memx-agent": agent} if agent else {})
        assert (await connection.post("/set", json=VALUE, headers=headers)).status_code == 200
        entry = await connection.get("/get", params={"key": "head"}, headers=headers)
        writers.append(entry.json()["writer"])
    assert writers == ["ann", "ann", "ben", "ben/b2", "ann"]


async def test_a_body_of_another_length_is_read_whole_and_within_its_limit(
    served: Served, connection: httpx.AsyncClient
) -> None:
    headers = {"x-api-key": served.fresh_key()}
    for length in (1, 1, 30_000, 2):
        body = {"key": "head", "value": "x" * length}
        assert (await connection.post("/set", json=body, headers=headers)).status_code == 200
        entry = await connection.get("/get", params={"key": "head"}, headers=headers)
        assert len(entry.json()["value"]) == length
    too_long = {"key": "head", "value": "x" * 30_000_000}
    refused = await connection.post("/set", json=too_long, headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (413, "too_large")


async def test_a_revoked_key_opens_nothing_although_its_head_is_known(
    served: Served, connection: httpx.AsyncClient
) -> None:
    headers = {"x-api-key": served.fresh_key()}
    assert (await connection.post("/set", json=VALUE, headers=headers)).status_code == 200
    served.keys.remove(headers["x-api-key"])
    assert (await connection.post("/set", json=VALUE, headers=headers)).status_code == 403


async def test_a_header_that_comes_a_second_time_is_refused_behind_a_known_head(
    served: Served,
) -> None:
    key = served.fresh_key()
    good = f"GET /get?key=head HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n\r\n"
    twice = good.replace("\r\n\r\n", "\r\nx-api-key: other\r\n\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    statuses = []
    for request in (good, good, twice, good):
        writer.write(request.encode())
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
        statuses.append(int(head.split()[1]))
    writer.close()
    assert statuses == [200, 200, 400, 200]


async def test_a_sample_key_that_a_proxy_passes_on_is_refused_behind_a_known_head(
    tmp_path: Path,
) -> None:
    acl = tmp_path / "acl.json"
    acl.write_text('{"local_dev_key": ["*"]}')
    app = create_app(Settings(acl_file=acl), store=SqliteStore(str(tmp_path / "memx.db")))
    with running_app(app) as url:
        async with httpx.AsyncClient(
            base_url=url, limits=httpx.Limits(max_connections=1), params={"key": "head"}
        ) as client:
            statuses = []
            for further in ({}, {}, {"x-forwarded-for": "192.0.2.7"}, {"via": "1.1 proxy"}, {}):
                headers = {"x-api-key": "local_dev_key", **further}
                statuses.append((await client.get("/get", headers=headers)).status_code)
    assert statuses == [200, 200, 403, 403, 200]
