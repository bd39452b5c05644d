"""A store whose notices get lost, come twice, late, out of order, or without their changes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

from memx_server.storage.base import Record, Store, StoreUnavailable, TailListener


class FaultyStore:
    """Passes everything on to a real store, but for what a test breaks.

    Attributes:
        lose: Whether notices get lost.
        scramble: Whether some are lost, others come twice, and all late and in any order.
        bare: Whether they come without their changes.
        delay: Seconds by which they are late.
        unavailable: Whether reads fail.
        pause: Seconds that a read takes longer.
        page: The most entries of one page of a list, so that it takes several moments to read all.
        meanwhile: Called while the head is on its way to who asked for it.
        calls: How often each method was called.
    """

    def __init__(self, store: Store, seed: int = 0) -> None:
        self._store = store
        self._random = Random(seed)
        self.lose = False
        self.scramble = False
        self.bare = False
        self.delay = 0.0
        self.unavailable = False
        self.pause = 0.0
        self.page = 1000
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.calls: Counter[str] = Counter()
        self.listeners: list[TailListener] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in {"log", "head", "read", "list", "schemas"}:
            return method

        async def call(*args: Any, **options: Any) -> Any:
            self.calls[name] += 1
            await asyncio.sleep(self.pause)
            if self.unavailable:
                raise StoreUnavailable("broken by the test")
            if name == "list":
                options["limit"] = self.page
            answer = await method(*args, **options)
            if name == "head" and self.meanwhile is not None:
                meanwhile, self.meanwhile = self.meanwhile, None
                await meanwhile()
            return answer

        return call

    async def tail(self, space: str, listener: TailListener) -> Callable[[], Awaitable[None]]:
        self.listeners.append(listener)
        return await self._store.tail(space, _Unreliable(self, listener))

    def deliver(self, listener: TailListener, record: Record) -> None:
        if self.lose:
            return
        if self.bare:
            record = replace(record, changes=None)
        loop = asyncio.get_running_loop()
        if self.delay:
            loop.call_later(self.delay, listener.on_record, record)
            return
        if not self.scramble:
            listener.on_record(record)
            return
        for _ in range(self._random.choice((0, 1, 1, 1, 2))):
            loop.call_later(self._random.uniform(0, 0.003), listener.on_record, record)


class _Unreliable:
    def __init__(self, store: FaultyStore, listener: TailListener) -> None:
        self._store = store
        self._listener = listener

    def on_record(self, record: Record) -> None:
        self._store.deliver(self._listener, record)

    def on_gap(self) -> None:
        self._listener.on_gap()
