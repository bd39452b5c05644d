"""The ratios of a run as a chart: SVG that suits a light and a dark page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from html import escape
from typing import Any

from benchmarks.table import Row

_WIDTH = 920
_LEFT, _RIGHT = 330, 770
"""Where the scale begins and ends; names stand before it, figures behind it."""
_LINE = 22
_TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STYLE = """
svg {
  --page: #ffffff; --ink: #1f2328; --soft: #59636e; --grid: #d8dee4;
  --good: #1a7f37; --short: #bc4c00; --plain: #0969da;
}
@media (prefers-color-scheme: dark) {
  svg {
    --page: #0d1117; --ink: #e6edf3; --soft: #9198a1; --grid: #30363d;
    --good: #3fb950; --short: #f0883e; --plain: #58a6ff;
  }
}
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--ink) }
text { paint-order: stroke; stroke: var(--page); stroke-width: 4px }
.soft { fill: var(--soft); font-size: 12px } .title { font-weight: 600 }
.grid { stroke: var(--grid) } .one { stroke: var(--soft) } .aim { stroke: var(--ink); stroke-width: 2 }
.good { fill: var(--good); stroke: var(--good) } .short { fill: var(--short); stroke: var(--short) }
.plain { fill: var(--plain); stroke: var(--plain) }
.spread { stroke-width: 2; opacity: 0.45 }
"""


def svg(rows: list[Row]) -> str:
    """Draw each row that has a ratio: a dot for the median, a bar for the spread, a mark for the aim."""
    found = [row.as_dict() for row in rows if row.ratios]
    lines = list(_lines(found))
    height = _LINE * (len(lines) + 3)
    body = "\n".join(
        f'<g transform="translate(0 {_LINE * place})">{line}</g>'
        for place, line in enumerate(lines, 2)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">\n'
        "<title>memX's rate by that of what it stands beside</title>\n"
        f"<style>{_STYLE}</style>\n"
        f'<rect width="{_WIDTH}" height="{height}" fill="var(--page)"/>\n'
        f"{_scale(height)}\n{body}\n</svg>\n"
    )


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """One line of the chart each, around a baseline at 0."""
    for title, group in itertools.groupby(found, key=lambda row: str(row["group"])):
        yield ""
        yield f'<text x="16" class="title">{escape(title)}</text>'
        for floor_name, rows in itertools.groupby(group, key=lambda row: str(row["floor_name"])):
            yield f'<text x="24" class="soft">beside {escape(floor_name)}</text>'
            yield from map(_row, rows)


def _row(row: dict[str, Any]) -> str:
    ratio, aim = row["ratio"], row["aim"]
    kind = "plain" if aim is None else "good" if ratio >= aim else "short"
    low, high, middle = (f"{_x(row[name]):.1f}" for name in ("ratio_min", "ratio_max", "ratio"))
    figures = f"{ratio:.2f}" + (f'<tspan class="soft"> aim {aim:.2f}</tspan>' if aim else "")
    mark = f'<path d="M{_x(aim):.1f} -10v12" class="aim"/>' if aim else ""
    return (
        f'<text x="40">{escape(row["name"])}</text>'
        f'<path d="M{low} -4H{high}" class="spread {kind}"/>{mark}'
        f'<circle cx="{middle}" cy="-4" r="4.5" class="{kind}"/>'
        f'<text x="{_RIGHT + 20}">{figures}</text>'
    )


def _scale(height: int) -> str:
    parts = []
    for tick in _TICKS:
        kind = "one" if tick == 1 else "grid"
        parts.append(
            f'<path d="M{_x(tick):.1f} {_LINE * 2}V{height - _LINE}" class="{kind}"/>'
            f'<text x="{_x(tick):.1f}" y="{_LINE}" class="soft" text-anchor="middle">{tick:g}</text>'
        )
    return "\n".join(parts)


def _x(ratio: float) -> float:
    """Logarithmic, and kept on the chart: a tenth is as far from 1 as ten times."""
    low, high = _TICKS[0], _TICKS[-1]
    share = math.log(min(max(ratio, low), high) / low) / math.log(high / low)
    return _LEFT + share * (_RIGHT - _LEFT)
