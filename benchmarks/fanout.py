"""Fan-out: what one write costs until every subscriber of its key has it.

    python -m benchmarks.fanout [--subscribers 1,100,1000,5000] [--rounds 3] [--quick] [--json FILE]

Each figure stands beside that of a bare uvicorn + Starlette application that sends the same bytes to
the same number of sockets, measured in turns in the same run. memX validates, commits to Redis, and
hears of the commit from Redis before it sends; the bare application does none of that.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.fanout_crowd import Crowd
from tests.support.memx_server import MemxServer
from tests.support.redis_server import RedisServer, free_port, newest_redis

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
_FIGURES = f"{'deliveries/s':>12} {'p50 ms':>7} {'p99 ms':>7} {'µs':>6} {'kB':>5}"
_HEAD = (
    f"{'':15} | {'memX':^41} | {'bare':^41} | ratio memX / bare\n"
    f"servers sockets | {_FIGURES} | {_FIGURES} | {'rate':>5} {'p50':>5} {'p99':>5} {'µs':>5}"
)


@dataclass(frozen=True)
class Measure:
    """One run of one server.

    Attributes:
        rate: Deliveries per second with several writes under way.
        p50: Milliseconds from set to receipt, one write at a time.
        p99: The same.
        cpu: Microseconds of the servers' processors for each delivery, at that rate.
        memory: Bytes of resident memory for each idle subscriber.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    memory: float

    def __str__(self) -> str:
        return (
            f"{self.rate:>12,.0f} {self.p50:>7.2f} {self.p99:>7.2f} {self.cpu:>6.1f} "
            f"{self.memory / 1024:>5.1f}"
        )


class _Fleet:
    """Servers of one kind that are running."""

    def __init__(self, ports: list[int], pids: list[int], body: bytes, *, apart: bool) -> None:
        self.ports = ports
        self.body = body
        self.apart = apart
        self._processes = [psutil.Process(pid) for pid in pids]

    def memory(self) -> int:
        return sum(process.memory_info().rss for process in self._processes)

    def measure(self, subscribers: int, seconds: float) -> Measure:
        before = self.memory()
        with Crowd(self.ports, subscribers, f"/subscribe/{KEY}") as crowd:
            self._send(crowd, subscribers)  # the first write opens what is opened once
            grown = self.memory() - before
            latencies = self._latencies(crowd, subscribers, seconds)
            spent = self._processor_time()
            rate = self._rate(crowd, subscribers, seconds)
            spent = self._processor_time() - spent
            deliveries = len(crowd.arrivals)
        latencies.sort()
        return Measure(
            rate=rate,
            p50=1000 * latencies[len(latencies) // 2],
            p99=1000 * latencies[int(len(latencies) * 0.99)],
            cpu=1e6 * spent / deliveries,
            memory=grown / subscribers,
        )

    def _processor_time(self) -> float:
        times = [process.cpu_times() for process in self._processes]
        return sum(each.user + each.system for each in times)

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
            crowd.publish(self.body, to_all=self.apart)
        while time.perf_counter() - start < seconds:
            heard += subscribers
            crowd.hear(heard)
            crowd.publish(self.body, to_all=self.apart)
        crowd.hear(heard + _UNDER_WAY * subscribers)
        return len(crowd.arrivals) / (crowd.arrivals[-1] - start)

    def _send(self, crowd: Crowd, subscribers: int) -> None:
        crowd.arrivals.clear()
        crowd.publish(self.body, to_all=self.apart)
        crowd.hear(subscribers)


@contextmanager
def memx_fleet(count: int) -> Iterator[_Fleet]:
    """MemX servers on one Redis."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(newest_redis()))
        environ = {"REDIS_URL": redis.url}
        servers = [stack.enter_context(MemxServer("serve", environ=environ)) for _ in range(count)]
        yield _Fleet([s.port for s in servers], [s.pid for s in servers], SET, apart=False)


@contextmanager
def floor_fleet(count: int) -> Iterator[_Fleet]:
    """Bare servers; each is told of every write, since they share nothing."""
    script = Path(__file__).with_name("fanout_floor.py")
    ports = [free_port() for _ in range(count)]
    processes = [subprocess.Popen([sys.executable, str(script), str(port)]) for port in ports]
    try:
        for port in ports:
            _await_answer(port)
        yield _Fleet(ports, [process.pid for process in processes], EVENT, apart=True)
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)


@dataclass(frozen=True)
class Comparison:
    """MemX and the floor with so many servers and subscribers: medians over the rounds.

    Attributes:
        rate_ratios: MemX's rate over the floor's, round by round.
    """

    servers: int
    subscribers: int
    memx: Measure
    floor: Measure
    rate_ratios: list[float]

    @property
    def ratios(self) -> dict[str, float]:
        """MemX's figures over the floor's."""
        return {
            "rate": statistics.median(self.rate_ratios),
            "p50": self.memx.p50 / self.floor.p50,
            "p99": self.memx.p99 / self.floor.p99,
            "cpu": self.memx.cpu / self.floor.cpu,
        }

    def as_dict(self) -> dict[str, Any]:
        """The comparison for a JSON file."""
        return {**asdict(self), "ratios": self.ratios}

    def __str__(self) -> str:
        ratios = self.ratios
        return (
            f"{self.servers:>7} {self.subscribers:>7} | {self.memx} | {self.floor} | "
            f"{ratios['rate']:5.2f} {ratios['p50']:5.2f} {ratios['p99']:5.2f} "
            f"{ratios['cpu']:5.2f}"
        )


def compare(servers: int, subscribers: int, rounds: int, seconds: float) -> Comparison:
    """Measure memX and the floor in turns."""
    ours: list[Measure] = []
    floors: list[Measure] = []
    with memx_fleet(servers) as memx, floor_fleet(servers) as floor:
        for _ in range(rounds):
            ours.append(memx.measure(subscribers, seconds))
            floors.append(floor.measure(subscribers, seconds))
    return Comparison(
        servers,
        subscribers,
        _median(ours),
        _median(floors),
        [us.rate / bare.rate for us, bare in zip(ours, floors, strict=True)],
    )


def _median(measures: list[Measure]) -> Measure:
    return Measure(
        rate=statistics.median(each.rate for each in measures),
        p50=statistics.median(each.p50 for each in measures),
        p99=statistics.median(each.p99 for each in measures),
        cpu=statistics.median(each.cpu for each in measures),
        memory=measures[0].memory,  # later rounds reuse what the first one took
    )


def _await_answer(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2).close()
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", default="1,100,1000,5000")
    parser.add_argument("--servers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--quick", action="store_true", help="one server, 1,000 subscribers")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if options.quick:
        options.servers, options.subscribers, options.seconds = "1", "1000", 2.0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(_HEAD)
    found = []
    for servers in map(int, options.servers.split(",")):
        for subscribers in map(int, options.subscribers.split(",")):
            found.append(compare(servers, subscribers, options.rounds, options.seconds))
            print(found[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps([each.as_dict() for each in found], indent=1))


if __name__ == "__main__":
    main()
