"""A queue of changes from which several workers take, each key in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from memx_sdk.models import Change


@dataclass(slots=True, eq=False)
class WorkItem:
    """A change to be handled.

    Attributes:
        change: What to handle; None for a step that only moves the position.
        cursor: Where to resume once this and all before it are done.
        done: It has been dealt with.
    """

    change: Change | None
    cursor: str | None
    done: bool = False


class WorkQueue:
    """The changes that wait or are being worked on. Not safe for threads by itself.

    Workers take different keys at the same time, and the changes of one key one after the other.
    So they finish out of order, while the position may only move over what is done without a gap.

    Attributes:
        cursor: Where to resume so that every item not yet done comes again; None before the first.
    """

    def __init__(self) -> None:
        self.cursor: str | None = None
        # All items from the oldest that is not done, in the order of the feed.
        self._arrived: deque[WorkItem] = deque()
        # Items whose key nobody works on: what `take` hands out.
        self._ready: deque[WorkItem] = deque()
        # By key what waits behind the item that is ready or being worked on. A key without an
        # entry here has no such item, so its next change is ready at once.
        self._waiting: dict[str, deque[WorkItem]] = {}

    def __len__(self) -> int:
        """How many items are not done, or wait for an older one to be done."""
        return len(self._arrived)

    def add(self, change: Change | None, cursor: str | None) -> None:
        """Add the next step of a feed."""
        item = WorkItem(change, cursor)
        self._arrived.append(item)
        if change is None:
            self.finish(item)
        elif change.key in self._waiting:
            self._waiting[change.key].append(item)
        else:
            self._waiting[change.key] = deque()
            self._ready.append(item)

    def take(self) -> WorkItem | None:
        """Take the oldest item whose key nobody works on; None where there is none."""
        return self._ready.popleft() if self._ready else None

    def finish(self, item: WorkItem) -> None:
        """Mark an item as done: the next of its key becomes ready, and the cursor may move."""
        item.done = True
        if item.change is not None:
            self._release(item.change.key)
        # An item that was done early waits here for the older ones: a crash now must bring those
        # again, so the cursor stays before them.
        while self._arrived and self._arrived[0].done:
            self.cursor = self._arrived.popleft().cursor

    def _release(self, key: str) -> None:
        waiting = self._waiting[key]
        if waiting:
            self._ready.append(waiting.popleft())
        else:
            del self._waiting[key]
