"""The ratios of a run as a chart."""

from __future__ import annotations

from benchmarks.table import Row


def svg(rows: list[Row]) -> str:
    """Draw the ratios."""
    raise NotImplementedError
