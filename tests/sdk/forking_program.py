"""A program that forks while it uses memX; `test_forks.py` runs it and reads the JSON that it prints.

``python forking_program.py SCENARIO BASE_URL``
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from memx_sdk import AsyncMemxContext, MemxError, memxContext
from memx_sdk.transport import TransportOptions, open_transport

CHILDREN = 8
CALLS = 50


def report_of(child: Callable[[], Any]) -> Any:
    """Fork by hand; return what ``child`` returned there, or the name and code of what it raised."""
    readable, writable = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(readable)
        with os.fdopen(writable, "w") as pipe:
            json.dump(_outcome(child), pipe)
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        text = pipe.read()
    os.waitpid(process, 0)
    return json.loads(text)


def _outcome(child: Callable[[], Any]) -> Any:
    try:
        return child()
    except MemxError as error:
        return f"{type(error).__name__}:{error.code}"
    except BaseException:  # noqa: BLE001 - the parent prints it
        return traceback.format_exc()


def _after(*actions: Callable[[], object]) -> str:
    for action in actions:
        action()
    return "done"


def hammer(ctx: memxContext, name: str) -> int:
    """Read and increment keys of one's own; return how many answers were somebody else's."""
    mixed = 0
    ctx.set(f"fork:{name}", name)
    for number in range(1, CALLS + 1):
        mixed += ctx.get(f"fork:{name}").value != name  # type: ignore[union-attr]  # it exists
        mixed += ctx.increment(f"count:{name}").value != number
    return mixed


async def hammer_async(ctx: AsyncMemxContext, name: str) -> int:
    mixed = 0
    await ctx.set(f"fork:{name}", name)
    for number in range(1, CALLS + 1):
        entry = await ctx.get(f"fork:{name}")
        mixed += entry is None or entry.value != name
        mixed += (await ctx.increment(f"count:{name}")).value != number
    return mixed


def _in_child(ctx: memxContext, name: str, results: Any) -> None:
    results.put(_outcome(lambda: hammer(ctx, name)))


def pool(ctx: memxContext) -> list[Any]:
    """What ``multiprocessing`` does, with the parent busy meanwhile; all share one context."""
    hammer(ctx, "before")
    threads = [threading.Thread(target=ctx.get, args=("fork:before",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    fork = multiprocessing.get_context("fork")
    results: Any = fork.Queue()
    children = [
        fork.Process(target=_in_child, args=(ctx, f"child-{number}", results))
        for number in range(CHILDREN)
    ]
    for child in children:
        child.start()
    found: list[Any] = [hammer(ctx, "parent")]
    found += [results.get(timeout=30) for _ in children]
    for child in children:
        child.join(30)
    for thread in threads:
        thread.join(30)
    return found


def http(url: str) -> Any:
    with memxContext("key", url) as ctx:
        return pool(ctx)


def websocket(url: str) -> Any:
    with memxContext("key", url, transport="websocket") as ctx:
        ctx.subscribe("fork:*").ready(10)  # so that its thread is there
        return pool(ctx)


def bridged(url: str) -> Any:
    """A context over somebody's own asynchronous transport, which lives in a thread."""
    from memx_sdk.bridge import BridgedTransport

    def opened(options: TransportOptions) -> Any:
        return open_transport("websocket", options)

    transport = BridgedTransport(opened, TransportOptions(url, "key"))
    with memxContext("key", url, transport=transport) as ctx:
        return pool(ctx)


def prefork(url: str) -> Any:
    """As gunicorn and Celery do it: loaded and used once in the parent, which then only waits."""
    ctx = memxContext("key", url)
    ctx.set("fork:loaded", 1)
    return [report_of(lambda name=f"worker-{n}": hammer(ctx, name)) for n in range(3)]  # type: ignore[misc]  # mypy cannot infer a default


def coroutines(url: str) -> Any:
    ctx = AsyncMemxContext("key", url, transport="websocket" if "ws" in sys.argv[3:] else None)
    found = [asyncio.run(hammer_async(ctx, "before"))]
    readers = []
    for number in range(3):
        name = f"child-{number}"
        readers.append(report_of(lambda name=name: asyncio.run(hammer_async(ctx, name))))  # type: ignore[misc]  # mypy cannot infer a default
    return [*found, *readers]


def same_loop(url: str) -> Any:
    """A child that goes on with the event loop of its parent."""
    loop = asyncio.new_event_loop()
    ctx = AsyncMemxContext("key", url)
    loop.run_until_complete(ctx.set("fork:loop", 1))
    child = report_of(lambda: loop.run_until_complete(ctx.get("fork:loop")))
    entry = loop.run_until_complete(ctx.get("fork:loop"))
    assert entry is not None
    return [child, entry.value]


def inside_a_loop(url: str) -> Any:
    """A fork in a coroutine, with calls of others under way."""

    async def main() -> Any:
        async with AsyncMemxContext("key", url) as ctx:
            mine = asyncio.create_task(hammer_async(ctx, "parent"))
            await asyncio.sleep(0.02)
            child = report_of(lambda: asyncio.run(hammer_async(ctx, "child")))
            return [child, await mine]

    return asyncio.run(main())


def subscription(url: str) -> Any:
    with memxContext("key", url, agent="forker") as ctx:
        heard: list[Any] = []
        arrived = threading.Event()

        def hear(change: Any) -> None:
            heard.append(change.value)
            arrived.set()

        ctx.subscribe("called", hear).ready(10)
        with ctx.subscribe("iterated", durable="forked") as changes:
            changes.ready(10)
            children = [
                report_of(lambda: changes.next(5)),
                report_of(lambda: list(changes)),
                report_of(lambda: ctx.get("nothing")),  # the context itself works
                report_of(lambda: _after(ctx.close)),  # and closes without ending the parent's
            ]
            ctx.set("iterated", 1)
            ctx.set("called", 2)
            arrived.wait(10)
            return [*children, changes.next(10)["value"], heard]


def lock(url: str) -> Any:
    with memxContext("key", url) as ctx, ctx.lock("locked", ttl=5) as held:

        def leave() -> Any:
            return [held.lost, _after(held.release)]

        child = report_of(leave)
        entry = ctx.get("locked")
        return [child, entry is not None and entry.revision == held.token, held.lost]


def agent(url: str) -> Any:
    with memxContext("key", url) as ctx:
        worker = ctx.agent("forked")
        done = threading.Event()

        @worker.on("task:*", durable=True)
        def handle(change: Any) -> None:
            ctx.set(f"done:{change.value}", os.getpid())
            done.set()

        with worker:
            child = report_of(lambda: _after(worker.stop, ctx.close))
            ctx.set("task:1", 1)
            done.wait(10)
            entry = ctx.get("done:1")
            return [child, entry is not None and entry.value == os.getpid()]


def embedded(folder: str) -> Any:
    """The folder stays with the parent; the child is told so, and takes nothing away."""
    with memxContext(base_url=f"embedded:{folder}", max_retries=0) as ctx:
        ctx.set("k", "parent")
        child = report_of(lambda: ctx.get("k"))
        return [child, ctx.get("k")["value"]]  # type: ignore[index]  # it exists


def shared(folder: str) -> Any:
    with memxContext(base_url=f"shared:{folder}") as ctx:
        ctx.set("k", "parent")
        child = report_of(lambda: ctx.get("k")["value"])  # type: ignore[index]  # it exists
        return [child, ctx.get("k")["value"]]  # type: ignore[index]  # it exists


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](sys.argv[2])))
