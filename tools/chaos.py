"""Runs under faults, as many and as long as wished: ``python tools/chaos.py --topology redis7 --seed 1 --seconds 60``.

Each run ends with a line in the file of results, so that a long campaign can be stopped and taken up again;
``--summary`` prints the table of ``docs/reliability.md`` from such a file. The exit code is 1 where a promise broke.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.faults.run import Plan, Verdict, run
from tests.faults.topologies import topologies


def main() -> int:
    """Do what the command line says; return the exit code."""
    options = _options()
    if options.summary:
        _print_summary(options.results)
        return 0
    names = list(topologies()) if options.topology == "all" else [options.topology]
    until, seed, broken = time.monotonic() + options.minutes * 60, options.seed, 0
    done = {(each["topology"], each["seed"]) for each in _results(options.results)}
    while True:
        for name in names:
            if (name, seed) not in done:
                plan = Plan(
                    seed,
                    options.seconds,
                    options.clients,
                    options.subscribers,
                    options.fault,
                    pairs=seed % 2 == 0,
                    pause=options.pause,
                )
                broken += _one_run(name, plan, options.results)
        seed += 1
        if time.monotonic() > until:
            return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topology", default="all", choices=["all", *topologies()])
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first run; each next one adds one"
    )
    parser.add_argument("--seconds", type=float, default=30, help="of one run")
    parser.add_argument("--minutes", type=float, default=0, help="go on with further seeds so long")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--subscribers", type=int, default=12)
    parser.add_argument(
        "--pause", type=float, default=0.01, help="between two operations of a client"
    )
    parser.add_argument("--fault", action="append", default=[], help="only these")
    parser.add_argument("--results", type=Path, default=Path("chaos.jsonl"))
    parser.add_argument(
        "--summary", action="store_true", help="print the table of the results, and end"
    )
    return parser.parse_args()


def _one_run(name: str, plan: Plan, results: Path) -> int:
    verdict = asyncio.run(_run(name, plan))
    line = _line(verdict)
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    made = Counter(each["fault"] for each in verdict.faults)
    print(
        f"{name} seed {plan.seed}: {dict(verdict.operations)}, lost {verdict.lost}, stale {verdict.stale}, "
        f"silence {verdict.silence} s, faults {dict(made)}, violations {len(verdict.violations)}",
        flush=True,
    )
    for violation in verdict.violations[:20]:
        print(f"    {violation.promise}: {violation.detail}", flush=True)
    return len(verdict.violations)


async def _run(name: str, plan: Plan) -> Verdict:
    async with topologies()[name]() as topology:
        return await run(topology, plan)


def _line(verdict: Verdict) -> dict[str, Any]:
    return {
        "topology": verdict.topology,
        "seed": verdict.plan.seed,
        "pairs": verdict.plan.pairs,
        "operations": verdict.operations,
        "lost": verdict.lost,
        "stale": verdict.stale,
        "violations": [[each.promise, each.detail] for each in verdict.violations],
        "silence": verdict.silence,
        "faults": verdict.faults,
    }


def _results(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _print_summary(path: Path) -> None:
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in _results(path):
        runs[each["topology"]].append(each)
    columns: tuple[str, ...] = (
        "topology",
        "runs",
        "operations",
        "acknowledged",
        "unknown",
        "lost, all announced",
    )
    columns += ("stale reads at a failover", "violations", "faults", "longest silence")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for name, found in runs.items():
        outcomes: Counter[str] = Counter()
        for each in found:
            outcomes.update(each["operations"])
        print(
            f"| {name} | {len(found)} | {outcomes.total():,} | {outcomes['ok']:,} | {outcomes['unknown']:,} "
            f"| {sum(each['lost'] for each in found):,} | {sum(each.get('stale', 0) for each in found):,} "
            f"| {sum(len(each['violations']) for each in found)} "
            f"| {sum(len(each['faults']) for each in found)} | {max(each['silence'] for each in found):.1f} s |"
        )
    made: dict[str, Counter[str]] = defaultdict(Counter)
    for name, found in runs.items():
        for each in found:
            made[name].update(fault["fault"] for fault in each["faults"])
    print("\n| fault | " + " | ".join(made) + " |\n|---|" + "---|" * len(made))
    for fault in sorted({fault for counts in made.values() for fault in counts}):
        print(f"| {fault} | " + " | ".join(str(made[name][fault] or "") for name in made) + " |")


if __name__ == "__main__":
    sys.exit(main())
