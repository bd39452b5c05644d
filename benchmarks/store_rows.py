"""The two stores beside each other, and Redis without memX."""

from __future__ import annotations

import json
from functools import partial

from benchmarks import servers
from benchmarks.load import drive
from benchmarks.operations import GET, SET, VALUE, post
from benchmarks.plan import Plan
from benchmarks.redis_benchmark import hammer
from benchmarks.servers import Server
from benchmarks.table import Row

TITLE = "Stores, over HTTP, one worker, 32 clients"
ON_REDIS = "memX on Redis"
BARE_REDIS = "redis-benchmark -P 16, the same size"
_SIZE = len(json.dumps(VALUE))


def measure(plan: Plan) -> list[Row]:
    """Measure get and set on each."""
    with (
        servers.redis() as redis,
        servers.memx(redis.url) as memx,
        servers.memx(None) as embedded,
    ):
        for server in (memx, embedded):
            post(server, SET.call.path, SET.fields)
        return _stores(plan, memx, embedded) + _redis(plan, memx, servers.redis_alone(redis))


def _stores(plan: Plan, memx: Server, embedded: Server) -> list[Row]:
    return [
        plan.alternate(
            Row(TITLE, f"{each.name} on SQLite (memx dev)", ON_REDIS),
            partial(drive, embedded, each.call),
            partial(drive, memx, each.call),
        )
        for each in (GET, SET)
    ]


def _redis(plan: Plan, memx: Server, redis: Server) -> list[Row]:
    return [
        plan.alternate(
            Row(TITLE, f"{each.name} on Redis", BARE_REDIS),
            partial(drive, memx, each.call),
            partial(hammer, redis, each.op, _SIZE),
        )
        for each in (GET, SET)
    ]
