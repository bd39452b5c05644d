"""An agent of either half, driven by coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from memx_sdk import Change
from tests.sdk.halves import InThread
from tests.sdk.streams import DEADLINE, Recorder


class AgentHarness:
    """An agent of either half, driven by coroutines; its handlers are written once.

    Attributes:
        handled: What the handlers have been called with.
    """

    def __init__(self, ctx: Any, name: str = "critic", concurrency: int = 4) -> None:
        is_sync = isinstance(ctx, InThread)
        target = ctx.target if is_sync else ctx
        self.agent = target.agent(name, concurrency=concurrency)
        self.awaited = InThread(self.agent) if is_sync else self.agent
        self.is_sync = is_sync
        self.handled = Recorder()

    def on(
        self, pattern: str, work: Callable[[Change], None] | None = None, **options: Any
    ) -> None:
        """Register a handler that does ``work``, which may block, and then notes the change."""

        def handle(change: Change) -> None:
            if work is not None:
                work(change)
            self.handled(change)

        async def handle_in_thread(change: Change) -> None:
            await asyncio.to_thread(handle, change) if work is not None else handle(change)

        self.agent.on(pattern, **options)(handle if self.is_sync else handle_in_thread)

    async def holds(self, count: int) -> list[Any]:
        return [change.value for change in await self.handled.holds(count)]

    async def __aenter__(self) -> AgentHarness:
        await self.awaited.start(DEADLINE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.awaited.stop()
