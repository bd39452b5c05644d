"""HTTP calls beside the least that they could cost."""

from __future__ import annotations

from functools import partial

from benchmarks import servers
from benchmarks.load import drive
from benchmarks.operations import OPERATIONS, prepare
from benchmarks.plan import Plan
from benchmarks.table import Row

TITLE = "HTTP, one worker on Redis, 32 clients"
FLOOR = "bare ASGI + the same Redis commands, batched"


def measure(plan: Plan) -> list[Row]:
    """Measure every operation."""
    with (
        servers.redis() as redis,
        servers.memx(redis.url) as memx,
        servers.python("benchmarks.http_floor", redis.url) as floor,
    ):
        prepare(memx)
        return [
            plan.alternate(
                Row(TITLE, each.name, FLOOR, each.aim),
                partial(drive, memx, each.call),
                partial(drive, floor, each.floor_call),
            )
            for each in OPERATIONS
        ]
