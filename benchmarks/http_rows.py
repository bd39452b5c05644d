"""HTTP calls beside their floor: the servers, and the rows of the table."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Call, Target, drive
from benchmarks.table import Row
from tests.support.memx_server import MemxServer
from tests.support.redis_server import RedisServer, free_port, newest_redis

API_KEY = "local_dev_key"
CLIENTS = 32
VALUE = {"text": "x" * 60, "votes": 3, "tags": ["a", "b"]}
SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 1000},
        "votes": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["text"],
}


@dataclass(frozen=True)
class Measured:
    """One row: a call of memX, and the floor's call that costs the same commands.

    Attributes:
        aim: The ratio that it should reach.
    """

    name: str
    call: Call
    floor: Call
    aim: float


ROWS = (
    Measured("HTTP get", Call("/get?key=bench:plain"), Call("/get"), 0.6),
    Measured(
        "HTTP set",
        Call("/set", {"key": "bench:plain", "value": VALUE}),
        Call("/set", {"key": "bench:plain", "value": VALUE}),
        0.5,
    ),
    Measured(
        "HTTP set, with schema",
        Call("/set", {"key": "bench:checked", "value": VALUE}),
        Call("/set", {"key": "bench:plain", "value": VALUE}),
        0.5,
    ),
)


@dataclass(frozen=True)
class Servers:
    """Where memX and the floor answer."""

    memx: Target
    floor: Target


@contextmanager
def running() -> Iterator[Servers]:
    """Start Redis, memX and the floor, with what the rows read and check against."""
    with (
        RedisServer(newest_redis()) as redis,
        MemxServer("serve", environ={"REDIS_URL": redis.url}) as memx,
        _floor(redis.url) as floor,
    ):
        _post(memx.url, "/schema", {"key": "bench:checked", "schema": SCHEMA})
        for row in ROWS:
            if row.call.body is not None:
                _post(memx.url, row.call.path, row.call.body)
        yield Servers(Target(memx.url, memx.pid), floor)


def measure(servers: Servers, rounds: int, seconds: float) -> list[Row]:
    """Measure all rows in turns with their floors."""
    rows = [Row(each.name, each.aim) for each in ROWS]
    for _ in range(rounds):
        for row, each in zip(rows, ROWS, strict=True):
            options: dict[str, Any] = {"seconds": seconds, "clients": CLIENTS, "api_key": API_KEY}
            row.add(
                drive(servers.memx, each.call, **options),
                drive(servers.floor, each.floor, **options),
            )
    return rows


@contextmanager
def _floor(redis_url: str) -> Iterator[Target]:
    port = free_port()
    script = Path(__file__).with_name("http_floor.py")
    process = subprocess.Popen([sys.executable, str(script), str(port), redis_url])
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url + "/get")
        yield Target(url, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _post(url: str, path: str, body: Any) -> None:
    request = urllib.request.Request(
        url + path,
        json.dumps(body).encode(),
        {"x-api-key": API_KEY, "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10):
        pass
