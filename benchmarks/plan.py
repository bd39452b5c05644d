"""How long and how often things are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.table import Row, Sample

Measurement = Callable[[float], Sample]
"""Puts a running server under load for so many seconds."""

_WARM_UP = 0.5


@dataclass(frozen=True)
class Plan:
    """What every group of rows keeps to.

    Attributes:
        rounds: How often a row and its floor are measured, in turns.
        seconds: How long each measurement takes.
        quick: Leave out what takes long, or is seldom asked for.
    """

    rounds: int
    seconds: float
    quick: bool = False

    def alternate(self, row: Row, memx: Measurement, floor: Measurement | None = None) -> Row:
        """Warm both up, then measure them in turns, so that what drifts hits both alike.

        Args:
            row: Takes the samples.
            memx: Measures memX.
            floor: Measures what memX stands beside; None where there is nothing.

        Returns:
            The row.
        """
        for measurement in filter(None, (memx, floor)):
            measurement(min(_WARM_UP, self.seconds))
        for _ in range(self.rounds):
            row.add(memx(self.seconds), floor(self.seconds) if floor else None)
        return row
