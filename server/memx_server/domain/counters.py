"""Counters of this process since its start; the figures name nobody."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the times that are counted together, in seconds."""


@dataclass(slots=True)
class LatencyHistogram:
    """How long requests of one operation took.

    Attributes:
        counts: For each of ``BOUNDS``, the requests that took no longer, but longer than the bound
            before; behind them those that took longer than all.
        seconds: The time of all of them together.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0


class RequestCounters:
    """Requests by operation. Counting one takes less than a microsecond.

    Attributes:
        by_outcome: How many, by operation and ``ok`` or the error's code.
        times: How long they took, by operation.
    """

    def __init__(self) -> None:
        self.by_outcome: dict[tuple[str, str], int] = {}
        self.times: dict[str, LatencyHistogram] = {}

    def count(self, operation: str, outcome: str, seconds: float, number: int = 1) -> None:
        """Count a request that was answered, or a number of them that took the same time."""
        place = (operation, outcome)
        self.by_outcome[place] = self.by_outcome.get(place, 0) + number
        times = self.times.get(operation)
        if times is None:
            times = self.times[operation] = LatencyHistogram()
        times.counts[bisect_left(BOUNDS, seconds)] += number
        times.seconds += seconds * number


@dataclass(slots=True)
class FeedCounters:
    """What happened in the feeds of all spaces.

    Attributes:
        fell_behind: Times that a subscriber was too slow for its queue and had to read the log.
        repairs: Times that a hub had to read the log: a notice of the store was lost, came out of
            order, or was too large to carry its changes.
        lost_histories: Times that the history which a hub followed turned out to be lost.
        fruitless_resets: Times that a hub or a subscriber started over and could not read the log
            from there either.
    """

    fell_behind: int = 0
    repairs: int = 0
    lost_histories: int = 0
    fruitless_resets: int = 0
