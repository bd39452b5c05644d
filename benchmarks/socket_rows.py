"""The same operations over the multiplexed socket: beside HTTP, and beside a bare socket."""

from __future__ import annotations

import json
import subprocess
from functools import partial

from benchmarks import servers, socket_client
from benchmarks.load import REVISION, drive
from benchmarks.operations import GET, OPERATIONS, SET, VALUE, Operation, prepare, write
from benchmarks.plan import Plan
from benchmarks.servers import API_KEY, Server
from benchmarks.table import Row, Sample

TITLE = "WS /ws, one worker on Redis; in flight: 192 on one socket, 32 on each of 32"
HTTP = "memX over HTTP, 32 clients"
BARE = "a bare socket + the same Redis commands, batched"
MANY = 32
_IN_FLIGHT = {1: 192, MANY: 32}
"""Requests under way on each socket, by how many sockets there are; a server works on 192 of one."""
_AIM = 2.0
"""One connection's rate by HTTP's."""


def measure(plan: Plan) -> list[Row]:
    """Measure every operation on one connection and on many."""
    with (
        servers.redis() as redis,
        servers.memx(redis.url) as memx,
        servers.python("benchmarks.http_floor", redis.url) as floor,
    ):
        prepare(memx)
        write(
            memx, [f"{GET.fields['key']}:{slot}" for slot in range(max(_IN_FLIGHT.values()))], VALUE
        )
        rows = [_beside_http(plan, memx, each, 1) for each in OPERATIONS]
        many = (GET, SET) if plan.quick else OPERATIONS
        rows += [_beside_http(plan, memx, each, MANY) for each in many]
        rows += [_beside_floor(plan, memx, floor, each) for each in (GET, SET)]
        return rows


def ask(server: Server, op: str, operation: Operation, connections: int, seconds: float) -> Sample:
    """Put a server under load over its socket.

    Args:
        server: memX, or the floor.
        op: What the server calls the operation.
        operation: Its fields.
        connections: How many, each with several requests under way.
        seconds: How long.
    """
    task = socket_client.Task(
        port=server.port,
        api_key=API_KEY,
        fields={"op": op, **operation.fields},
        own_keys=operation.op in ("get", "set"),
        conditional=operation.fields.get("if_revision") == REVISION,
        connections=connections,
        in_flight=_IN_FLIGHT[connections],
        seconds=seconds,
    )
    before = server.processor_time()
    done = subprocess.run(
        socket_client.command(task), stdout=subprocess.PIPE, timeout=seconds + 60, check=True
    )
    spent = server.processor_time() - before
    found = json.loads(done.stdout)
    return Sample(
        rate=found["rate"],
        p99=found["p99"],
        cpu=1e6 * spent / max(1, found["requests"]),
        failed=found["failed"],
        client=found["client"],
    )


def _beside_http(plan: Plan, memx: Server, operation: Operation, connections: int) -> Row:
    aim = _AIM if connections == 1 else None
    return plan.alternate(
        Row(TITLE, _name(operation, connections), HTTP, aim),
        partial(ask, memx, operation.op, operation, connections),
        partial(drive, memx, operation.call),
    )


def _beside_floor(plan: Plan, memx: Server, floor: Server, operation: Operation) -> Row:
    return plan.alternate(
        Row(TITLE, _name(operation, 1), BARE),
        partial(ask, memx, operation.op, operation, 1),
        partial(ask, floor, operation.floor, operation, 1),
    )


def _name(operation: Operation, connections: int) -> str:
    return f"{operation.name}, {connections} socket{'s' if connections > 1 else ''}"
