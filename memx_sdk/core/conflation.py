"""The queue of a conflated feed: of each key only the newest change waits.

A reader that is behind wants the present state of each key, and soon. So a change replaces the one
of its key that waits, *in its place*: were it put at the end instead, a key that changes faster than
the reader takes would never be taken.

That place makes the order of this queue another one than that of the log, while the position that
goes with an item must be safe to resume at: everything that still waits must come after it. The
queue therefore remembers the position of every arrival, and gives out the last one that is before
the newest change of each key that still waits.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from memx_sdk.core.subscription import Received
from memx_sdk.models import Change

ConflationKey = tuple[str, str]
"""What one change replaces another of: the kind of event, and the key."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A place in the queue.

    Attributes:
        step: The newest that arrived for it.
        arrival: The number of that arrival.
        taken: It has left the queue.
    """

    step: Received
    arrival: int
    taken: bool = False


class ConflatedSteps:
    """Steps of a feed that wait to be handed on, at most one for each key."""

    def __init__(self) -> None:
        self._arrivals = 0
        # What `popleft` hands out, in the order of the first arrival of each; ``_by_key`` finds the
        # place of a key among them.
        self._places: deque[_Waiting] = deque()
        self._by_key: dict[ConflationKey, _Waiting] = {}
        # A heap: on top the smallest arrival, which may be of a place that has moved on since.
        self._oldest: list[tuple[int, _Waiting]] = []
        # Positions by arrival, from the first that is not yet safe.
        self._positions: deque[tuple[int, str | None]] = deque()
        self._safe: str | None = None

    def __len__(self) -> int:
        """How many steps wait; positions alone are none."""
        return len(self._places)

    def append(self, step: Received) -> None:
        """Add the next step of the feed."""
        self._arrivals += 1
        # Before anything else, and also for a step without an item: a position alone moves the safe
        # one on, too.
        self._positions.append((self._arrivals, step.cursor))
        if step.item is None:
            return
        key = _conflation_key(step)
        place = None if key is None else self._by_key.get(key)
        if place is None:
            place = _Waiting(step, self._arrivals)
            self._places.append(place)
            if key is None:
                # A `Reset` or the like: what comes after it must not slip in before it.
                self._by_key.clear()
            else:
                self._by_key[key] = place
        else:
            # The heap's tuple of the arrival before is not searched for. It no longer stands, and
            # `_advance` drops it when it comes to the top.
            place.step, place.arrival = step, self._arrivals
        heapq.heappush(self._oldest, (self._arrivals, place))

    def extend(self, steps: Iterable[Received]) -> None:
        """Add the next steps of the feed."""
        for step in steps:
            self.append(step)

    def popleft(self) -> Received:
        """Take the key that has waited longest, with its newest change and a safe position.

        Raises:
            IndexError: Nothing waits.
        """
        # Positions behind the last item are handed out alone, so that a subscription that shows
        # nothing still moves on.
        if not self._places:
            return self._position_alone()
        place = self._places.popleft()
        place.taken = True
        key = _conflation_key(place.step)
        # After a reset the key may have another place, which must stay known.
        if key is not None and self._by_key.get(key) is place:
            del self._by_key[key]
        self._advance()
        # Not the cursor that came with the item: changes of other keys that arrived before it may
        # still wait, and would be lost to whoever resumed there.
        return Received(place.step.item, self._safe)

    def clear(self) -> None:
        """Drop everything that waits."""
        self._places.clear()
        self._by_key.clear()
        self._oldest.clear()
        self._positions.clear()

    def passed(self, cursor: str | None) -> str | None:
        """Return where ``cursor`` has moved to by the positions that wait before the next change."""
        # A copy, since this is asked from outside while another thread may add steps.
        positions = tuple(self._positions)
        return cursor if self._places or not positions else positions[-1][1]

    def _position_alone(self) -> Received:
        if not self._positions:
            raise IndexError("nothing waits")
        self._advance()
        return Received(None, self._safe)

    def _advance(self) -> None:
        """Move the safe position to just before the oldest arrival that still waits."""
        # Lazily cleaned: each arrival is pushed once and popped once, so that the cost stays
        # logarithmic for each.
        while self._oldest and not _stands(*self._oldest[0]):
            heapq.heappop(self._oldest)
        # Everything before the oldest arrival that still waits was handed out or replaced by a
        # newer change of its key: there it is safe to resume. With nothing waiting all is.
        bound = self._oldest[0][0] if self._oldest else self._arrivals + 1
        while self._positions and self._positions[0][0] < bound:
            self._safe = self._positions.popleft()[1]


def _stands(arrival: int, place: _Waiting) -> bool:
    """Tell whether a place still waits with what arrived then."""
    return not place.taken and place.arrival == arrival


def _conflation_key(step: Received) -> ConflationKey | None:
    item = step.item
    # A schema and a value of one name are two things, and presence is of no key: it must not
    # replace anything.
    if isinstance(item, Change) and item.event in ("value", "schema"):
        return item.event, item.key
    return None
