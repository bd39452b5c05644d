"""Who is told of a change: subscribers by key and by pattern."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from memx_sdk.protocol.keys import compile_pattern, is_pattern
from memx_server.domain.access import KeySet
from memx_server.domain.feed.messages import Packet, Rendered
from memx_server.domain.pattern_index import PatternIndex
from memx_server.storage.base import Change


class Listener(Protocol):
    """One subscription, as the hub sees it. Nothing here may block, raise, or subscribe anew."""

    def offer(self, packet: Packet) -> None:
        """A transaction has changed something that the audience sees."""

    def mark(self, packet: Packet) -> None:
        """The log has moved on; whoever was told nothing of it may be told where it stands."""

    def reset(self, reason: str) -> None:
        """What is known of the space's past is void."""


class Audience:
    """Listeners with the same pattern, kinds of event and read scopes: all see the same.

    Args:
        pattern: A key or a pattern.
        kinds: Some of ``value`` and ``schema``.
        readable: The keys that they may read.
    """

    def __init__(self, pattern: str, kinds: frozenset[str], readable: KeySet) -> None:
        self.pattern = pattern
        self.kinds = kinds
        self.readable = readable
        self.listeners: dict[Listener, None] = {}
        self._matches = compile_pattern(pattern)

    def sees(self, kind: str, key: str) -> bool:
        """Tell whether it is shown an event of ``kind`` about ``key``."""
        return kind in self.kinds and bool(self._matches(key)) and self._may_read(key)

    def packet(self, record: Rendered) -> Packet | None:
        """What it sees of ``record``, whole, or None."""
        which = tuple(
            index for index, change in enumerate(record.changes) if self.sees_change(change)
        )
        return record.packet(which) if which else None

    def sees_change(self, change: Change) -> bool:
        """Tell whether it is shown ``change``."""
        return self.sees("schema" if change.action == "schema" else "value", change.key)

    def filed_under(self) -> Iterable[str]:
        """The patterns of which one matches whatever it sees: its own, or those of its scopes."""
        return set(self.readable.patterns) if self.pattern == "*" else (self.pattern,)

    def _may_read(self, key: str) -> bool:
        # The key of a schema may be a pattern, of which all matches must be readable.
        return self.readable.covers(key) if is_pattern(key) else key in self.readable


class AudienceIndex:
    """Audiences, found by key at a cost that does not grow with those who are not concerned."""

    def __init__(self) -> None:
        self._audiences: dict[tuple[str, frozenset[str], tuple[str, ...]], Audience] = {}
        self._filed: PatternIndex[Audience] = PatternIndex()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Listener]:
        for audience in self._audiences.values():
            yield from audience.listeners

    def add(
        self, pattern: str, kinds: frozenset[str], readable: KeySet, listener: Listener
    ) -> Audience:
        """Let ``listener`` hear of ``kinds`` of events about the readable keys of ``pattern``."""
        name = (pattern, kinds, readable.patterns)
        audience = self._audiences.get(name)
        if audience is None:
            audience = self._audiences[name] = Audience(pattern, kinds, readable)
            for each in audience.filed_under():
                self._filed.add(each, audience)
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

    def publish(self, record: Rendered) -> None:
        """Offer ``record`` to all who see some of it, to each as a whole."""
        concerned: dict[Audience, list[int]] = {}
        for index, change in enumerate(record.changes):
            for audience in dict.fromkeys(self._filed.candidates(change.key)):
                if audience.sees_change(change):
                    concerned.setdefault(audience, []).append(index)
        for audience, which in concerned.items():
            packet = record.packet(tuple(which))
            for listener in audience.listeners:
                listener.offer(packet)

    def _discard(self, audience: Audience) -> None:
        del self._audiences[audience.pattern, audience.kinds, audience.readable.patterns]
        for each in audience.filed_under():
            self._filed.remove(each, audience)
