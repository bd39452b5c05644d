"""The waiting line of the evaluation processes: bounded, and in turns by space."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")

_WAITING_OF_SPACE = 32
_WAITING = 512
_RECENT_SECONDS = 10.0


class FairQueue(Generic[T]):
    """Jobs of many spaces for a few processes.

    The space that was served longest ago goes first, and each space waits in a line of its own, so that
    many jobs of one space put off the others by one job at the most. A space never has all processes
    while another one has lately had a job: then the other's next job finds a free one, and need not wait
    until a long one is done.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[tuple[T, bool]]] = OrderedDict()
        self._count = 0
        self._running: Counter[str] = Counter()
        self._served: OrderedDict[str, float] = OrderedDict()

    def add(self, space: str, job: T, *, is_long: bool, now: float) -> bool:
        """Let a job wait.

        Args:
            space: Whose job it is.
            job: The job.
            is_long: Whether it may run for longer than others should wait; then it never takes the
                last free process.
            now: The time on a clock that only goes forward, in seconds.

        Returns:
            False where too many wait already, of this space or of all.
        """
        line = self._waiting.get(space)
        if self._count >= _WAITING or (line is not None and len(line) >= _WAITING_OF_SPACE):
            return False
        if line is None:
            line = self._waiting[space] = deque()
        line.append((job, is_long))
        self._count += 1
        self._note(space, now)
        return True

    def discard(self, space: str, job: T) -> None:
        """Forget a job whose caller has left; harmless where it does not wait."""
        line = self._waiting.get(space, deque())
        for entry in line:
            if entry[0] is job:
                line.remove(entry)
                self._count -= 1
                break
        if not line:
            self._waiting.pop(space, None)

    def next(self, free: int, now: float) -> tuple[str, T] | None:
        """Take the next job that may run, and count it as running; None where none may.

        Args:
            free: How many processes are free, at least one.
            now: The time, as in ``add``.
        """
        for space, line in self._waiting.items():
            job, is_long = line[0]
            if free > 1 or self._may_take_last(space, is_long=is_long, now=now):
                break
        else:
            return None
        line.popleft()
        self._count -= 1
        if line:
            self._waiting.move_to_end(space)  # the others have their turn first
        else:
            del self._waiting[space]
        self._running[space] += 1
        return space, job

    def done(self, space: str) -> None:
        """Note that a job of ``space`` runs no more."""
        self._running[space] -= 1
        if not self._running[space]:
            del self._running[space]

    def _may_take_last(self, space: str, *, is_long: bool, now: float) -> bool:
        if not self._running:
            return True  # nothing else runs
        if is_long:
            return False
        if not self._running[space]:
            return True  # the others are running theirs: this one is who the process is kept for
        return not any(
            other != space and now - at < _RECENT_SECONDS for other, at in self._served.items()
        )

    def _note(self, space: str, now: float) -> None:
        self._served[space] = now
        self._served.move_to_end(space)
        while self._served and now - next(iter(self._served.values())) >= _RECENT_SECONDS:
            self._served.popitem(last=False)
