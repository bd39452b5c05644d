"""A space that keeps the evaluation processes busy does not keep other spaces from them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from memx_server.domain.evaluator import EvaluationTimeout
from memx_server.domain.schema.schema import Schema
from memx_server.evaluation.pool import EvaluationPool
from memx_server.evaluation.queue import FairQueue

from memx_sdk.protocol.errors import ProtocolError
from tests.server.conftest import client
from tests.support.memx_server import Served

PROMPT = 5.0
"""Seconds within which an ordinary write is answered on a busy machine; an attacker's job may take one."""

ENDLESS = {"items": {"enum": [{"a": n} for n in range(4000)]}}
"""With a long list of the last member it takes far longer than the deadline."""


# The waiting line.


def take(queue: FairQueue[str], free: int, now: float = 0.0) -> str | None:
    found = queue.next(free, now)
    return None if found is None else found[1]


def add(
    queue: FairQueue[str], space: str, job: str, *, is_long: bool = False, now: float = 0.0
) -> bool:
    return queue.add(space, job, is_long=is_long, now=now)


def test_spaces_have_their_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for n in range(3):
        add(queue, "a", f"a{n}")
    add(queue, "b", "b0")
    add(queue, "c", "c0")
    assert [take(queue, 9) for _ in range(6)] == ["a0", "b0", "c0", "a1", "a2", None]


def test_the_last_process_is_kept_for_the_others() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "b", "b0")
    assert take(queue, 2) == "b0"
    queue.done("b")
    for n in range(3):
        add(queue, "a", f"a{n}")
    assert take(queue, 2) == "a0"
    assert take(queue, 1) is None
    add(queue, "b", "b1")
    assert take(queue, 1) == "b1"
    queue.done("b")
    # When nobody else has needed one for a while, nobody is kept waiting for nothing.
    assert take(queue, 1, now=60.0) == "a1"


def test_a_long_job_never_takes_the_last_process() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "a", "long", is_long=True)
    add(queue, "b", "longer", is_long=True)
    assert take(queue, 2) == "long"
    assert take(queue, 1) is None
    add(queue, "c", "short")
    assert take(queue, 1) == "short"


def test_a_lone_process_serves_everybody() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "a", "long", is_long=True)
    assert take(queue, 1) == "long"


def test_the_line_of_a_space_is_bounded_and_those_of_others_are_open() -> None:
    queue: FairQueue[str] = FairQueue()
    jobs = [f"a{n}" for n in range(100)]
    assert sum(add(queue, "a", job) for job in jobs) == 32
    assert add(queue, "b", "b0")
    queue.discard("a", jobs[0])
    assert add(queue, "a", "again")


# The processes.


@pytest.fixture
async def pool() -> Any:
    """Two processes that are ready."""
    found = EvaluationPool(1.0)
    await found.start()
    try:
        yield found
    finally:
        await found.close()


SLOW = Schema("k", json.dumps(ENDLESS).encode())
LONG_VALUE = json.dumps([{"a": 3999}] * 60_000).encode()
QUICK = Schema("k", b'{"type":"object","unevaluatedProperties":false}')


async def test_a_full_line_answers_503_with_a_time(pool: EvaluationPool) -> None:
    waiting = [
        asyncio.ensure_future(pool.violations("a", f"k{n}", SLOW, LONG_VALUE)) for n in range(40)
    ]
    await asyncio.sleep(0)
    refused = await asyncio.wait_for(_first_refusal(waiting), PROMPT)
    assert (refused.code, refused.status, refused.extra["retry_after"]) == ("unavailable", 503, 1)
    # The neighbour's line is not the one that is full.
    assert await asyncio.wait_for(pool.violations("b", "k", QUICK, b"{}"), PROMPT) == []
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def _first_refusal(waiting: Sequence[asyncio.Future[Any]]) -> ProtocolError:
    for each in asyncio.as_completed(waiting):
        try:
            await each
        except ProtocolError as refusal:
            return refusal
        except EvaluationTimeout:
            continue
    raise AssertionError("all of them were taken")


async def test_waiting_is_not_counted_against_the_deadline(pool: EvaluationPool) -> None:
    long = [
        asyncio.ensure_future(pool.violations("a", f"k{n}", SLOW, LONG_VALUE)) for n in range(3)
    ]
    # It waits for several deadlines of the same space, and is done all the same.
    assert await pool.violations("a", "quick", QUICK, b"{}") == []
    assert all(
        isinstance(each, EvaluationTimeout)
        for each in await asyncio.gather(*long, return_exceptions=True)
    )


async def test_what_took_too_long_is_refused_for_its_key_and_space_alone(
    pool: EvaluationPool,
) -> None:
    with pytest.raises(EvaluationTimeout):
        await pool.violations("a", "k", SLOW, LONG_VALUE)
    began = time.monotonic()
    with pytest.raises(EvaluationTimeout):
        await pool.violations("a", "k", SLOW, LONG_VALUE)
    assert time.monotonic() - began < 0.5
    for space, key in (("b", "k"), ("a", "other")):
        assert await pool.violations(space, key, SLOW, b'[{"a":1}]') == []
    assert await pool.violations("a", "k", SLOW, b'[{"a":1}]') == []  # a shorter one may be quick


# The server.


@pytest.fixture
def attacked(served: Served) -> Iterator[Served]:
    """A server to which one tenant sends values of 680 KB that take longer than the deadline, side by side."""
    key = served.fresh_key()
    with client(served, key) as api:
        for n in range(4):
            api.post("/schema", {"key": f"heavy{n}", "schema": ENDLESS})
    body = LONG_VALUE[:680_000].rsplit(b",", 1)[0] + b"]"
    stop = threading.Event()
    began = threading.Semaphore(0)

    def attack(number: int) -> None:
        with client(served, key) as api:
            while not stop.is_set():
                began.release()
                answer = api.http.post(
                    "/set", content=b'{"key":"heavy%d","value":%b}' % (number, body)
                )
                assert answer.status_code in (413, 503), answer.text[:200]
                # Without this the pool would refuse the same value unseen.
                served.app.services.evaluation._too_slow.clear()

    with ThreadPoolExecutor(4) as attackers:
        running = [attackers.submit(attack, n) for n in range(4)]
        for _ in range(6):
            assert began.acquire(timeout=PROMPT)
        try:
            yield served
        finally:
            stop.set()
        for each in running:
            each.result()


def test_the_neighbour_of_a_tenant_with_heavy_values_is_served(attacked: Served) -> None:
    """Twenty ordinary writes, of which half need an evaluation process themselves, all succeed promptly."""
    with client(attacked, attacked.fresh_key()) as api:
        api.post(
            "/schema", {"key": "plan:*", "schema": {"unevaluatedProperties": {"type": "integer"}}}
        )
        for n in range(10):
            for key in ("note", "plan:a"):
                began = time.monotonic()
                api.set(key, {"n": n})
                assert time.monotonic() - began < PROMPT
