"""Calls from threads and tasks are counted, timed, and not made after the end."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from benchmarks.calls import Stopwatch, by_tasks, by_threads
from benchmarks.operations import GET, SET
from benchmarks.sdk_rows import KEYS, sdk_call
from benchmarks.servers import Server

SERVER = Server("http://127.0.0.1:1", ())
"""No process: it spends nothing."""


def test_the_sample_tells_rate_and_p99() -> None:
    stopwatch = Stopwatch(SERVER)
    time.sleep(0.05)
    sample = stopwatch.sample([0.001] * 98 + [0.5] * 2)
    assert 1 < sample.rate <= 100 / 0.05
    assert (sample.p99, sample.cpu, sample.failed) == (500, 0, 0)


def test_each_thread_calls_until_the_time_is_over() -> None:
    callers: list[int] = []
    meeting = threading.Barrier(3)

    def call() -> None:
        if threading.get_ident() not in callers:
            meeting.wait(10)  # only three at a time pass
        callers.append(threading.get_ident())
        time.sleep(0.01)

    sample = by_threads(SERVER, call, 3, 0.1)
    assert len({*callers}) == 3
    assert sample.rate <= len(callers) / 0.1
    assert sample.p99 is not None
    assert sample.p99 >= 10


async def test_tasks_call_side_by_side() -> None:
    under_way = most = 0

    async def call() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1

    await by_tasks(SERVER, call, 5, 0.05)
    assert most == 5


async def test_what_a_call_raises_ends_the_measurement() -> None:
    async def call() -> None:
        raise ConnectionError

    with pytest.raises(ExceptionGroup):
        await by_tasks(SERVER, call, 2, 0.05)
    with pytest.raises(ConnectionError):
        by_threads(SERVER, lambda: asyncio.run(call()), 2, 0.05)


def test_calls_of_the_sdk_go_through_the_keys() -> None:
    called: list[str] = []

    class Context:
        def get(self, key: str) -> None:
            called.append(key)

        def set(self, key: str, value: object) -> None:
            assert value == SET.fields["value"]
            called.append(key)

    context: object = Context()
    for operation in (GET, SET):
        called.clear()
        call = sdk_call(context, operation)  # type: ignore[arg-type]  # it has what is called
        for _ in range(len(KEYS) + 1):
            call()
        assert called == [*KEYS, KEYS[0]]
