"""The index of a hub's listeners: it finds those who may see a change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

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


class AudienceIndex:
    """The audiences of a space, found by key.

    A change costs what the audiences cost that its key leads to, however many others there are.
    """

    def __init__(self) -> None:
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
        """
        name = (pattern, kinds, readable.patterns)
        audience = self._audiences.get(name)
        if audience is None:
            audience = self._audiences[name] = Audience(pattern, kinds, readable)
            for each in audience.index_patterns():
                self._by_pattern.add(each, audience)
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
        """Offer ``record`` to every listener that sees some of it.

        A transaction may not arrive in parts. So all of its changes are looked up first, and each
        audience then gets one packet of those that it sees.
        """
        concerned: dict[Audience, list[int]] = {}
        for index, change in enumerate(record.changes):
            for audience in dict.fromkeys(self._by_pattern.candidates(change.key)):
                if audience.sees_change(change):
                    concerned.setdefault(audience, []).append(index)
        for audience, which in concerned.items():
            packet = record.packet(tuple(which))
            for listener in audience.listeners:
                listener.offer(packet)

    def _discard(self, audience: Audience) -> None:
        del self._audiences[audience.pattern, audience.kinds, audience.readable.patterns]
        for each in audience.index_patterns():
            self._by_pattern.remove(each, audience)
