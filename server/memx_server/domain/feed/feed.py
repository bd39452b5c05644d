"""The feed: the hubs of this process, and the subscriptions to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_pattern
from memx_server.domain.access import EventName, Principal, kinds_of
from memx_server.domain.byte_budget import ByteBudget
from memx_server.domain.counters import FeedCounters
from memx_server.domain.feed.hub import FeedSettings, Hub
from memx_server.domain.feed.messages import Packet
from memx_server.domain.feed.send_queue import Lane
from memx_server.domain.feed.subscriber import Subscriber, Subscription
from memx_server.storage.base import Store


class Feed:
    """One hub for each space that has a listener in this process.

    A hub opens with the first listener, and stays for a while when the last one has left: agents
    reconnect, and long polls come one after the other.

    Args:
        store: Where the logs are.
        settings: How the feed behaves.
        sent: Counts what the process holds to be sent; snapshots count until the last subscriber has sent them.

    Attributes:
        counters: What has happened in the feeds of all spaces.
    """

    def __init__(
        self, store: Store, settings: FeedSettings | None = None, *, sent: ByteBudget | None = None
    ) -> None:
        self.settings = settings or FeedSettings()
        self.counters = FeedCounters()
        self._store = store
        self._sent = sent
        self._hubs: dict[str, asyncio.Task[Hub]] = {}
        self._lingering: dict[str, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def subscribe(
        self,
        principal: Principal,
        subscription: Subscription,
        lane: Lane,
        failed: Callable[[ProtocolError], None],
    ) -> Subscriber:
        """Make a subscriber that feeds ``lane`` once it is started.

        Args:
            principal: Whose space it listens to, and whose read scopes filter what it gets.
            subscription: Which changes, and from where on.
            lane: Where it puts the packets.
            failed: Called once if the subscription cannot go on.

        Raises:
            ProtocolError: ``invalid_pattern``; ``forbidden`` where it may read none of it;
                ``unavailable`` when the store does not answer.
        """
        principal.require_any_read(validate_pattern(subscription.pattern))
        hub = await self._hub(principal.space)
        return Subscriber(hub, lane, subscription, principal.scopes.read, failed)

    @asynccontextmanager
    async def watch(
        self, principal: Principal, pattern: str, event: EventName
    ) -> AsyncIterator[asyncio.Event]:
        """Yield an event that is set whenever something that ``principal`` sees may have changed.

        Raises:
            ProtocolError: As ``subscribe``.
        """
        principal.require_any_read(validate_pattern(pattern))
        hub = await self._hub(principal.space)
        watcher = _Watcher()
        audience = hub.index.add(pattern, kinds_of(event), principal.scopes.read, watcher)
        try:
            yield watcher.changed
        finally:
            hub.leave(audience, watcher)

    def count_listeners(self) -> tuple[int, int]:
        """Count the spaces that are followed, and their listeners in all."""
        hubs = [
            task.result()
            for task in self._hubs.values()
            if task.done() and not task.cancelled() and task.exception() is None
        ]
        return len(hubs), sum(len(hub.index) for hub in hubs)

    async def close(self) -> None:
        """Close every hub; subscribers get nothing more."""
        for timer in self._lingering.values():
            timer.cancel()
        for space in list(self._hubs):
            self._retire(space)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _hub(self, space: str) -> Hub:
        if timer := self._lingering.pop(space, None):
            timer.cancel()
        # The opening of a hub is a task of its own, which all share who want the hub meanwhile; one
        # of them may be cancelled without ending it for the others.
        task = self._hubs.get(space)
        if task is None:
            task = self._hubs[space] = asyncio.create_task(self._open(space))
        try:
            hub = await asyncio.shield(task)
        except Exception:
            # It could not be opened; the next call tries again, unless one has already.
            if self._hubs.get(space) is task:
                del self._hubs[space]
            raise
        if not hub.index:
            self._linger(space)  # the caller may be cancelled before it has added its listener
        return hub

    async def _open(self, space: str) -> Hub:
        emptied = partial(self._linger, space)
        hub = Hub(
            self._store, space, self.settings, self.counters, emptied=emptied, sent=self._sent
        )
        await hub.open()
        return hub

    def _linger(self, space: str) -> None:
        if timer := self._lingering.pop(space, None):
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._lingering[space] = loop.call_later(
            self.settings.linger_seconds, self._retire_if_empty, space
        )

    def _retire_if_empty(self, space: str) -> None:
        del self._lingering[space]
        task = self._hubs.get(space)
        if task is not None and task.done() and not task.result().index:
            self._retire(space)

    def _retire(self, space: str) -> None:
        closing = asyncio.create_task(self._shut(self._hubs.pop(space)))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _shut(self, opening: asyncio.Task[Hub]) -> None:
        if not opening.done():
            opening.cancel()
        elif not opening.cancelled() and opening.exception() is None:
            await opening.result().close()


class _Watcher:
    """A listener that notes only that something has changed."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    def offer(self, packet: Packet) -> None:
        self.changed.set()

    def mark(self, packet: Packet) -> None:
        pass

    def reset(self, reason: str) -> None:
        self.changed.set()
