"""The turns in which the updates of one shared state are made, one after another in a process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from memx_sdk import AsyncMemxContext, Entry, MemxTimeout

_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.2


class Held(NamedTuple):
    """What a key holds; revision 0 where it holds nothing."""

    value: Any
    revision: int

    @classmethod
    def of(cls, entry: Mapping[str, Any] | Entry | None) -> Held:
        """Take value and revision of an entry."""
        return cls(None, 0) if entry is None else cls(entry["value"], entry["revision"])


class Attempt(NamedTuple):
    """What an update starts from.

    Attributes:
        entries: What the keys hold, of one moment.
        is_present: Whether that is what memX has just said. Otherwise it is what this process last wrote or read:
            right where nobody else has written since, which the write finds out.
    """

    entries: Mapping[str, Held]
    is_present: bool


class UpdateLane:
    """The updates of one prefix by one context, which take turns.

    Updates of one process that meet at memX would all but one be in vain: so they wait for each other here. The next
    one starts from what the one before it wrote, without asking, and its write compares all revisions: one that others
    came before is told so, with what the keys hold now. An update is one request, and one more for each writer outside
    that it meets.

    Args:
        prefix: What the keys start with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lock = asyncio.Lock()
        self.known: dict[str, Held] = {}

    @asynccontextmanager
    async def turn(self, context: AsyncMemxContext, timeout: float) -> AsyncIterator[UpdateTurn]:
        """Wait for the lane, and have it for one update.

        Raises:
            MemxTimeout: Others have it for ``timeout`` seconds.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        late = MemxTimeout("timeout", f"other writers of {self._prefix}:* came first")
        try:
            async with asyncio.timeout_at(deadline):
                await self._lock.acquire()
        except TimeoutError:
            raise late from None
        try:
            yield UpdateTurn(context, self.known, deadline, late)
        finally:
            self._lock.release()


class UpdateTurn:
    """One update, tried until nobody else writes between its read and its write.

    Args:
        context: Where the keys are.
        known: What the lane knows of them.
        deadline: When to give up, by the event loop's clock.
        late: Raised then.
    """

    def __init__(
        self,
        context: AsyncMemxContext,
        known: dict[str, Held],
        deadline: float,
        late: MemxTimeout,
    ) -> None:
        self._context = context
        self._known = known
        self._deadline = deadline
        self._late = late
        self._keys: Sequence[str] = ()
        self._has_conflicted = False

    async def attempts(self, keys: Sequence[str]) -> AsyncIterator[Attempt]:
        """Yield what to start from: first what is known, and then, as often as it takes, what there is.

        Raises:
            MemxTimeout: Other writers came first all the time.
        """
        self._keys = keys
        pause = _FIRST_PAUSE
        if all(key in self._known for key in keys):
            yield self._attempt(is_present=False)
        while True:
            if not self._has_conflicted:
                entries = await self._context.mget(keys)
                self._learn(keys, (Held.of(entries[key]) for key in keys))
            yield self._attempt(is_present=True)
            if asyncio.get_running_loop().time() + pause > self._deadline:
                raise self._late
            # Full jitter: writers that collided once do not meet again at the same moment. One of them always
            # wins a round, so the team as a whole never stands still.
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - jitter, no secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def write(self, values: Mapping[str, Any], reason: str | None) -> bool:
        """Write, if all keys are still as they were at the start; else learn what they hold now."""
        # Every key is compared, also one that is only read: what was computed of it would be wrong otherwise.
        answer = await self._context.txn(
            if_=[{"key": key, "revision": self._known[key].revision} for key in self._keys],
            then=[{"op": "set", "key": key, "value": value} for key, value in values.items()],
            else_=[{"op": "get", "key": key} for key in self._keys],
            reason=reason,
        )
        if answer.succeeded:
            self._learn(values, (Held(value, answer.revision) for value in values.values()))
        else:
            self._learn(self._keys, (Held.of(each.get("entry")) for each in answer.results))
            self._has_conflicted = True
        return answer.succeeded

    def _attempt(self, *, is_present: bool) -> Attempt:
        return Attempt({key: self._known[key] for key in self._keys}, is_present)

    def _learn(self, keys: Iterable[str], held: Iterable[Held]) -> None:
        self._known.update(zip(keys, held, strict=True))


_lanes: WeakKeyDictionary[AsyncMemxContext, dict[str, UpdateLane]] = WeakKeyDictionary()
"""By context, so that a lane is of one event loop and one API key, and goes with them: no lane holds its context."""


def lane_of(context: AsyncMemxContext, prefix: str) -> UpdateLane:
    """Find the lane in which this context's updates of a prefix take turns."""
    lanes = _lanes.setdefault(context, {})
    return lanes.setdefault(prefix, UpdateLane(prefix))
