"""Calls by the Python SDK beside bare httpx."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from benchmarks import servers
from benchmarks.calls import by_tasks, by_threads
from benchmarks.operations import GET, SET, VALUE, Operation, write
from benchmarks.plan import Measurement, Plan
from benchmarks.servers import API_KEY, Server
from benchmarks.table import Row
from memx_sdk import AsyncMemxContext, memxContext

TITLE = "Python SDK, one process"
FLOOR = "bare httpx on the HTTP floor, as many threads or tasks; it decodes no answer"

KEYS = [f"bench:called:{number}" for number in range(100)]

_THREADS = 8
_TASKS = 32
_OPERATIONS = (GET, SET)

Measurements = dict[str, tuple[Measurement, Measurement]]
"""What is called, by memX and by its floor, by the name of the row."""


def measure(plan: Plan) -> list[Row]:
    """Measure gets and sets, synchronous and asynchronous."""
    if plan.quick:
        plan = replace(plan, rounds=1, seconds=min(plan.seconds, 0.5))
    with (
        servers.redis() as redis,
        servers.memx(redis.url) as memx,
        servers.python("benchmarks.http_floor", redis.url) as floor,
    ):
        write(memx, KEYS, VALUE)
        with _sync(memx, floor) as sync, _async(memx, floor) as asynchronous:
            return [
                plan.alternate(Row(TITLE, name, FLOOR), *pair)
                for name, pair in {**sync, **asynchronous}.items()
            ]


@contextmanager
def _sync(memx: Server, floor: Server) -> Iterator[Measurements]:
    with (
        memxContext(API_KEY, memx.url) as context,
        httpx.Client(base_url=floor.url, headers={"x-api-key": API_KEY}) as client,
    ):
        yield {
            f"sync, {_count(threads, 'thread')}: {each.op}": (
                partial(by_threads, memx, sdk_call(context, each), threads),
                partial(by_threads, floor, bare_call(client, each), threads),
            )
            for threads in (1, _THREADS)
            for each in _OPERATIONS
        }


@contextmanager
def _async(memx: Server, floor: Server) -> Iterator[Measurements]:
    with start_blocking_portal() as portal, ExitStack() as stack:
        client = httpx.AsyncClient(base_url=floor.url, headers={"x-api-key": API_KEY})
        stack.enter_context(portal.wrap_async_context_manager(client))
        found: Measurements = {}
        for transport in ("http", "websocket"):
            context = AsyncMemxContext(API_KEY, memx.url, transport=transport)
            stack.enter_context(portal.wrap_async_context_manager(context))
            for each in _OPERATIONS:
                found[f"async, {_count(_TASKS, 'task')}, {transport}: {each.op}"] = (
                    in_tasks(portal, memx, sdk_call(context, each), _TASKS),
                    in_tasks(portal, floor, bare_call(client, each), _TASKS),
                )
        yield found


def in_tasks(
    portal: BlockingPortal, server: Server, call: Callable[[], Any], count: int
) -> Measurement:
    """Measure ``call`` on the portal's event loop, from a thread that waits meanwhile."""
    return lambda seconds: portal.call(by_tasks, server, call, count, seconds)


def sdk_call(context: memxContext | AsyncMemxContext, operation: Operation) -> Callable[[], Any]:
    """Make ``operation`` a call of the SDK, of one key after the other: one alone would queue on /ws."""
    method, fields = getattr(context, operation.op), {**operation.fields}
    keys = itertools.cycle(KEYS)
    del fields["key"]
    return lambda: method(next(keys), **fields)


def bare_call(client: httpx.Client | httpx.AsyncClient, operation: Operation) -> Callable[[], Any]:
    """Make the floor of ``operation`` a call of httpx."""
    call = operation.floor_call
    if call.body is None:
        return partial(client.get, f"/{operation.floor}")
    return partial(client.post, call.path, json=call.body)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
