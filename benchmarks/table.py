"""Rows of results: medians, spreads and ratios, as a table and as JSON."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_NAME = 40


@dataclass(frozen=True)
class Sample:
    """What one server did in one measurement.

    Attributes:
        rate: Requests (deliveries, calls) per second.
        p99: Milliseconds that 99 of 100 took at the most.
        p50: Milliseconds that half of them took at the most.
        cpu: Microseconds of processor time that all processes of the server spent on each request;
            unlike the rate, it says the same on a machine that others use too.
        memory: Bytes; a row says by its name or note of what.
        failed: Answers that were no success, and connections that broke.
        client: The share of one processor that the client took: near 1, it is what was measured.
    """

    rate: float
    p99: float | None = None
    cpu: float | None = None
    memory: float | None = None
    failed: int = 0
    client: float | None = None
    p50: float | None = None


@dataclass
class Row:
    """What memX did beside its floor, round by round.

    Attributes:
        group: The group's title.
        name: What was done.
        floor_name: What memX stands beside; empty where it stands alone.
        aim: The ratio that it should reach, if one was set.
        note: What a reader must know besides: why there are no figures, how something was told.
    """

    group: str
    name: str
    floor_name: str = ""
    aim: float | None = None
    note: str = ""
    _rounds: list[tuple[Sample, Sample | None]] = field(default_factory=list)

    def add(self, memx: Sample, floor: Sample | None = None) -> None:
        """Note one round."""
        self._rounds.append((memx, floor))

    @property
    def ratios(self) -> list[float]:
        """memX's rate by the floor's, round by round; empty without a floor."""
        return [memx.rate / floor.rate for memx, floor in self._rounds if floor and floor.rate]

    @property
    def failed(self) -> int:
        """Requests that failed, in all rounds and on both sides."""
        return sum(each.failed for pair in self._rounds for each in pair if each)

    def as_dict(self) -> dict[str, Any]:
        """The row's figures: medians over the rounds, in the units of ``Sample``; None: not known."""
        ours = _medians(memx for memx, _ in self._rounds)
        floors = _medians(floor for _, floor in self._rounds if floor)
        ratios = self.ratios
        return {
            "group": self.group,
            "name": self.name,
            "floor_name": self.floor_name,
            "aim": self.aim,
            "note": self.note,
            "rounds": len(self._rounds),
            **ours,
            **{f"floor_{name}": value for name, value in floors.items()},
            "ratio": _median(ratios),
            "ratio_min": min(ratios, default=None),
            "ratio_max": max(ratios, default=None),
            "p99_ratio": _quotient(ours["p99"], floors["p99"]),
            "failed": self.failed,
        }


def render(rows: list[Row]) -> str:
    """Write the rows as tables, one for each group."""
    groups = itertools.groupby(rows, key=lambda row: row.group)
    return "\n\n".join(_table(title, [row.as_dict() for row in group]) for title, group in groups)


def _table(title: str, found: list[dict[str, Any]]) -> str:
    """Only the columns that say something; rows that stand beside the same thing follow its name."""
    used = [column for column in _COLUMNS if any(column.cell(row) for row in found)]
    lines = [title, " " * _NAME + "".join(f"{column.title:>{column.width}}" for column in used)]
    for floor_name, rows in itertools.groupby(found, key=lambda row: str(row["floor_name"])):
        lines.append(f" beside {floor_name}:" if floor_name else " absolute medians:")
        lines += [_line(row, used) for row in rows]
    return "\n".join(lines)


def _line(row: dict[str, Any], used: list[_Column]) -> str:
    cells = "".join(f"{column.cell(row):>{column.width}}" for column in used)
    failed = f"  {row['failed']} FAILED" if row["failed"] else ""
    note = f"  ({row['note']})" if row["note"] else ""
    return f"  {row['name']:{_NAME - 2}}{cells}{failed}{note}"


@dataclass(frozen=True)
class _Column:
    title: str
    width: int
    name: str
    form: str
    scale: float = 1.0

    def cell(self, row: dict[str, Any]) -> str:
        value = row[self.name]
        return "" if value is None else f"{value / self.scale:{self.form}}"


class _Spread(_Column):
    def cell(self, row: dict[str, Any]) -> str:
        low, high = row["ratio_min"], row["ratio_max"]
        return "" if low is None else f"({low:.2f}-{high:.2f})"


_COLUMNS = (
    _Column("memX/s", 11, "rate", ",.0f"),
    _Column("floor/s", 11, "floor_rate", ",.0f"),
    _Column("ratio", 7, "ratio", ".2f"),
    _Spread("(spread)", 15, "ratio", ""),
    _Column("aim", 6, "aim", ".2f"),
    _Column("p50 ms", 8, "p50", ".1f"),
    _Column("floor", 7, "floor_p50", ".1f"),
    _Column("p99 ms", 8, "p99", ".1f"),
    _Column("floor", 7, "floor_p99", ".1f"),
    _Column("ratio", 7, "p99_ratio", ".2f"),
    _Column("cpu µs", 9, "cpu", ",.1f"),
    _Column("floor", 9, "floor_cpu", ",.1f"),
    _Column("kB", 9, "memory", ",.1f", 1024),
    _Column("floor", 9, "floor_memory", ",.1f", 1024),
    _Column("client", 8, "client", ".0%"),
    _Column("floor", 7, "floor_client", ".0%"),
)


def _medians(samples: Iterable[Sample]) -> dict[str, float | None]:
    known = list(samples)
    names = ("rate", "p50", "p99", "cpu", "memory", "client")
    return {name: _median(getattr(each, name) for each in known) for name in names}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _quotient(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
