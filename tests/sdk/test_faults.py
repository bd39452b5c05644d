"""A write happens once, whatever happens to its request and its reply on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import httpx
import pytest

from memx_sdk import (
    BadAnswerError,
    ConflictError,
    MemxConnectionError,
    MemxError,
    MemxTimeout,
    UnavailableError,
)
from tests.sdk.fault_server import FAULTS, Fault, FaultProxy
from tests.sdk.halves import Beside, Half, make_context

PATIENCE = {"stall": 0.3}
"""Seconds to wait for an answer; long where none is expected to stay away."""


def quick(ctx: Any, **options: Any) -> Any:
    """Make a context wait less between attempts."""
    caller = getattr(ctx, "target", ctx)._caller
    caller._retry = replace(caller._retry, first_delay=0.01, **options)
    return ctx


def impatient(half: Half, url: str, fault: Fault, **options: Any) -> Any:
    """A context that gives up soon where the fault is silence."""
    return quick(make_context(half, "full_key", url, timeout=PATIENCE.get(fault, 10), **options))


@pytest.fixture
async def proxy(base_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(base_url) as standing:
        yield standing


@pytest.fixture
def fault() -> Fault:
    """The fault of a test that has but one."""
    return "lose_reply"


@pytest.fixture
async def shaky(half: Half, proxy: FaultProxy, fault: Fault) -> AsyncIterator[Any]:
    """A context that reaches the server through the proxy."""
    async with impatient(half, proxy.url, fault) as opened:
        yield opened


Write = Callable[[Any, str], Coroutine[Any, Any, Any]]
WRITES: dict[str, Write] = {
    "set": lambda ctx, key: ctx.set(key, 1),
    "set_if_missing": lambda ctx, key: ctx.set(key, 1, if_revision=0),
    "merge": lambda ctx, key: ctx.merge(key, {"a": 1}),
    "increment": lambda ctx, key: ctx.increment(key),
    "append": lambda ctx, key: ctx.append(key, [1]),
    "txn": lambda ctx, key: ctx.txn(then=[{"op": "increment", "key": key, "increment": 1}]),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WRITES)
async def test_a_write_is_applied_once(
    http_ctx: Any, shaky: Any, proxy: FaultProxy, prefix: str, name: str, fault: Fault
) -> None:
    proxy.plan = iter([fault])
    answer = await WRITES[name](shaky, prefix)
    (change,) = await http_ctx.history(prefix)
    assert answer.revision == change.revision
    assert change.version == 1
    assert proxy.seen == 2


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_delete_tells_what_the_first_one_did(
    http_ctx: Any, shaky: Any, proxy: FaultProxy, prefix: str, fault: Fault
) -> None:
    await http_ctx.set(prefix, 1)
    proxy.plan = iter([fault])
    assert (await shaky.delete(prefix)).deleted is True
    assert [change.action for change in await http_ctx.history(prefix)] == ["delete", "set"]


async def test_a_conflict_is_raised_though_its_first_reply_was_lost(
    http_ctx: Any, shaky: Any, proxy: FaultProxy, prefix: str
) -> None:
    await http_ctx.set(prefix, "theirs")
    proxy.plan = iter(["lose_reply"])
    with pytest.raises(ConflictError) as caught:
        await shaky.set(prefix, "mine", if_revision=0)
    assert caught.value.entry is not None
    assert caught.value.entry.value == "theirs"


@pytest.mark.parametrize("fault", FAULTS)
async def test_reads_and_schemas_survive_too(
    http_ctx: Any, shaky: Any, proxy: FaultProxy, prefix: str, fault: Fault
) -> None:
    await http_ctx.set(prefix, 1)
    proxy.plan = iter([fault])
    assert (await shaky.get(prefix)).value == 1
    proxy.plan = iter([fault])
    await shaky.set_schema(prefix, {"type": "number"})
    proxy.plan = iter([fault])
    assert (await shaky.delete_schema(prefix))["ok"] is True


ENDINGS: list[tuple[Fault, type[MemxError], type[Exception]]] = [
    ("lose_request", MemxConnectionError, httpx.TransportError),
    ("lose_reply", MemxConnectionError, httpx.TransportError),
    ("cut_reply", MemxConnectionError, httpx.TransportError),
    ("garble_reply", MemxConnectionError, httpx.RemoteProtocolError),
    ("stall", MemxTimeout, httpx.ReadTimeout),
    ("proxy_error", UnavailableError, httpx.HTTPStatusError),
]


@pytest.mark.parametrize(("fault", "kind", "foreign"), ENDINGS)
async def test_without_retries_the_fault_is_raised(
    half: Half,
    proxy: FaultProxy,
    prefix: str,
    fault: Fault,
    kind: type[MemxError],
    foreign: type[Exception],
) -> None:
    proxy.plan = iter([fault])
    async with impatient(half, proxy.url, fault, max_retries=0) as hasty:
        with pytest.raises(kind) as caught:
            await hasty.set(prefix, 1)
        assert isinstance(caught.value, foreign)
        assert "full_key" not in str(caught.value)
        assert (await hasty.get("none")) is None, "the context works on"


async def test_many_writers_through_a_storm_lose_and_double_nothing(
    http_ctx: Any, half: Half, proxy: FaultProxy, prefix: str
) -> None:
    weather = random.Random(7)
    faults: list[Fault] = ["lose_request", "lose_reply", "cut_reply", "garble_reply", "proxy_error"]
    storm: list[Fault] = [
        weather.choice(faults) if weather.random() < 0.3 else "pass" for _ in range(2000)
    ]
    proxy.plan = iter(storm)
    async with impatient(half, proxy.url, "pass", max_retries=12) as shaky:

        async def write() -> None:
            for _ in range(10):
                await shaky.increment(prefix)

        await asyncio.gather(*(write() for _ in range(8)))
    entry = await http_ctx.get(prefix)
    assert (entry.value, entry.version) == (80, 80)
    assert proxy.seen > 80


async def test_a_server_that_is_away_is_waited_for(
    half: Half, base_url: str, prefix: str, beside: Beside
) -> None:
    proxy = FaultProxy(base_url)
    async with proxy:
        url = proxy.url
    async with quick(make_context(half, "full_key", url, max_retries=20)) as patient:
        writing = beside(patient.set(prefix, 1))
        await asyncio.sleep(0.2)  # let it find nobody there
        assert not writing.done()
        async with FaultProxy(base_url, port=int(url.rpartition(":")[2])):
            assert (await asyncio.wait_for(writing, 10)).version == 1


NONSENSE = {
    "an empty body": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n",
    "a page": b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
    "broken JSON": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n{",
    "a list": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]",
    "a redirect": b"HTTP/1.1 307 X\r\nlocation: https://elsewhere/\r\ncontent-length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a foreign 404": b"HTTP/1.1 404 X\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_a_stranger_s_answer_is_recognised(half: Half, answer: bytes) -> None:
    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(stranger, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with make_context(half, "full_key", url) as ctx:
            with pytest.raises(BadAnswerError) as caught:
                await ctx.get("k")
    assert caught.value.code == "bad_answer"
