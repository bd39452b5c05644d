"""The HTTP transport: what it sends, what it makes of faults, what it never shows."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
import pytest

from memx_sdk import errors
from memx_sdk._async.transports.http import AsyncHttpTransport
from memx_sdk._sync.transports.http import HttpTransport
from memx_sdk._sync.transports.http_pools import HttpPools
from memx_sdk.config import options_from
from tests.sdk.halves import Half, make_context

BASE_URL = "http://memx.test:8000/base"
SECRET = "top_secret_key"
ENTRY = {"revision": 7, "version": 1, "ts": 1.5, "writer": "w/a", "expires_at": None, "value": 1}

Handler = Callable[[httpx.Request], httpx.Response]


class Sent(NamedTuple):
    """A request as it was sent."""

    method: str
    url: httpx.URL
    headers: httpx.Headers
    body: bytes


class Recorder:
    """Answers requests by a plan and remembers them."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.requests: list[Sent] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        sent = Sent(request.method, request.url, request.headers.copy(), request.content)
        self.requests.append(sent)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def context(half: Half, handler: Handler, **options: Any) -> Any:
    settings = options_from(SECRET, BASE_URL, agent="critic", environ={})
    mock = httpx.MockTransport(handler)
    kind = AsyncHttpTransport if half == "async" else HttpTransport
    return make_context(
        half, SECRET, BASE_URL, agent="critic", transport=kind(settings, mock), **options
    )


def ok(answer: Any = None) -> httpx.Response:
    return httpx.Response(200, json=ENTRY if answer is None else answer)


