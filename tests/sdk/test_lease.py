"""Leases under late answers and a clock that jumps: nobody enters, or stays in, on a lock that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from memx_sdk import LockLostError, MemxConnectionError
from memx_sdk.bridge import BridgedTransport
from memx_sdk.transport import (
    AsyncMessageStream,
    AsyncTransport,
    Request,
    Response,
    TransportOptions,
    open_transport,
)
from tests.sdk.halves import Half, make_context
from tests.sdk.streams import DEADLINE
from tests.sdk.test_lock import lock

TTL = 0.6


class LateAnswers:
    """A transport whose answers a test loses or holds back, by the name of the operation.

    Attributes:
        lose: Answers to lose, one for each mention: the request is applied all the same.
        hold: Answers to hold back until `let_go`.
        sent: What was sent, in order.
    """

    def __init__(self) -> None:
        self.lose: list[str] = []
        self.hold: set[str] = set()
        self.sent: list[str] = []
        self.held = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._inner: AsyncTransport | None = None

    def open(self, options: TransportOptions) -> LateAnswers:
        self._inner = open_transport("http", options)
        return self

    async def request(self, request: Request) -> Response:
        assert self._inner is not None
        self.sent.append(request.op)
        response = await self._inner.request(request)
        if request.op in self.lose:
            self.lose.remove(request.op)
            raise MemxConnectionError("connection", "the answer was lost")
        if request.op in self.hold:
            gone = asyncio.Event()
            self._waiting.append((asyncio.get_running_loop(), gone))
            self._loop.call_soon_threadsafe(self.held.set)
            await gone.wait()
        return response

    def let_go(self) -> None:
        """Let the answers that are held back arrive, and hold no more."""
        self.hold.clear()
        for loop, gone in self._waiting:
            loop.call_soon_threadsafe(gone.set)

    async def connect(self, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        assert self._inner is not None
        return await self._inner.connect(path, query)

    async def close(self) -> None:
        assert self._inner is not None
        await self._inner.close()


@pytest.fixture
async def late() -> LateAnswers:
    return LateAnswers()


@pytest.fixture
async def slow_ctx(half: Half, base_url: str, late: LateAnswers) -> AsyncIterator[Any]:
    """A context whose answers come late."""
    options = TransportOptions(base_url, "full_key", agent="slow")
    transport: Any = late.open(options) if half == "async" else None
    if transport is None:
        transport = BridgedTransport(late.open, options)
    async with make_context(
        half, "full_key", base_url, agent="slow", transport=transport
    ) as opened:
        yield opened


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=DEADLINE)


async def test_a_lock_that_expired_before_the_answer_is_not_entered(
    slow_ctx: Any, late: LateAnswers, http_ctx: Any, prefix: str
) -> None:
    late.lose, late.hold = ["set"], {"set"}
    mine, theirs = lock(slow_ctx, prefix, TTL), lock(http_ctx, prefix)
    async with running(mine.acquire(DEADLINE)) as taking:
        await asyncio.wait_for(late.held.wait(), DEADLINE)  # the repetition says "taken" as well
        await theirs.acquire(DEADLINE)  # the first holder's lease is over by now
        late.let_go()

        done, _ = await asyncio.wait({taking}, timeout=1.0)
        assert not done, "two are in"
        token = theirs.token
        await theirs.release()
        await asyncio.wait_for(taking, DEADLINE)

    assert mine.token > token
    assert not mine.lost
    await mine.release()


async def test_a_late_answer_is_confirmed_before_the_block_is_entered(
    slow_ctx: Any, late: LateAnswers, prefix: str
) -> None:
    late.hold = {"set"}
    held = lock(slow_ctx, prefix, 2.0)
    async with running(held.acquire()) as taking:
        await asyncio.wait_for(late.held.wait(), DEADLINE)
        await asyncio.sleep(1.2)  # over half of the lease, and not all of it
        late.let_go()
        await asyncio.wait_for(taking, DEADLINE)

    assert late.sent.count("update") >= 1
    assert not await held.wait_lost(1.0), "the lease was counted from the first request"
    await held.release()


async def test_an_answer_in_time_costs_no_second_request(
    slow_ctx: Any, late: LateAnswers, prefix: str
) -> None:
    async with lock(slow_ctx, prefix, 30.0):
        assert late.sent == ["set"]


async def test_what_was_lost_stays_lost_though_the_heartbeat_is_answered_later(
    slow_ctx: Any, late: LateAnswers, prefix: str
) -> None:
    held = lock(slow_ctx, prefix, TTL)
    await held.acquire()
    late.hold = {"update"}
    assert await held.wait_lost(DEADLINE)
    late.let_go()  # the store has renewed it in time, and says so now

    assert not await _becomes(lambda: not held.lost, seconds=1.0)
    with pytest.raises(LockLostError):
        await held.release()


async def test_the_time_of_a_suspended_machine_counts(
    slow_ctx: Any, half: Half, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"memx_sdk._{half}.lock.lease_clock"
    held = lock(slow_ctx, prefix, 30.0)
    await held.acquire()
    assert not held.lost

    from memx_sdk.lease_clock import lease_clock

    monkeypatch.setattr(module, lambda: lease_clock() + 31.0)
    assert held.lost
    monkeypatch.setattr(module, lease_clock)
    assert held.lost, "it does not come back"
    with pytest.raises(LockLostError):
        await held.release()


async def _becomes(condition: Callable[[], bool], *, seconds: float) -> bool:
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False
