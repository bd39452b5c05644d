"""Presence as a caller may see it: as a list, and as events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.keys import compile_pattern, validate_pattern
from memx_server.domain.access import Caller, KeySet, forbidden
from memx_server.domain.feed.messages import Event, Packet
from memx_server.domain.feed.send_queue import Lane
from memx_server.domain.presence.registry import Presence, PresenceEntry
from memx_server.storage.base import StoreUnavailable

_NOWHERE = Position("", 0)
"""Presence is no part of the log."""


class PresenceFeed:
    """The list of those present in a space, and the subscriptions to it.

    Args:
        presence: The registry.
    """

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self._watchers: dict[str, _Watch] = {}
        presence.changed = self._changed

    async def list(self, caller: Caller) -> bytes:
        """List who is present, as JSON text.

        Raises:
            ProtocolError: ``forbidden`` to those who may read nothing; ``unavailable``.
        """
        _require_read(caller)
        present = await self._presence.present(caller.space)
        readable = caller.principal.scopes.read
        return msgspec.json.encode({"present": [_shown(each, readable) for each in present]})

    def subscribe(self, caller: Caller, pattern: str, lane: Lane) -> PresenceSubscriber:
        """Make a subscriber that feeds ``lane`` once it is started.

        Args:
            caller: Who subscribes.
            pattern: The writers whose events it wants.
            lane: Where the events wait.

        Raises:
            ProtocolError: ``forbidden`` to those who may read nothing; ``invalid_pattern``.
        """
        _require_read(caller)
        return PresenceSubscriber(self, caller, validate_pattern(pattern), lane)

    def join(self, subscriber: PresenceSubscriber) -> None:
        """Keep a subscriber up to date."""
        watch = self._watchers.get(subscriber.space)
        if watch is None:
            watch = self._watchers[subscriber.space] = _Watch(self._presence, subscriber.space)
        watch.subscribers.add(subscriber)
        watch.hurry.set()

    async def leave(self, subscriber: PresenceSubscriber) -> None:
        """Forget a subscriber."""
        watch = self._watchers.get(subscriber.space)
        if watch is None:
            return
        watch.subscribers.discard(subscriber)
        if not watch.subscribers:
            del self._watchers[subscriber.space]
            await watch.close()

    def _changed(self, space: str) -> None:
        if watch := self._watchers.get(space):
            watch.hurry.set()


class PresenceSubscriber:
    """Feeds one lane with events: a writer joins, leaves, or watches something else.

    It compares who is present with what it has sent, and sends the difference. So a connection that
    is behind gets fewer events, and never an outdated one.
    """

    def __init__(self, feed: PresenceFeed, caller: Caller, pattern: str, lane: Lane) -> None:
        self.space = caller.space
        self._feed = feed
        self._readable = caller.principal.scopes.read
        self._matches = compile_pattern(pattern)
        self._lane = lane
        self._sent: dict[str, PresenceEntry] | None = None

    def start(self) -> None:
        """Begin to feed the lane."""
        self._feed.join(self)

    async def close(self) -> None:
        """Stop."""
        await self._feed.leave(self)
        self._lane.clear()

    def update(self, present: Iterable[PresenceEntry]) -> None:
        """Send how ``present`` differs from what was sent; wait for a connection that is behind."""
        # Skipped, not queued: the next update compares with what was sent, and so makes up for it.
        if self._lane.queue.full:
            return
        now = {p.writer: _shown(p, self._readable) for p in present if self._matches(p.writer)}
        known, self._sent = self._sent, now
        for writer, each in now.items():
            if known is None or writer not in known:
                self._send("join", each, snapshot=known is None)
            elif known[writer].watching != each.watching:
                self._send("change", each)
        for writer, each in (known or {}).items():
            if writer not in now:
                self._send("leave", each)
        if known is None:
            self._put(Event("live", b'{"event":"live"}'))

    def _send(self, action: str, each: PresenceEntry, *, snapshot: bool = False) -> None:
        members = {"event": "presence", "action": action, **msgspec.to_builtins(each)}
        if snapshot:
            members["snapshot"] = True
        self._put(Event("presence", msgspec.json.encode(members), key=each.writer))

    def _put(self, event: Event) -> None:
        self._lane.put(Packet([event], _NOWHERE, _NOWHERE))


class _Watch:
    """Reads who is present in one space, as long as there are subscribers to it."""

    def __init__(self, presence: Presence, space: str) -> None:
        self.subscribers: set[PresenceSubscriber] = set()
        self.hurry = asyncio.Event()
        self._presence = presence
        self._space = space
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            # Cleared before the read: whoever comes during it sets it again.
            self.hurry.clear()
            try:
                present = await self._presence.present(self._space)
            except StoreUnavailable:
                present = None  # who was present stays so, as far as subscribers see
            if present is not None:
                for subscriber in list(self.subscribers):
                    subscriber.update(present)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._presence.settings.poll_seconds):
                    await self.hurry.wait()


def _require_read(caller: Caller) -> None:
    if not caller.principal.scopes.read:
        raise forbidden("read", "*")


def _shown(present: PresenceEntry, readable: KeySet) -> PresenceEntry:
    """Leave out the watched patterns of which the reader may not read everything."""
    return msgspec.structs.replace(
        present, watching=tuple(each for each in present.watching if readable.covers(each))
    )
