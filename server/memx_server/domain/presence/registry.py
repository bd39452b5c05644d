"""The registry of presence: the callers of each space that listen, or were active lately.

Each server process keeps its own callers in memory and announces them in the store's unlogged state,
one record for each space. The announcement expires by itself when the process dies.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import msgspec

from memx_server.domain.access import Caller
from memx_server.storage.base import StateStore, StoreUnavailable


@dataclass(frozen=True, slots=True)
class PresenceSettings:
    """How presence behaves.

    Attributes:
        idle_seconds: How long a caller without a subscription stays present after its last request.
        announce_seconds: The longest time after which a server repeats its announcement.
        expire_seconds: How long an announcement stands.
        repeats_per_second: The most announcements that a server repeats. With more spaces it repeats
            each less often, and the announcements stand longer in proportion.
        settle_seconds: How long a server waits for more newcomers before it announces one.
        poll_seconds: How often a server that has presence subscribers reads the announcements.
        members: The most callers of one space that a server announces; a newcomer takes the place of
            the longest idle.
        turnover_seconds: How often callers of a full space make place.
        patterns: The most patterns of one caller that it announces.
        pattern_bytes: The most bytes of patterns that it announces for one space.
    """

    idle_seconds: float = 60.0
    announce_seconds: float = 10.0
    expire_seconds: float = 30.0
    repeats_per_second: int = 200
    settle_seconds: float = 0.2
    poll_seconds: float = 2.0
    members: int = 1000
    turnover_seconds: float = 1.0
    patterns: int = 20
    pattern_bytes: int = 128 * 1024


class PresenceEntry(msgspec.Struct, frozen=True):
    """One caller that is present.

    Attributes:
        writer: ``principal/agent``, the name under which it writes.
        since: Unix seconds.
        last_seen: Unix seconds.
        watching: The patterns that it listens to.
    """

    writer: str
    principal: str
    agent: str | None
    since: float
    last_seen: float
    watching: tuple[str, ...] = ()


@dataclass(slots=True)
class _Member:
    caller: Caller
    since: float
    last_seen: float
    watching: Counter[str] = field(default_factory=Counter)


class _Members(dict[tuple[str, str | None], _Member]):
    """The callers of one space by principal and agent; none makes place before ``full_until``."""

    full_until = 0.0


_decode = msgspec.json.Decoder(tuple[PresenceEntry, ...]).decode


class Presence:
    """The callers of each space, on all servers.

    Args:
        state: Where the servers announce them.
        settings: How presence behaves.
        clock: Unix seconds.

    Attributes:
        changed: Called with a space whenever one of this server's callers comes or goes there.
    """

    def __init__(
        self,
        state: StateStore,
        settings: PresenceSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or PresenceSettings()
        self._state = state
        self._clock = clock
        self._server = secrets.token_hex(8)
        self._spaces: dict[str, _Members] = {}
        self._unannounced: set[str] = set()
        self._due: dict[str, float] = {}
        # A heap of (time, space) at which to repeat an announcement. A space that was announced for
        # another reason gets a new time in _due; its older ones stay in the heap and are skipped.
        self._schedule: list[tuple[float, str]] = []
        self._news = asyncio.Event()
        self._announcing: asyncio.Task[None] | None = None
        self.changed: Callable[[str], None] = lambda space: None

    def seen(self, caller: Caller) -> None:
        """Note that ``caller`` has just done something."""
        members = self._spaces.get(caller.space)
        member = members and members.get((caller.principal.name, caller.agent))
        if member:
            member.last_seen = self._clock()
        else:
            self._join(caller)

    @contextmanager
    def watching(self, caller: Caller, pattern: str) -> Iterator[None]:
        """Count ``caller`` as a listener to ``pattern`` for the length of the context."""
        member = self._join(caller)
        member.watching[pattern] += 1
        self._announce_soon(caller.space)
        try:
            yield
        finally:
            member.watching[pattern] -= 1
            if not member.watching[pattern]:
                del member.watching[pattern]
            member.last_seen = self._clock()
            self._announce_soon(caller.space)

    async def present(self, space: str) -> list[PresenceEntry]:
        """List who is present in ``space`` on any server, by name.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        announced = await self._state.list(_group(space))
        announced.pop(self._server, None)  # what it holds in memory is newer
        found: dict[str, PresenceEntry] = {each.writer: each for each in self._own(space)}
        for text in announced.values():
            for each in _decode(text):
                known = found.get(each.writer)
                # An agent may be at work on several servers, and through several connections.
                found[each.writer] = each if known is None else _merged(known, each)
        return sorted(found.values(), key=lambda each: each.writer)

    async def close(self) -> None:
        """Take back this server's announcements."""
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.gather(self._announcing, return_exceptions=True)
        await asyncio.gather(*[self._take_back(space) for space in self._spaces])
        self._spaces.clear()

    def _join(self, caller: Caller) -> _Member:
        """Return the member for ``caller``; one that is not listed where the space is full."""
        members = self._spaces.setdefault(caller.space, _Members())
        name = (caller.principal.name, caller.agent)
        member = members.get(name)
        if member is None:
            now = self._clock()
            member = _Member(caller, now, now)
            if len(members) < self.settings.members or self._make_place(members):
                members[name] = member
                self._announce_soon(caller.space)
        return member

    def _make_place(self, members: _Members) -> bool:
        """Forget the longest idle tenth, at most every ``turnover_seconds``; tell whether any went.

        To find the longest idle looks at all of them, which is too much to do for each newcomer.
        """
        now = self._clock()
        if now < members.full_until:
            return False
        members.full_until = now + self.settings.turnover_seconds
        idle = (name for name, member in members.items() if not member.watching)
        count = 1 + len(members) // 10
        longest = heapq.nsmallest(count, idle, key=lambda name: members[name].last_seen)
        for name in longest:
            del members[name]
        return bool(longest)

    def _own(self, space: str) -> Iterable[PresenceEntry]:
        members = self._spaces.get(space, _Members())
        latest = self._clock() - self.settings.idle_seconds
        left = self.settings.pattern_bytes
        for name, member in list(members.items()):
            if not member.watching and member.last_seen < latest:
                del members[name]
                continue
            caller = member.caller
            watching: list[str] = []
            for pattern in sorted(member.watching)[: self.settings.patterns]:
                left -= len(pattern)
                if left >= 0:
                    watching.append(pattern)
            yield PresenceEntry(
                writer=caller.writer,
                principal=caller.principal.name,
                agent=caller.agent,
                since=round(member.since, 3),
                last_seen=round(self._clock() if member.watching else member.last_seen, 3),
                watching=tuple(watching),
            )

    def _announce_soon(self, space: str) -> None:
        self._unannounced.add(space)
        self._news.set()
        self.changed(space)
        if self._announcing is None or self._announcing.done():
            self._announcing = asyncio.create_task(self._announce())

    async def _announce(self) -> None:
        """Announce the spaces: changed ones soon, the others from time to time; until there is none."""
        settle = self.settings.settle_seconds
        while self._spaces:
            # Cleared before the work: news that comes during it is announced in the next round.
            self._news.clear()
            for space in self._take_due():
                with suppress(StoreUnavailable):
                    await self._announce_space(space)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(settle, self._schedule[0][0] - self._clock())):
                    await self._news.wait()
                    await asyncio.sleep(settle)

    def _take_due(self) -> set[str]:
        """Take the spaces that have changed and those whose announcement is to be repeated."""
        spaces, self._unannounced = self._unannounced, set()
        now = self._clock()
        while self._schedule and self._schedule[0][0] <= now:
            due, space = heapq.heappop(self._schedule)
            if self._due.get(space) == due:
                spaces.add(space)
        return spaces

    async def _announce_space(self, space: str) -> None:
        settings = self.settings
        pause = max(settings.announce_seconds, 2 * len(self._spaces) / settings.repeats_per_second)
        # With jitter: spaces that were announced together would otherwise be repeated together.
        due = self._clock() + pause * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._due[space] = due
        heapq.heappush(self._schedule, (due, space))
        own = list(self._own(space))
        if own:
            # It stands for several announcements, so that one that is lost or late takes nobody away.
            kept = int(1000 * pause * settings.expire_seconds / settings.announce_seconds)
            text = msgspec.json.encode(own)
            await self._state.put(_group(space), self._server, text, kept)
        else:
            await self._state.remove(_group(space), self._server)
            # Somebody may have come during the removal: then the space stays, and is announced again.
            if not self._spaces.get(space):
                self._spaces.pop(space, None)
                self._due.pop(space, None)

    async def _take_back(self, space: str) -> None:
        with suppress(StoreUnavailable):
            await self._state.remove(_group(space), self._server)


def _group(space: str) -> str:
    return f"presence\0{space}"


def _merged(one: PresenceEntry, other: PresenceEntry) -> PresenceEntry:
    return PresenceEntry(
        writer=one.writer,
        principal=one.principal,
        agent=one.agent,
        since=min(one.since, other.since),
        last_seen=max(one.last_seen, other.last_seen),
        watching=tuple(sorted({*one.watching, *other.watching})),
    )
