"""The choice of a transport, and the bridge by which threads use an asynchronous one."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

from memx_sdk import AsyncMemxContext, MemxClosedError, MemxConnectionError, MemxError, memxContext
from memx_sdk.bridge import BridgedTransport
from memx_sdk.transport import (
    AsyncMessageStream,
    AsyncTransport,
    Request,
    Response,
    TransportOptions,
)
from tests.sdk.halves import Half, make_context

WAIT = 5.0


class Stream:
    """A stream that sends its own query back and then waits until it is closed."""

    def __init__(self, greeting: str) -> None:
        self._greeting: str | None = greeting
        self._closed = asyncio.Event()

    async def receive(self, timeout: float | None = None) -> str | bytes:
        if self._greeting is not None:
            greeting, self._greeting = self._greeting, None
            return greeting
        await self._closed.wait()
        raise MemxConnectionError("connection", "closed")

    async def close(self) -> None:
        self._closed.set()


class Loopback:
    """An asynchronous transport that answers by itself and remembers the loop that it ran on."""

    opened: ClassVar[weakref.WeakSet[Loopback]] = weakref.WeakSet()

    def __init__(self, options: TransportOptions) -> None:
        self.options = options
        self.requests: list[Request] = []
        self.streams: list[Stream] = []
        self.threads: set[str] = set()
        self.closed = 0
        self.opened.add(self)

    async def request(self, request: Request) -> Response:
        self.threads.add(threading.current_thread().name)
        self.requests.append(request)
        if request.op == "history":  # the one that never ends
            await asyncio.Event().wait()
        return Response(200, b'{"revision":7,"value":1}')

    async def connect(self, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        self.streams.append(Stream(path))
        return self.streams[-1]

    async def close(self) -> None:
        self.closed += 1
        for stream in self.streams:
            await stream.close()


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> type[Loopback]:
    """Registers `Loopback` as an installed transport."""
    point = EntryPoint("loopback", f"{__name__}:Loopback", "memx_sdk.transports")
    monkeypatch.setattr(EntryPoint, "load", lambda self: Loopback)

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        assert group == "memx_sdk.transports"
        return [point] if name in (None, "loopback") else []

    monkeypatch.setattr("memx_sdk._async.transports.opening.entry_points", entry_points)
    monkeypatch.setattr("memx_sdk._sync.transports.opening.entry_points", entry_points)
    Loopback.opened.clear()
    return Loopback


@pytest.mark.parametrize("choice", [{"base_url": "loopback:/a/b"}, {"transport": "loopback"}])
async def test_an_installed_transport_is_chosen_by_scheme_or_name(
    half: Half, loopback: type[Loopback], choice: dict[str, str]
) -> None:
    async with make_context(half, "key", agent="a", **choice) as ctx:
        assert (await ctx.get("k")).revision == 7
        (transport,) = loopback.opened
        assert (transport.options.api_key, transport.options.agent) == ("key", "a")
        if "base_url" in choice:
            assert transport.options.location == "/a/b"
    assert transport.closed == 1


async def test_a_ready_made_transport_is_taken_as_it_is(loopback: type[Loopback]) -> None:
    transport: AsyncTransport = loopback(TransportOptions("loopback:"))
    async with AsyncMemxContext(transport=transport) as ctx:
        assert (await ctx.get("k")) == {"revision": 7, "value": 1, "key": "k"}


async def test_an_unknown_transport_names_those_there_are(
    half: Half, loopback: type[Loopback]
) -> None:
    for wrong in ({"transport": "pigeon"}, {"base_url": "localhost:8000"}):
        with pytest.raises(ValueError, match=r"http, websocket, loopback"):
            make_context(half, **wrong)


def test_threads_share_one_loop_that_ends_with_the_context(loopback: type[Loopback]) -> None:
    before = threading.active_count()
    with memxContext(base_url="loopback:") as ctx:
        assert threading.active_count() == before, "nothing starts before the first use"
        threads = [threading.Thread(target=ctx.get, args=("k",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        (transport,) = loopback.opened
        assert len(transport.requests) == 8
        assert transport.threads == {"memx-transport"}
    assert threading.active_count() == before
    with pytest.raises(MemxClosedError):
        ctx.get("k")


def test_closing_frees_whoever_waits(loopback: type[Loopback]) -> None:
    bridge = BridgedTransport(loopback, TransportOptions("loopback:"))
    ended: list[BaseException] = []

    def wait_for(blocking: Any, *args: Any) -> None:
        try:
            blocking(*args)
        except MemxError as error:
            ended.append(error)

    stream = bridge.connect("/subscribe/k", {})
    assert stream.receive() == "/subscribe/k"
    history = Request("history", "GET", "/history", {})
    waiting = [
        threading.Thread(target=wait_for, args=(stream.receive,), daemon=True),
        threading.Thread(target=wait_for, args=(bridge.request, history), daemon=True),
    ]
    for thread in waiting:
        thread.start()
    (transport,) = loopback.opened
    while not transport.requests:
        waiting[1].join(0.01)
    bridge.close()
    for thread in waiting:
        thread.join(WAIT)
    assert {type(error) for error in ended} == {MemxConnectionError, MemxClosedError}
    stream.close()
    bridge.close()


def test_a_context_that_is_dropped_closes_its_transport(loopback: type[Loopback]) -> None:
    before = threading.active_count()
    ctx = memxContext(base_url="loopback:")
    ctx.get("k")
    (transport,) = loopback.opened
    del ctx
    gc.collect()
    assert transport.closed == 1
    assert threading.active_count() == before
