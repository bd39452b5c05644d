"""Connections that end: revoked, expired, half open, stuck, or because the server does."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn
from memx_server import serving
from memx_server.domain.access import Principal
from memx_server.routes.ws import connection
from memx_server.storage.sqlite import SqliteStore

from tests.feed.sockets import (
    DEADLINE,
    Address,
    Multiplexed,
    Reachable,
    Socket,
    client,
    multiplexed,
    subscribed,
)
from tests.feed.test_events import streaming
from tests.support.memx_server import MemxServer, Served, serve_store
from tests.support.redis_server import RedisServer

BIG = "x" * 100_000


@contextmanager
def bare_subscriber(served: Reachable, key: str, receive_buffer: int = 4096) -> Iterator[None]:
    """A subscriber that shakes hands and then neither reads nor answers."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        peer.settimeout(DEADLINE)
        peer.connect((host, int(port)))
        nonce = base64.b64encode(os.urandom(16)).decode()
        peer.sendall(
            f"GET /subscribe/* HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n"
            f"x-api-key: {key}\r\n\r\n".encode()
        )
        assert b" 101 " in peer.recv(200)[:16]
        yield


@asynccontextmanager
async def every_kind(served: Reachable, key: str) -> AsyncIterator[tuple[list[Socket], Any]]:
    """A socket of each kind and a stream of events."""
    async with (
        subscribed(served, "*", key=key) as one,
        multiplexed(served, key=key) as many,
        streaming(served, "?since=now", key=key) as events,
    ):
        await many.ask("subscribe", pattern="*")
        await events.until("live")
        yield [one, many], events


async def test_a_revoked_key_loses_its_connections(server: Served) -> None:
    loop = _loop_of(server)
    sessions = server.app.services.sessions
    key, other = server.fresh_key(), server.fresh_key()
    async with every_kind(server, key) as (sockets, events), subscribed(server, key=other) as kept:
        credential = f"digest-{key}"
        assert credential in sessions.credentials
        (await loop).call_soon_threadsafe(sessions.revoke, credential)
        for each in sockets:
            assert await each.closed() == (4401, "revoked")
        assert await events.ended()
        assert await kept.silent()


def _loop_of(served: Served) -> asyncio.Future[asyncio.AbstractEventLoop]:
    """The event loop on which ``served`` authenticates, known at the first call."""
    here = asyncio.get_running_loop()
    found: asyncio.Future[asyncio.AbstractEventLoop] = here.create_future()
    authenticate = served.keys.authenticate

    def tell(loop: asyncio.AbstractEventLoop) -> None:
        if not found.done():
            found.set_result(loop)

    async def observed(credential: str | None) -> Principal:
        here.call_soon_threadsafe(tell, asyncio.get_running_loop())
        return await authenticate(credential)

    served.keys.authenticate = observed  # type: ignore[method-assign]  # for this server only
    return found


async def test_a_key_that_expires_loses_its_connections(server: Served) -> None:
    key = server.fresh_key(expires_at=time.time() + 1.0)
    async with every_kind(server, key) as (sockets, events):
        for each in sockets:
            assert await each.closed() == (4401, "the API key has expired")
        assert await events.ended()


def _configure_otherwise(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    configure = serving.configure

    def configured(app: Any) -> uvicorn.Config:
        config = configure(app)
        for name, value in options.items():
            setattr(config, name, value)
        return config

    monkeypatch.setattr(serving, "configure", configured)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Served]:
    """A server that pings its sockets five times a second."""
    _configure_otherwise(monkeypatch, ws_ping_interval=0.2, ws_ping_timeout=0.2)
    with serve_store(SqliteStore(tmp_path / "memx.db")) as served:
        yield served


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Served]:
    """A server that runs as ``uvicorn memx_server.app:app`` does: no shared frames, but deflate."""
    _configure_otherwise(monkeypatch, ws="websockets-sansio", ws_per_message_deflate=True)
    monkeypatch.setattr(connection, "PATIENCE", 0.5)
    with serve_store(SqliteStore(tmp_path / "memx.db")) as served:
        yield served


async def test_a_plain_asgi_server_will_do(plain: Served) -> None:
    async with client(plain) as http, subscribed(plain, snapshot="true") as socket:
        assert (await socket.receive())["event"] == "live"
        async with multiplexed(plain) as many:
            await many.ask("subscribe", pattern="*")
            for number in range(100):
                await http.post("/set", json={"key": "k", "value": number})
            for each in (socket, many):
                frames = await each.until(value=99)
                assert [f["value"] for f in frames if "value" in f] == list(range(100))


