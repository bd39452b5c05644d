"""Two workers beside one.

They share the machine with Redis and the client, so on few cores the rate says little. The processor time of
a request says more: where two workers spend no more on each request than one does, they do twice as many
as soon as each has a core.
"""

from __future__ import annotations

import os
from functools import partial

from benchmarks import servers
from benchmarks.load import drive
from benchmarks.operations import GET, SET, Operation, post
from benchmarks.plan import Plan
from benchmarks.servers import Server
from benchmarks.table import Row

TITLE = "Two workers on one Redis, over HTTP, 32 clients; cpu with Redis's"
_AIM = 1.6


def measure(plan: Plan) -> list[Row]:
    """Measure get and set with two workers and with one."""
    with (
        servers.redis() as redis,
        servers.memx(redis.url, workers=2) as two,
        servers.memx(redis.url) as one,
    ):
        post(one, SET.call.path, SET.fields)
        return [
            _row(plan, each, *(Server(s.url, (*s.pids, redis.pid)) for s in (two, one)))
            for each in (GET, SET)
        ]


def _row(plan: Plan, operation: Operation, two: Server, one: Server) -> Row:
    row = Row(TITLE, operation.name, "one worker", _AIM)
    plan.alternate(row, partial(drive, two, operation.call), partial(drive, one, operation.call))
    found = row.as_dict()
    cores = len(os.sched_getaffinity(0))
    row.note = (
        f"by processor time {2 * found['floor_cpu'] / found['cpu']:.2f}, on cores of their own; here {cores} "
        "for workers, Redis and wrk"
    )
    return row
