"""Which of many changes may be worked on now: several keys at once, each key in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from memx_sdk.models import Change


@dataclass(slots=True, eq=False)
class Job:
    """A change to be handled.

    Attributes:
        change: What to handle; None for a step that only moves the position.
        cursor: Where to resume once this and all before it are done.
        done: It has been dealt with.
    """

    change: Change | None
    cursor: str | None
    done: bool = False


class Board:
    """Holds the jobs that are waiting or being worked on. Not safe for threads by itself.

    Attributes:
        cursor: Where to resume so that every job not yet done comes again; None before the first.
    """

    def __init__(self) -> None:
        self.cursor: str | None = None
        self._arrived: deque[Job] = deque()
        self._ready: deque[Job] = deque()
        self._behind: dict[str, deque[Job]] = {}

    def __len__(self) -> int:
        """How many jobs are not done, or wait for an older one to be done."""
        return len(self._arrived)

    def add(self, change: Change | None, cursor: str | None) -> None:
        """Put up the next step of a feed."""
        job = Job(change, cursor)
        self._arrived.append(job)
        if change is None:
            self.finish(job)
        elif change.key in self._behind:
            self._behind[change.key].append(job)
        else:
            self._behind[change.key] = deque()
            self._ready.append(job)

    def take(self) -> Job | None:
        """Take the oldest job whose key nobody works on; None where there is none."""
        return self._ready.popleft() if self._ready else None

    def finish(self, job: Job) -> None:
        """Say that a job is dealt with: the next of its key may be taken, the cursor may move."""
        job.done = True
        if job.change is not None:
            self._release(job.change.key)
        while self._arrived and self._arrived[0].done:
            self.cursor = self._arrived.popleft().cursor

    def _release(self, key: str) -> None:
        waiting = self._behind[key]
        if waiting:
            self._ready.append(waiting.popleft())
        else:
            del self._behind[key]
