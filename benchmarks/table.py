"""Rows of results: medians, spreads and ratios, as a table and as JSON."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import Load


@dataclass
class Row:
    """What a call did beside its floor, round by round.

    Attributes:
        name: What was called.
        aim: The ratio that it should reach.
    """

    name: str
    aim: float
    _rounds: list[tuple[Load, Load]] = field(default_factory=list)

    def add(self, memx: Load, floor: Load) -> None:
        """Note one round."""
        self._rounds.append((memx, floor))

    @property
    def ratios(self) -> list[float]:
        """memX's rate by the floor's, round by round."""
        return [memx.rate / floor.rate for memx, floor in self._rounds]

    def as_dict(self) -> dict[str, Any]:
        """The row's figures: medians over the rounds; rates per second, p99 in ms, cpu in µs."""
        memx = [each for each, _ in self._rounds]
        floor = [each for _, each in self._rounds]
        return {
            "name": self.name,
            "rate": statistics.median(each.rate for each in memx),
            "floor": statistics.median(each.rate for each in floor),
            "ratio": statistics.median(self.ratios),
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "p99": statistics.median(each.p99 for each in memx),
            "floor_p99": statistics.median(each.p99 for each in floor),
            "cpu": statistics.median(each.cpu for each in memx),
            "floor_cpu": statistics.median(each.cpu for each in floor),
            "failed": sum(each.failed for each in memx + floor),
            "aim": self.aim,
        }


def render(rows: list[Row]) -> str:
    """Write the rows as a table."""
    head = f"{'':28}{'memX/s':>9}{'floor/s':>9}{'ratio':>7}{'(spread)':>14}"
    lines = [head + f"{'p99 ms':>9}{'floor':>7}{'cpu µs':>9}{'floor':>7}{'aim':>6}"]
    for row in rows:
        found = row.as_dict()
        spread = f"({found['ratio_min']:.2f}-{found['ratio_max']:.2f})"
        line = (
            f"{found['name']:28}{found['rate']:>9,.0f}{found['floor']:>9,.0f}"
            f"{found['ratio']:>7.2f}{spread:>14}{found['p99']:>9.1f}{found['floor_p99']:>7.1f}"
            f"{found['cpu']:>9.0f}{found['floor_cpu']:>7.0f}{found['aim']:>6.2f}"
        )
        lines.append(line + (f"  {found['failed']} FAILED" if found["failed"] else ""))
    return "\n".join(lines)