def failing(status: int, code: str, **extra: Any) -> httpx.Response:
    return httpx.Response(status, json={"error": code, "detail": "the detail", **extra})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Delays between attempts are noted, not waited for."""
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("memx_sdk._async.caller.sleep", note)
    monkeypatch.setattr("memx_sdk._sync.caller.sleep", waited.append)
    return waited


@pytest.mark.parametrize(
    "key",
    ["a b", "a+b", "a/b", "a%41", "a&b=c#d", "ä:日本", "?", "..", "a\\b", '"', "a;b", "\u200b"],
)
async def test_keys_are_escaped_so_that_they_arrive_as_they_are(half: Half, key: str) -> None:
    record = Recorder(ok())
    async with context(half, record) as ctx:
        await ctx.get(key)
        await ctx.delete(key)
    assert [request.url.params["key"] for request in record.requests] == [key, key]
    assert all("+" not in request.url.query.decode() for request in record.requests)


async def test_each_request_says_who_and_what(half: Half) -> None:
    record = Recorder(ok())
    async with context(half, record) as ctx:
        await ctx.set("k", {"a": [1]}, if_revision=3, ttl=1.5, reason="why", history=False)
    (request,) = record.requests
    assert (request.method, str(request.url)) == ("POST", f"{BASE_URL}/set")
    assert request.headers["x-api-key"] == SECRET
    assert request.headers["x-memx-agent"] == "critic"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("memx-sdk/")
    assert request.headers["idempotency-key"].startswith("memx-retry:")
    assert request.body == (
        b'{"key":"k","value":{"a":[1]},"if_revision":3,"ttl":1.5,"reason":"why","history":false}'
    )


TRANSIENT = [
    httpx.ConnectError("refused"),
    httpx.ReadError("reset"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    httpx.ReadTimeout("slow"),
    httpx.PoolTimeout("full"),
    failing(503, "unavailable"),
    failing(429, "rate_limited"),
    httpx.Response(502, html="<html>"),
]


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda fault: type(fault).__name__)
async def test_a_passing_fault_is_not_seen(half: Half, fault: Any) -> None:
    record = Recorder(fault, fault, ok())
    async with context(half, record) as ctx:
        written = await ctx.set("k", 1)
    assert written.revision == 7
    keys = [request.headers["idempotency-key"] for request in record.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "foreign"),
    [
        (httpx.ConnectError("refused"), errors.MemxConnectionError, httpx.ConnectError),
        (httpx.ReadError("reset"), errors.MemxConnectionError, httpx.ReadError),
        (httpx.DecodingError("gzip"), errors.MemxConnectionError, httpx.DecodingError),
        (httpx.ReadTimeout("slow"), errors.MemxTimeout, httpx.ReadTimeout),
        (failing(503, "unavailable"), errors.UnavailableError, httpx.HTTPStatusError),
    ],
)
async def test_a_lasting_fault_is_raised_in_both_languages(
    half: Half, fault: Any, kind: type[errors.MemxError], foreign: type[Exception]
) -> None:
    record = Recorder(fault)
    async with context(half, record, max_retries=2) as ctx:
        with pytest.raises(kind) as caught:
            await ctx.get("k")
    assert isinstance(caught.value, foreign)
    assert len(record.requests) == 3
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is kind


async def test_no_retries_means_none(half: Half, no_waiting: list[float]) -> None:
    record = Recorder(httpx.ReadError("reset"))
    async with context(half, record, max_retries=0) as ctx:
        with pytest.raises(errors.MemxConnectionError):
            await ctx.set("k", 1)
    assert len(record.requests) == 1
    assert no_waiting == []


async def test_the_server_says_how_long_to_wait(half: Half, no_waiting: list[float]) -> None:
    busy = failing(503, "unavailable")
    busy.headers["retry-after"] = "2"
    async with context(half, Recorder(busy, ok())) as ctx:
        await ctx.get("k")
    assert len(no_waiting) == 1
    assert 2.0 < no_waiting[0] < 2.2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthenticated", errors.UnauthenticatedError),
        (403, "forbidden", errors.ForbiddenError),
        (404, "not_found", errors.NotFoundError),
        (409, "conflict", errors.ConflictError),
        (400, "schema_violation", errors.SchemaViolationError),
        (500, "internal", errors.ServerError),
    ],
)
async def test_a_refusal_is_final_and_can_be_caught_as_httpx_s(
    half: Half, status: int, code: str, kind: type[errors.MemxError]
) -> None:
    record = Recorder(failing(status, code, entry=ENTRY))
    async with context(half, record) as ctx:
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await ctx.set("k", 1)
    error: Any = caught.value
    assert kind in type(error).__mro__
    assert (error.code, error.detail, error.status) == (code, "the detail", status)
    assert error.response.status_code == status
    assert error.response.json()["detail"] == "the detail"
    assert error.request.url.path == "/base/set"
    assert len(record.requests) == 1


async def test_a_conflict_brings_the_present_entry(half: Half) -> None:
    async with context(half, Recorder(failing(409, "conflict", entry=ENTRY))) as ctx:
        with pytest.raises(errors.ConflictError) as caught:
            await ctx.set("k", 1, if_revision=3)
    assert caught.value.entry is not None
    assert caught.value.entry.revision == 7


async def test_the_api_key_is_never_shown(half: Half, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for fault in (failing(403, "forbidden"), httpx.ConnectError("refused"), ok("nonsense")):
        ctx = context(half, Recorder(fault), max_retries=1)
        async with ctx:
            with pytest.raises(errors.MemxError) as caught:
                await ctx.set("k", 1)
        raised: Any = caught.value
        shown = [repr(ctx), repr(raised), str(raised), str(raised.args), repr(raised.extra)]
        if hasattr(raised, "request"):
            shown += [repr(raised.request), repr(raised.request.headers)]
        if hasattr(raised, "response"):
            shown += [repr(raised.response), repr(raised.response.request.headers)]
        assert SECRET not in "".join(shown)
    assert SECRET not in caplog.text


async def test_nothing_is_sent_that_has_no_exact_form(half: Half) -> None:
    record = Recorder(ok())
    async with context(half, record) as ctx:
        for bad in (float("nan"), {"a": [float("inf")]}, object(), "\ud800"):
            with pytest.raises(errors.InvalidRequestError):
                await ctx.set("k", bad)
        for key in ("\ud800", "k" * 100_000):
            with pytest.raises(errors.InvalidRequestError):
                await ctx.get(key)
    assert record.requests == []


async def test_a_missing_key_is_none_and_a_stored_null_is_an_entry(half: Half) -> None:
    null = httpx.Response(200, text="null", headers={"content-type": "application/json"})
    async with context(half, Recorder(null, ok({"value": None, "ts": 1.5}))) as ctx:
        assert await ctx.get("k") is None
        entry = await ctx.get("k")
    assert (entry["value"], entry["ts"], entry.key) == (None, 1.5, "k")


async def test_lists_are_read_page_by_page_as_far_as_queries(half: Half) -> None:
    pages = [ok({"keys": ["a", "b"], "next": "p2"}), ok({"keys": ["c"], "next": None})]
    record = Recorder(*pages)
    async with context(half, record) as ctx:
        assert await ctx.keys("x:*") == ["a", "b", "c"]
    queries = [dict(request.url.params) for request in record.requests]
    assert [page.get("cursor") for page in queries] == [None, "p2"]
    assert {page["pattern"] for page in queries} == {"x:*"}

    record = Recorder(ok({"keys": ["a", "b"], "next": "p2"}))
    async with context(half, record) as ctx:
        assert await ctx.keys(limit=2) == ["a", "b"]
        assert await ctx.keys(limit=0) == []
    assert [request.url.params["limit"] for request in record.requests] == ["2"]


async def test_a_request_that_waits_is_given_the_time(half: Half) -> None:
    record = Recorder(ok({"changes": [], "cursor": "a-1", "more": False}))
    seen: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return record(request)

    async with context(half, handler) as ctx:
        await ctx.changes(since="a-1", wait=25)
        await ctx.get("k")
    assert [(each["connect"], each["read"]) for each in seen] == [(10, 35), (10, 10)]


async def test_a_closed_context_says_so(half: Half) -> None:
    ctx = context(half, Recorder(ok()))
    await ctx.aclose()
    await ctx.aclose()
    with pytest.raises(errors.MemxClosedError):
        await ctx.get("k")
    with pytest.raises(errors.MemxClosedError):
        async with ctx:
            pass


def test_one_context_may_serve_several_event_loops_in_turn() -> None:
    record = Recorder(ok())
    ctx = context("async", record)
    for _ in range(2):
        assert asyncio.run(ctx.get("k")).revision == 7
    asyncio.run(ctx.aclose())


def test_threads_whose_first_requests_meet_share_the_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowToMake(HttpPools):
        def __init__(self, open_client: Callable[[], httpx.Client]) -> None:
            time.sleep(0.05)
            super().__init__(open_client)

    monkeypatch.setattr("memx_sdk._sync.transports.http.HttpPools", SlowToMake)
    transport = HttpTransport(options_from("key", BASE_URL))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: transport._pools_here(), range(8)))
    assert len(set(found)) == 1
