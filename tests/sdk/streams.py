"""Subscriptions whose methods are awaited in either half."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.sdk.halves import Half, InThread, make_context

DEADLINE = 10.0


@asynccontextmanager
async def subscribed(
    half: Half, url: str, pattern: str = "*", *args: Any, timeout: float = 5.0, **options: Any
) -> AsyncIterator[Any]:
    """A subscription whose methods are awaited in either half."""
    async with make_context(half, "key", url, timeout=timeout) as ctx:
        if half == "async":
            yield ctx.subscribe(pattern, *args, **options)
        else:
            yield InThread(ctx.target.subscribe(pattern, *args, **options))


class Recorder:
    """A callback that can be waited for, from whichever thread it is called."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()

    def __call__(self, item: Any) -> None:
        self.items.append(item)
        self._loop.call_soon_threadsafe(self._arrived.set)

    async def holds(self, count: int) -> list[Any]:
        async with asyncio.timeout(DEADLINE):
            while len(self.items) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.items


async def taken(subscription: Any, count: int) -> list[tuple[str, int]]:
    """The next ``count`` changes, as key and revision."""
    changes = [await subscription.next(timeout=DEADLINE) for _ in range(count)]
    return [(change.key, change.revision) for change in changes]


def subscribe(ctx: Any, *args: Any, **options: Any) -> Any:
    """Subscribe in either half; the subscription's methods are awaited."""
    if isinstance(ctx, InThread):
        return InThread(ctx.target.subscribe(*args, **options))
    return ctx.subscribe(*args, **options)


@asynccontextmanager
async def no_leaks() -> AsyncIterator[None]:
    """Fail if what runs inside leaves a thread or a task of the SDK behind."""
    await asyncio.to_thread(lambda: None)  # the executor's own threads are none of the SDK's
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - threads:
        if "asyncio" not in thread.name:
            await asyncio.to_thread(thread.join, DEADLINE)
            assert not thread.is_alive(), f"{thread} is left running"
    left = {task for task in asyncio.all_tasks() - tasks if "memx" in task.get_name()}
    assert not left, f"{left} are left running"
