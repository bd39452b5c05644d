"""memX beside other servers, each asked by its fastest sensible client."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from mcp import StdioServerParameters

from benchmarks import mcp_peer, peers, servers
from benchmarks.load import Call, drive
from benchmarks.operations import GET, SET, VALUE, post
from benchmarks.peers import NotInstalledError
from benchmarks.plan import Measurement, Plan
from benchmarks.servers import Server
from benchmarks.table import Row
from tests.support.redis_server import RedisServer

TITLE = "Peers, 32 requests under way; ratio = memX : peer"
_KEY = "bench:plain"
_TEXT = json.dumps(VALUE, separators=(",", ":"))
_MODULES = "langgraph-checkpoint-redis's store"
_NEEDS_MODULES = "cannot be measured: it wants a Redis with the modules RediSearch and RedisJSON"

Measurements = Mapping[str, Measurement]
"""By what is done: ``get`` and ``set``."""


def measure(plan: Plan) -> list[Row]:
    """Measure get and set of each peer that is installed."""
    with servers.redis() as redis, servers.memx(redis.url) as memx:
        post(memx, SET.call.path, SET.fields)
        ours = {each.name: partial(drive, memx, each.call) for each in (GET, SET)}
        rows = []
        for name, start in (
            ("webdis (C, one thread, no checks), by wrk", partial(_webdis, redis)),
            ("etcd's JSON gateway (forces each write to the disk), by wrk", _etcd),
            ("NATS JetStream KV, by nats-py", _nats),
        ):
            rows += _rows(plan, name, start, ours)
        rows += _mcp_rows(plan, redis, memx)
        return [*rows, Row(TITLE, "put", _MODULES, note=_NEEDS_MODULES)]


def _rows(
    plan: Plan,
    name: str,
    start: Callable[[], AbstractContextManager[Measurements]],
    ours: Measurements,
) -> list[Row]:
    rows = [Row(TITLE, verb, name) for verb in ours]
    try:
        with start() as theirs:
            for row in rows:
                plan.alternate(row, ours[row.name], theirs[row.name])
    except NotInstalledError as missing:
        for row in rows:
            row.note = str(missing)
    return rows


@contextmanager
def _webdis(redis: RedisServer) -> Iterator[Measurements]:
    body = f'wrk.method = "POST"\nwrk.body = [=[SET/webdis/{_TEXT}]=]\n'
    with peers.webdis(redis.url) as server:
        yield {
            "set": partial(drive, server, Call("/", script=body)),
            "get": partial(drive, server, Call("/GET/webdis")),
        }


@contextmanager
def _etcd() -> Iterator[Measurements]:
    key, value = (base64.b64encode(text.encode()).decode() for text in (_KEY, _TEXT))
    with peers.etcd() as server:
        put = Call("/v3/kv/put", {"key": key, "value": value})
        post(server, put.path, put.body)
        yield {
            "set": partial(drive, server, put),
            "get": partial(drive, server, Call("/v3/kv/range", {"key": key})),
        }


@contextmanager
def _nats() -> Iterator[Measurements]:
    with peers.nats() as server:
        yield {verb: partial(peers.drive_nats, server, verb, _TEXT) for verb in ("get", "set")}


def _mcp_rows(plan: Plan, redis: RedisServer, memx: Server) -> list[Row]:
    """Tool calls: memX's MCP server beside Redis's, by the same client."""
    ours = mcp_peer.memx_mcp(memx.url)
    written = {"key": _KEY, "value": VALUE}
    calls = {
        "get": partial(mcp_peer.drive, ours, "memx_get", {"key": _KEY}),
        "set": partial(mcp_peer.drive, ours, "memx_set", written),
    }
    name = "the Redis MCP server's tools, over stdio (ours: memx-mcp's)"
    return _rows(plan, name, partial(_redis_mcp, redis), calls)


@contextmanager
def _redis_mcp(redis: RedisServer) -> Iterator[Measurements]:
    theirs = StdioServerParameters(command=peers.redis_mcp_server(), args=["--url", redis.url])
    yield {
        "get": partial(mcp_peer.drive, theirs, "get", {"key": "mcp"}),
        "set": partial(mcp_peer.drive, theirs, "set", {"key": "mcp", "value": VALUE}),
    }
