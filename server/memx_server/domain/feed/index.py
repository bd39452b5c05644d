"""The index of a hub's listeners: it finds those who may see a change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Protocol

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import match_cost
from memx_server.domain.access import KeySet, Visibility
from memx_server.domain.feed.messages import Packet, Rendered
from memx_server.domain.pattern_index import PatternIndex


class Listener(Protocol):
    """One subscription, as its hub calls it.

    The hub calls each listener in turn, in the middle of publishing a record. So none of these
    methods may wait, raise, or add and remove listeners.
    """

    def offer(self, packet: Packet) -> None:
        """Take the changes of one transaction that the listener's audience sees."""

    def mark(self, packet: Packet) -> None:
        """Take the position that the log has reached.

        A listener that has passed nothing on for a while sends it to its client: the client's cursor
        then moves although no change was for it, and stays above what the log will have dropped.
        """

    def reset(self, reason: str) -> None:
        """Start over: the history that the listener has followed is lost or no longer kept."""


class Audience(Visibility):
    """Listeners with the same pattern, kinds of event and read scopes.

    All of them see the same changes, so that what one may see is decided once for all.

    Args:
        pattern: A key or a pattern.
        kinds: Some of ``value`` and ``schema``.
        readable: The keys that they may read.

    Attributes:
        listeners: A dict for its order: they are served in the order in which they came.
    """

    __slots__ = ("listeners",)

    def __init__(self, pattern: str, kinds: frozenset[str], readable: KeySet) -> None:
        super().__init__(pattern, kinds, readable)
        self.listeners: dict[Listener, None] = {}

    def packet(self, record: Rendered) -> Packet | None:
        """Make the packet of all that it sees of ``record``; None where that is nothing."""
        which = tuple(
            index for index, change in enumerate(record.changes) if self.sees_change(change)
        )
        return record.packet(which) if which else None

    def index_patterns(self) -> Iterable[str]:
        """Return patterns of which at least one matches every key that it sees.

        That is its own pattern. A subscriber to ``*`` would then be a candidate for every change, and
        thousands of them do so with narrow scopes: those are found by the patterns of their scopes.
        """
        return set(self.readable.patterns) if self.pattern == "*" else (self.pattern,)


_MOST_COST = 10_000
"""Microseconds that it may take to match one key by all patterns of a space that have no own place in the index."""
_COSTLY = 200
"""From here on keys are matched in parts, between which the event loop serves others."""
_AT_ONCE = 100
_REMEMBERED = 4096
_ATTEMPTS = 3


class AudienceIndex:
    """The audiences of a space, found by key.

    A change costs what the audiences cost that its key leads to, however many others there are. A
    pattern with text between two stars may have to be matched even so; what that takes is counted, and
    bounded by refusing further such patterns.
    """

    def __init__(self) -> None:
        # Audiences whose pattern matches a key. It holds until an audience comes or goes.
        self._matching: dict[str, tuple[Audience, ...]] = {}
        self._generation = 0
        self._audiences: dict[tuple[str, frozenset[str], tuple[str, ...]], Audience] = {}
        self._by_pattern: PatternIndex[Audience] = PatternIndex()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Listener]:
        for audience in self._audiences.values():
            yield from audience.listeners

    def add(
        self, pattern: str, kinds: frozenset[str], readable: KeySet, listener: Listener
    ) -> Audience:
        """Let ``listener`` see events of ``kinds`` about the readable keys that ``pattern`` matches.

        Returns:
            The audience that it belongs to now; ``remove`` takes it.

        Raises:
            ProtocolError: ``quota_exceeded`` where the space's patterns would take too long to match.
        """
        name = (pattern, kinds, readable.patterns)
        audience = self._audiences.get(name)
        if audience is None:
            # Thousands of sockets with the same pattern and scopes are one audience, which is matched
            # once for each change.
            if (cost := match_cost(pattern)) and self._by_pattern.cost + cost > _MOST_COST:
                raise _too_costly(pattern)
            audience = self._audiences[name] = Audience(pattern, kinds, readable)
            for each in audience.index_patterns():
                self._by_pattern.add(each, audience)
            self._forget_matching()
        audience.listeners[listener] = None
        self._count += 1
        return audience

    def remove(self, audience: Audience, listener: Listener) -> None:
        """Forget ``listener``; harmless where it is unknown."""
        if listener not in audience.listeners:
            return
        del audience.listeners[listener]
        self._count -= 1
        if not audience.listeners:
            self._discard(audience)

    @property
    def is_costly(self) -> bool:
        """Whether ``prepare`` should come before ``publish``."""
        return self._by_pattern.cost > _COSTLY

    async def prepare(self, record: Rendered) -> None:
        """Match the keys of ``record`` in parts, so that ``publish`` finds what they lead to.

        An audience that comes or goes meanwhile makes void what was found; then it begins again. After a
        few attempts ``publish`` matches at once what is left.
        """
        keys = dict.fromkeys(change.key for change in record.changes)
        for _ in range(_ATTEMPTS):
            generation = self._generation
            for key in keys:
                if key not in self._matching:
                    await self._match_in_parts(key)
                if self._generation != generation:
                    break
            else:
                return

    async def _match_in_parts(self, key: str) -> None:
        generation = self._generation
        found: list[Audience] = []
        candidates = list(dict.fromkeys(self._by_pattern.candidates(key)))
        for begin in range(0, len(candidates), _AT_ONCE):
            await asyncio.sleep(0)
            found += [each for each in candidates[begin : begin + _AT_ONCE] if each.matches(key)]
        if self._generation == generation:
            self._remember(key, tuple(found))

    def publish(self, record: Rendered) -> None:
        """Offer ``record`` to every listener that sees some of it.

        A transaction may not arrive in parts. So all of its changes are looked up first, and each
        audience then gets one packet of those that it sees.
        """
        concerned: dict[Audience, list[int]] = {}
        for index, change in enumerate(record.changes):
            for audience in self._matching_audiences(change.key):
                if audience.sees_change(change):
                    concerned.setdefault(audience, []).append(index)
        for audience, which in concerned.items():
            packet = record.packet(tuple(which))
            for listener in audience.listeners:
                listener.offer(packet)

    def _matching_audiences(self, key: str) -> tuple[Audience, ...]:
        found = self._matching.get(key)
        if found is None:
            candidates = dict.fromkeys(self._by_pattern.candidates(key))
            found = tuple(audience for audience in candidates if audience.matches(key))
            self._remember(key, found)
        return found

    def _remember(self, key: str, found: tuple[Audience, ...]) -> None:
        if len(self._matching) >= _REMEMBERED:
            self._matching.clear()
        self._matching[key] = found

    def _forget_matching(self) -> None:
        self._matching.clear()
        self._generation += 1

    def _discard(self, audience: Audience) -> None:
        self._forget_matching()
        del self._audiences[audience.pattern, audience.kinds, audience.readable.patterns]
        for each in audience.index_patterns():
            self._by_pattern.remove(each, audience)


def _too_costly(pattern: str) -> ProtocolError:
    return ProtocolError(
        "quota_exceeded",
        f"too many subscriptions of this space have text between two *, as {pattern!r} has; unsubscribe "
        "from some, or use patterns that begin or end with their text, such as team:*",
        limit="subscriptions",
    )