async def test_a_plain_asgi_server_gives_up_on_a_client_that_never_reads(plain: Served) -> None:
    key = plain.fresh_key()
    with bare_subscriber(plain, key):
        async with client(plain, key) as http:
            for number in range(80):
                await http.post("/set", json={"key": "k", "value": [number, BIG]})
        await _gone(plain, key)


async def _gone(served: Served, key: str) -> None:
    """Wait until no connection of ``key`` is open."""
    async with asyncio.timeout(DEADLINE):
        while f"digest-{key}" in served.app.services.sessions.credentials:  # noqa: ASYNC110 - it is
            await asyncio.sleep(0.02)  # another event loop's, and tells nobody


async def test_a_half_open_connection_is_dropped(impatient: Served) -> None:
    key = impatient.fresh_key()
    with bare_subscriber(impatient, key):
        assert f"digest-{key}" in impatient.app.services.sessions.credentials
        await _gone(impatient, key)


async def test_an_idle_connection_that_answers_pings_stays(impatient: Served) -> None:
    async with client(impatient) as http, subscribed(impatient, "k") as socket:
        await asyncio.sleep(1.0)
        await http.post("/set", json={"key": "k", "value": 1})
        assert (await socket.receive())["value"] == 1


async def test_a_client_that_never_reads_is_dropped_and_keeps_nobody_waiting(
    impatient: Served,
) -> None:
    key = impatient.fresh_key()
    with bare_subscriber(impatient, key):
        async with client(impatient, key) as http, subscribed(impatient, key=key) as other:
            for number in range(50):
                await http.post("/set", json={"key": "k", "value": [number, BIG]})
                assert (await other.receive())["value"][0] == number
        await _gone(impatient, key)


async def test_memory_stays_flat_while_clients_do_not_read(redis_any: RedisServer) -> None:
    """Twenty stuck subscribers, and sixty megabytes written past them."""
    value = "x" * 200_000
    environ = {"REDIS_URL": redis_any.url}
    with MemxServer("serve", environ=environ) as process, ExitStack() as stack:
        served = Address(process.url)
        for _ in range(20):
            stack.enter_context(bare_subscriber(served, served.api_key))
        resident = psutil.Process(process.pid).memory_info
        async with client(served) as http, subscribed(served) as reader:
            highest = lowest = 0
            for number in range(300):
                await http.post("/set", json={"key": f"k{number % 10}", "value": [number, value]})
                assert (await reader.receive())["value"][0] == number
                highest = max(highest, resident().rss)
                if number == 20:
                    lowest = highest
        assert highest - lowest < 25_000_000


async def test_a_server_that_is_told_to_end_says_so_and_ends(redis_any: RedisServer) -> None:
    environ = {"REDIS_URL": redis_any.url}
    with MemxServer("serve", environ=environ) as process:
        served = Address(process.url)
        async with every_kind(served, served.api_key) as (sockets, events), client(served) as http:
            head = (await http.get("/changes")).json()["cursor"]
            polling = asyncio.create_task(http.get("/changes", params={"since": head, "wait": 60}))
            with bare_subscriber(served, served.api_key):
                await asyncio.sleep(0.1)
                start = time.monotonic()
                assert await asyncio.to_thread(process.stop) == 0
                assert time.monotonic() - start < 6
                for each in sockets:
                    assert (await each.closed())[0] == 1012
                assert await events.ended()
            await asyncio.gather(polling, return_exceptions=True)
        assert "Traceback" not in process.log


async def test_ten_thousand_subscriptions_on_one_key(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = stack.enter_context(serve_store(SqliteStore(tmp_path / "memx.db")))
        sockets = [await stack.enter_async_context(multiplexed(server)) for _ in range(10)]
        await asyncio.gather(*(_subscribe_often(each, 1000) for each in sockets))
        http = await stack.enter_async_context(client(server))
        await http.post("/set", json={"key": "k", "value": 1})
        start = time.monotonic()
        heard = await asyncio.gather(*(_hear_of(each, 1000) for each in sockets))
        assert [len(subscriptions) for subscriptions in heard] == [1000] * 10
        assert time.monotonic() - start < 10


async def _subscribe_often(socket: Multiplexed, count: int) -> None:
    for number in range(count):
        await socket.send(id=number, op="subscribe", pattern="k")
    lives = 0
    while lives < count:
        lives += (await socket.receive()).get("event") == "live"


async def _hear_of(socket: Socket, count: int) -> set[int]:
    heard: set[int] = set()
    while len(heard) < count:
        frame = await socket.receive()
        assert (frame["event"], frame["key"]) == ("value", "k")
        heard.add(frame["sub"])
    return heard
