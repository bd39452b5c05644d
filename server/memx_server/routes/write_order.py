"""The order of one socket's writes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any

from memx_server.routes.operation import Call, Operation

Work = Coroutine[Any, Any, bool]

_WARM_SECONDS = 1.0
"""How long after a write that went well the next ones are taken to go straight to the store."""


class WriteOrder:
    """Lets writes happen in the order in which they were sent.

    A store applies commits in the order in which it gets them. So plain writes, which go to it
    straight away, are begun one behind the other without waiting for answers; but two of the same
    key wait for each other, since a store that failed in between is asked again. All other writes
    (those that read first, or wait for something, or come first after a pause or a failure, when
    the store may have to be prepared) have the socket's writes to themselves.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[str | None, Work]] = deque()
        self._running: dict[str, asyncio.Task[bool]] = {}
        self._starting: asyncio.Task[None] | None = None
        self._warm_until = 0.0

    def add(self, work: Work, plain_key: str | None) -> None:
        """Let ``work`` have its turn.

        Args:
            work: Never raises; returns whether the store answered.
            plain_key: The key that it writes if that is a plain write, else None.
        """
        self._waiting.append((plain_key, work))
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        while self._waiting:
            key, work = self._waiting.popleft()
            if key is None or time.monotonic() > self._warm_until:
                await self._settle(*self._running.values())
                self._note(await work)
            else:
                if key in self._running:
                    await self._settle(self._running[key])
                task = self._running[key] = asyncio.create_task(work)
                task.add_done_callback(partial(self._ended, key))
        self._starting = None

    def _ended(self, key: str, task: asyncio.Task[bool]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        self._note(not task.cancelled() and task.result())

    def _note(self, answered: bool) -> None:
        self._warm_until = time.monotonic() + _WARM_SECONDS if answered else 0.0

    @staticmethod
    async def _settle(*tasks: asyncio.Task[bool]) -> None:
        if tasks:
            await asyncio.wait(tasks)


def plain_key(operation: Operation, call: Call, request: Any) -> str | None:
    """The key of a write that goes straight to the store; None for every other write."""
    if operation.name not in {"set", "delete"}:
        return None
    key: str = request.key
    if operation.name == "delete":
        return key
    schemas = call.services.schemas.cached(call.space)
    if schemas is None or request.ttl is not None:
        return None
    schema = schemas.winner(key)
    return key if schema is None or schema.is_quick_with(len(bytes(request.value))) else None
