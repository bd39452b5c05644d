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
from memx_sdk import AsyncMemxContext, MemxError, RequestError, Reset

log = logging.getLogger(__name__)

_PATIENCE = 5.0

TRY_AGAIN = 15.0
"""Seconds between two attempts to watch what memX refused: an API key may be renewed."""

_GATHERING = 0.02
"""Seconds in which further changes of the same resource join one event."""

LIST_GATHERING = 1.0
"""Seconds in which further keys that come and go join one event: a client reads the whole list for each."""


class OutageLog:
    """Says once that memX is away, however many watchers find it so, and how often they try."""

    def __init__(self) -> None:
        self._away = False

    def note(self, error: MemxError) -> None:
        """Log an outage that was not logged yet."""
        if not self._away:
            log.warning("resources cannot be watched until memX is back: %s", error)
        self._away = True

    def over(self) -> None:
        """Take note that memX was reached."""
        self._away = False


class Watcher:
    """A ``SubscriptionBus`` fed by one memX subscription, which lives as long as somebody listens.

    Events are level triggers (SEP-2575): "this has changed, read it again". So several changes of one key
    within a moment make one event.
    """

    def __init__(
        self,
        context: AsyncMemxContext,
        sees: Callable[[str], bool] = lambda key: True,
        outage: OutageLog | None = None,
    ) -> None:
        self._context = context
        self._sees = sees
        self._outage = outage or OutageLog()
        self._bus = InMemorySubscriptionBus()
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None
        self._pending: dict[ServerEvent, None] = {}
        self._arrived = asyncio.Event()
        self._list_changed = asyncio.Event()
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
            tasks.create_task(self._flush_list())

    async def _collect(self) -> None:
        cursor: str | None = None
        refused = False
        while True:
            changes = self._context.subscribe("*", since=cursor)
            try:
                async with changes:
                    await changes.ready()
                    self._live.set()
                    self._outage.over()
                    refused = False
                    async for change in changes:
                        if isinstance(change, Reset) or self._sees(change.key):
                            self._note(change)
            except RequestError as error:
                # This API key is refused, which is no outage: said once until it is taken again.
                if not refused:
                    log.warning("resources cannot be watched: %s", error)
                refused = True
            except MemxError as error:
                self._outage.note(error)
            # The subscription has ended, or was refused. The next one continues from its cursor, so that listeners
            # hear of what was written in between.
            self._live.clear()
            cursor = changes.cursor or cursor
            await asyncio.sleep(TRY_AGAIN)

    def _note(self, change: Any) -> None:
        # A reset means that changes were missed: which keys they touched is unknown, so the list counts as changed.
        if isinstance(change, Reset):
            self._list_changed.set()
            return
        appeared = change.get("action") == "set" and change.version == 1
        if appeared or change.get("action") in ("delete", "expire"):
            self._list_changed.set()
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

    async def _flush_list(self) -> None:
        while True:
            await self._list_changed.wait()
            await asyncio.sleep(LIST_GATHERING)
            # Cleared before the event goes out: a key that comes from now on makes another one.
            self._list_changed.clear()
            await self._bus.publish(ResourcesListChanged())
