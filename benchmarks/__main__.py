"""Measure memX beside its floors and peers, each ratio within one run."""

from __future__ import annotations

import argparse
import importlib
import resource
import sys
import traceback
from pathlib import Path

from benchmarks import plot, report
from benchmarks.plan import Plan
from benchmarks.table import Row, render

GROUPS = {
    "http": "http_rows",
    "socket": "socket_rows",
    "sizes": "size_rows",
    "stores": "store_rows",
    "workers": "worker_rows",
    "sdk": "sdk_rows",
    "tools": "tool_rows",
    "growth": "growth",
    "fanout": "fanout",
    "peers": "peer_rows",
}
"""Modules by group: each has ``TITLE`` and ``measure(plan) -> list[Row]``, and starts its own servers."""

_QUICK = ("http", "socket", "fanout")


def main() -> int:
    """Measure, print, and write what was asked for.

    Returns:
        The exit code: 1 where a group broke or a request failed.
    """
    options = _parser().parse_args()
    plan = Plan(
        rounds=options.rounds or (2 if options.quick else 5),
        seconds=options.seconds or (1.0 if options.quick else 2.0),
        quick=options.quick,
    )
    _allow_many_sockets()
    rows: list[Row] = []
    broken = []
    for group in options.only or (_QUICK if options.quick else GROUPS):
        try:
            found = measure(group, plan)
        except Exception:  # noqa: BLE001 - the other groups are worth having, after many minutes
            traceback.print_exc()
            broken.append(group)
        else:
            print(render(found), end="\n\n", flush=True)
            rows += found
    if options.json:
        report.write(options.json, plan, rows)
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        options.plot.write_text(plot.svg(rows), encoding="utf-8")
    if broken:
        print(f"no figures, because the measurement broke: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken or any(row.failed for row in rows) else 0


def measure(group: str, plan: Plan) -> list[Row]:
    """Measure one group of rows."""
    module = importlib.import_module(f"benchmarks.{GROUPS[group]}")
    print(f"measuring: {module.TITLE}", file=sys.stderr, flush=True)
    rows: list[Row] = module.measure(plan)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help=f"only {', '.join(_QUICK)}, and few rounds")
    add("--only", type=_groups, metavar="GROUP,...", help=f"of {', '.join(GROUPS)}")
    add("--rounds", type=int, metavar="N", help="how often each row is measured")
    add("--seconds", type=float, metavar="S", help="how long each measurement takes")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    add("--plot", type=Path, metavar="FILE", help="draw the ratios there, as SVG")
    return parser


def _groups(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in GROUPS]:
        raise argparse.ArgumentTypeError(f"no such group: {', '.join(unknown)}")
    return names


def _allow_many_sockets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
