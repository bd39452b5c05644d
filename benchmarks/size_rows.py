"""Values of different sizes, beside the least that the same bytes could cost."""

from __future__ import annotations

import urllib.request
from functools import partial

from benchmarks import http_rows, servers
from benchmarks.load import Call, drive
from benchmarks.operations import post
from benchmarks.plan import Plan
from benchmarks.servers import API_KEY, Server
from benchmarks.table import Row
from tests.support.redis_server import RedisServer

TITLE = "Values by size, over HTTP, one worker on Redis, 32 clients"
_SIZES = {"100 B": 100, "10 kB": 10_000, "500 kB": 500_000}


def measure(plan: Plan) -> list[Row]:
    """Measure get and set of each size."""
    rows = []
    with (
        servers.redis() as redis,
        servers.memx(redis.url) as memx,
        servers.python("benchmarks.http_floor", redis.url) as floor,
    ):
        for name, size in _SIZES.items():
            call = Call("/set", {"key": f"bench:{size}", "value": "x" * size})
            post(memx, call.path, call.body)
            _copy_to_floor(memx, redis, size)
            get = Call(f"/get?key=bench:{size}"), Call(f"/get?{size}")
            for verb, ours, bare in (("get", *get), ("set", call, call)):
                row = Row(TITLE, f"{verb} of {name}", http_rows.FLOOR)
                rows.append(
                    plan.alternate(row, partial(drive, memx, ours), partial(drive, floor, bare))
                )
    return rows


def _copy_to_floor(memx: Server, redis: RedisServer, size: int) -> None:
    """Let the floor answer with the same bytes as memX."""
    url = f"{memx.url}/get?key=bench:{size}"
    request = urllib.request.Request(url, headers={"x-api-key": API_KEY})
    with urllib.request.urlopen(request, timeout=30) as answer, redis.client() as client:
        client.set(f"floor:entry{size}", answer.read())
