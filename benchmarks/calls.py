"""The same call over and over from a Python program, in threads or in tasks, and what it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from benchmarks.table import Sample

if TYPE_CHECKING:  # the environment of the peers' clients has no Redis client to start servers with
    from benchmarks.servers import Server


class Stopwatch:
    """Times what happens from now on.

    Args:
        server: Whose processor time counts; None where it is not known.
    """

    def __init__(self, server: Server | None) -> None:
        self._server = server
        self._server_start = server.processor_time() if server else 0.0
        self._client_start = time.process_time()
        self._start = time.perf_counter()

    def sample(self, latencies: Sequence[float]) -> Sample:
        """Tell what was done since.

        Args:
            latencies: Seconds that each call took.
        """
        elapsed = time.perf_counter() - self._start
        calls, server = len(latencies), self._server
        return Sample(
            rate=calls / elapsed,
            p99=1000 * sorted(latencies)[int(0.99 * calls)],
            cpu=1e6 * (server.processor_time() - self._server_start) / calls if server else None,
            client=(time.process_time() - self._client_start) / elapsed,
        )


def by_threads(server: Server, call: Callable[[], object], count: int, seconds: float) -> Sample:
    """Make ``call`` in ``count`` threads, in each again as soon as it returns."""

    def repeat(end: float) -> list[float]:
        latencies = []
        now = time.perf_counter()
        while now < end:
            call()
            before, now = now, time.perf_counter()
            latencies.append(now - before)
        return latencies

    with ThreadPoolExecutor(count) as pool:
        stopwatch = Stopwatch(server)
        found = list(pool.map(repeat, [time.perf_counter() + seconds] * count))
    return stopwatch.sample([each for some in found for each in some])


async def by_tasks(
    server: Server | None, call: Callable[[], Awaitable[object]], count: int, seconds: float
) -> Sample:
    """Make ``call`` in ``count`` tasks, in each again as soon as it returns."""
    latencies: list[float] = []

    async def repeat(end: float) -> None:
        now = time.perf_counter()
        while now < end:
            await call()
            before, now = now, time.perf_counter()
            latencies.append(now - before)

    stopwatch = Stopwatch(server)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(repeat(time.perf_counter() + seconds))
    return stopwatch.sample(latencies)
