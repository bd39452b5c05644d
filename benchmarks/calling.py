"""Calls of a coroutine, over and over, by several callers at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks.table import Sample

CALLERS = 32


async def keep_calling(
    call: Callable[[], Awaitable[bool]], seconds: float, callers: int = CALLERS
) -> Sample:
    """Have ``callers`` call for a while, each again as soon as it has its answer.

    Args:
        call: Tells whether it was answered as it should be.
        seconds: How long.
        callers: How many at a time.
    """
    latencies: list[float] = []
    failed = 0
    start, spent = time.perf_counter(), time.process_time()

    async def caller() -> None:
        nonlocal failed
        before = time.perf_counter()
        while before - start < seconds:
            failed += not await call()
            now = time.perf_counter()
            latencies.append(now - before)
            before = now

    await asyncio.gather(*(caller() for _ in range(callers)))
    elapsed, spent = time.perf_counter() - start, time.process_time() - spent
    latencies.sort()
    return Sample(
        rate=len(latencies) / elapsed,
        p99=1000 * latencies[int(len(latencies) * 0.99)],
        failed=failed,
        client=spent / elapsed,
    )
