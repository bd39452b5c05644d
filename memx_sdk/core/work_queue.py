"""A queue of changes from which several workers take, each key in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from memx_sdk.models import Change

_COMPACT_FROM: Final = 256
"""Items, done ones included, from which it is worth to look for those that can be dropped."""


@dataclass(slots=True, eq=False)
class WorkItem:
    """A change to be handled.

    Attributes:
        change: What to handle; None for a step that only moves the position.
        cursor: Where to resume once this and all before it are done.
        done: It has been dealt with, or replaced by a newer one of its key.
    """

    change: Change | None
    cursor: str | None
    done: bool = False


@dataclass(slots=True, eq=False)
class _KeyWork:
    """The items of one key that are not done: at most one is being worked on."""

    waiting: deque[WorkItem] = field(default_factory=deque)
    busy: bool = False


class WorkQueue:
    """The changes that wait or are being worked on. Not safe for threads by itself.

    Workers take different keys at the same time, and the changes of one key one after the other.
    So they finish out of order, while the position may only move over what is done without a gap.

    Args:
        conflate: Of each key only the newest change waits.

    Attributes:
        cursor: Where to resume so that every item not yet done comes again; None before the first.
    """

    def __init__(self, *, conflate: bool = False) -> None:
        self.cursor: str | None = None
        self._conflate = conflate
        # All items from the oldest that is not done, in the order of the feed.
        self._arrived: deque[WorkItem] = deque()
        self._open = 0  # how many of them are not done
        self._by_key: dict[str, _KeyWork] = {}
        # Keys with a waiting item that nobody works on: what `take` hands out.
        self._ready: deque[str] = deque()

    def __len__(self) -> int:
        """How many items are not done; unless conflated also those that wait for an older one."""
        return self._open if self._conflate else len(self._arrived)

    def add(self, change: Change | None, cursor: str | None) -> None:
        """Add the next step of a feed."""
        item = WorkItem(change, cursor)
        self._arrived.append(item)
        self._open += 1
        # A bare position is done as it arrives, but the cursor reaches it only after all that is
        # before it.
        if change is None:
            self._done(item)
            return
        work = self._by_key.setdefault(change.key, _KeyWork())
        # Only a change that waits is replaced. One that is being worked on is taken out of
        # ``waiting`` already, and its successor waits behind it.
        if self._conflate and work.waiting and _same_kind(work.waiting[-1], change):
            # The newer change takes the place of the older one, so that a key that changes all the
            # time still gets its turn; among the arrivals it stands where it arrived, since the
            # position may not pass what came between the two.
            replaced, work.waiting[-1] = work.waiting[-1], item
            self._done(replaced)
            return
        work.waiting.append(item)
        # Exactly once: a key that is in ``_ready`` already, or that `finish` will put there, must
        # not be in it twice, or two workers would take its changes at the same time.
        if not work.busy and len(work.waiting) == 1:
            self._ready.append(change.key)

    def take(self) -> WorkItem | None:
        """Take the oldest item whose key nobody works on; None where there is none."""
        if not self._ready:
            return None
        work = self._by_key[self._ready.popleft()]
        # The key is out of ``_ready`` until `finish`: that is what keeps its changes in order.
        work.busy = True
        return work.waiting.popleft()

    def finish(self, item: WorkItem) -> None:
        """Mark an item as done: the next of its key becomes ready, and the cursor may move."""
        if item.change is not None:
            key = item.change.key
            work = self._by_key[key]
            work.busy = False
            # Behind the other keys, so that one that changes all the time does not hold them up.
            if work.waiting:
                self._ready.append(key)
            else:
                # Nothing of it waits: without this the table would keep every key that was ever
                # seen.
                del self._by_key[key]
        self._done(item)

    def _done(self, item: WorkItem) -> None:
        item.done = True
        self._open -= 1
        # An item that was done early waits here for the older ones: a crash now must bring those
        # again, so the cursor stays before them.
        while self._arrived and self._arrived[0].done:
            self.cursor = self._arrived.popleft().cursor
        # Replaced items pile up behind one that takes long, without a bound by `len`. The threshold
        # grows with what is open, so that the cost of looking is spread over as many additions.
        if self._conflate and len(self._arrived) > _COMPACT_FROM + 2 * self._open:
            self._compact()

    def _compact(self) -> None:
        """Drop what is done behind an item that takes long, but for the newest position."""
        # The newest position is kept even if it is done: the cursor ends up there when the rest is.
        # Without the older ones it only moves in larger steps.
        last = self._arrived[-1]
        self._arrived = deque(item for item in self._arrived if not item.done or item is last)


def _same_kind(item: WorkItem, change: Change) -> bool:
    # A schema and a value of the same name do not replace each other.
    return item.change is not None and item.change.event == change.event
