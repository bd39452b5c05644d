"""Fan-out: what one write costs until every subscriber of its key has it.

It stands beside a bare uvicorn + Starlette application that sends the same bytes to the same number of
sockets. memX validates, commits to Redis, and hears of the commit from Redis before it sends; the bare
application does none of that. Rates are deliveries a second with several writes under way, latencies those
of one write at a time, memory that of an idle subscriber.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from benchmarks import servers
from benchmarks.fanout_crowd import Crowd
from benchmarks.plan import Plan
from benchmarks.servers import Server
from benchmarks.table import Row, Sample

TITLE = "Fan-out of one key, on Redis; each delivery counts"
BARE = "a bare broadcast by uvicorn + Starlette"
KEY = "bench:news"
VALUE = json.dumps({"text": "x" * 120, "votes": 3}, separators=(",", ":"))
SET = f'{{"key":"{KEY}","value":{VALUE}}}'.encode()
EVENT = (
    f'{{"event":"value","action":"set","key":"{KEY}","revision":1795338583486491,"version":17,'
    f'"ts":1795338583.486491,"writer":"key-0a1b2c3d","value":{VALUE},'
    '"cursor":"6ac26d44fdc34134-1795338583486491"}'
).encode()
"""What memX sends for ``SET``, but for the digits."""

_UNDER_WAY = 8
_AIMS = {1_000: 0.8}
_QUICK = ((1, 1_000),)
_ALL = tuple(itertools.product((1, 2), (1, 100, 1_000, 5_000)))
"""Servers, and subscribers in all."""


def measure(plan: Plan) -> list[Row]:
    """Measure with few and with many subscribers."""
    return [_row(plan, *numbers) for numbers in (_QUICK if plan.quick else _ALL)]


def _row(plan: Plan, count: int, subscribers: int) -> Row:
    name = f"{subscribers:,} socket{'s'[: subscribers > 1]}, {count} server{'s'[: count > 1]}"
    row = Row(TITLE, name, BARE, _AIMS.get(subscribers) if count == 1 else None)
    with memx_fleet(count) as memx, floor_fleet(count) as floor:
        return plan.alternate(
            row, partial(memx.measure, subscribers), partial(floor.measure, subscribers)
        )


class Fleet:
    """Servers of one kind that are running.

    Args:
        servers: They.
        body: What is posted to them.
        apart: Whether each must be told of every write, since they share nothing.
    """

    def __init__(self, servers: list[Server], body: bytes, *, apart: bool) -> None:
        self._ports = [each.port for each in servers]
        self._together = Server("", tuple(pid for each in servers for pid in each.pids))
        self._body = body
        self._apart = apart
        self._memory: float | None = None

    def measure(self, subscribers: int, seconds: float) -> Sample:
        """Deliver for a while, first one write at a time, then several."""
        before = self._together.memory()
        with Crowd(self._ports, subscribers, f"/subscribe/{KEY}") as crowd:
            self._send(crowd, subscribers)  # the first write opens what is opened once
            if self._memory is None:  # later crowds reuse what the first one took
                self._memory = (self._together.memory() - before) / subscribers
            latencies = sorted(self._latencies(crowd, subscribers, seconds))
            spent, own = self._together.processor_time(), time.process_time()
            start = time.perf_counter()
            rate = self._rate(crowd, subscribers, seconds)
            own = time.process_time() - own
            spent = self._together.processor_time() - spent
            return Sample(
                rate=rate,
                p50=1000 * latencies[len(latencies) // 2],
                p99=1000 * latencies[int(len(latencies) * 0.99)],
                cpu=1e6 * spent / len(crowd.arrivals),
                memory=self._memory,
                client=own / (time.perf_counter() - start),
            )

    def _latencies(self, crowd: Crowd, subscribers: int, seconds: float) -> list[float]:
        found: list[float] = []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            start = time.perf_counter()
            self._send(crowd, subscribers)
            found += [arrival - start for arrival in crowd.arrivals]
        return found

    def _rate(self, crowd: Crowd, subscribers: int, seconds: float) -> float:
        """Deliveries per second with a few writes always under way."""
        crowd.arrivals.clear()
        start = time.perf_counter()
        heard = 0
        for _ in range(_UNDER_WAY):
            crowd.publish(self._body, to_all=self._apart)
        while time.perf_counter() - start < seconds:
            heard += subscribers
            crowd.hear(heard)
            crowd.publish(self._body, to_all=self._apart)
        crowd.hear(heard + _UNDER_WAY * subscribers)
        return len(crowd.arrivals) / (crowd.arrivals[-1] - start)

    def _send(self, crowd: Crowd, subscribers: int) -> None:
        crowd.arrivals.clear()
        crowd.publish(self._body, to_all=self._apart)
        crowd.hear(subscribers)


@contextmanager
def memx_fleet(count: int) -> Iterator[Fleet]:
    """MemX servers on one Redis."""
    with ExitStack() as stack:
        redis = stack.enter_context(servers.redis())
        found = [stack.enter_context(servers.memx(redis.url)) for _ in range(count)]
        yield Fleet(found, SET, apart=False)


@contextmanager
def floor_fleet(count: int) -> Iterator[Fleet]:
    """Bare servers."""
    with ExitStack() as stack:
        start = partial(servers.python, "benchmarks.fanout_floor")
        yield Fleet([stack.enter_context(start()) for _ in range(count)], EVENT, apart=True)
