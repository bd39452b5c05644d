"""The watcher: memX's feed as MCP's change events, for both protocol eras."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)

from memx_mcp.uris import uri_of
from memx_sdk import AsyncMemxContext, MemxError, Reset

log = logging.getLogger(__name__)

_PATIENCE = 5.0

TRY_AGAIN = 15.0
"""Seconds between two attempts to watch what memX refused: an API key may be renewed."""

_GATHERING = 0.02
"""Seconds in which further changes of the same resource join one event."""


class Watcher:
    """A ``SubscriptionBus`` fed by one memX subscription, which lives as long as somebody listens.

    Events are level triggers (SEP-2575): "this has changed, read it again". So several changes of one key
    within a moment make one event.
    """

    def __init__(
        self, context: AsyncMemxContext, sees: Callable[[str], bool] = lambda key: True
    ) -> None:
        self._context = context
        self._sees = sees
        self._bus = InMemorySubscriptionBus()
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None
        self._pending: dict[ServerEvent, None] = {}
        self._arrived = asyncio.Event()
        self._live = asyncio.Event()

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return self._listeners > 0

    async def publish(self, event: ServerEvent) -> None:
        """Hand an event to the listeners."""
        await self._bus.publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Add a listener; the function that is returned removes it."""
        leave_bus = self._bus.subscribe(listener)
        self._listeners += 1
        # The first listener starts the feed, the last one to leave ends it.
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        left = False

        def unsubscribe() -> None:
            nonlocal left
            if left:
                return
            left = True
            leave_bus()
            self._listeners -= 1
            if not self.active and self._task is not None:
                self._task.cancel()
                self._task = None
                self._live.clear()

        return unsubscribe

    async def ready(self) -> None:
        """Return once nothing from now on is missed, or memX has been away for a while."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._live.wait(), _PATIENCE)

    async def close(self) -> None:
        """Stop watching."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._collect())
            tasks.create_task(self._flush())

    async def _collect(self) -> None:
        cursor: str | None = None
        logged = ""
        while True:
            changes = self._context.subscribe("*", since=cursor)
            try:
                async with changes:
                    await changes.ready()
                    self._live.set()
                    async for change in changes:
                        if isinstance(change, Reset) or self._sees(change.key):
                            self._note(change)
            except MemxError as error:
                if logged != str(error):  # once for each outage, not once for each attempt
                    log.warning("resources cannot be watched: %s", error)
                logged = str(error)
            # The subscription has ended, or was refused. The next one continues from its cursor, so that listeners
            # hear of what was written in between.
            self._live.clear()
            cursor = changes.cursor or cursor
            await asyncio.sleep(TRY_AGAIN)

    def _note(self, change: Any) -> None:
        # A reset means that changes were missed: which keys they touched is unknown, so the list counts as changed.
        if isinstance(change, Reset):
            self._pending[ResourcesListChanged()] = None
        else:
            appeared = change.get("action") == "set" and change.version == 1
            if appeared or change.get("action") in ("delete", "expire"):
                self._pending[ResourcesListChanged()] = None
            self._pending[ResourceUpdated(uri_of(change.key))] = None
        self._arrived.set()

    async def _flush(self) -> None:
        while True:
            await self._arrived.wait()
            # An agent that writes ten keys makes ten events within milliseconds, and a key that is written again
            # in this time makes no further one: a listener reads the key anyway.
            await asyncio.sleep(_GATHERING)
            self._arrived.clear()
            pending, self._pending = self._pending, {}
            for event in pending:
                await self._bus.publish(event)
