"""Runs under faults, short and bounded: each topology, each of its faults, one after the other and in pairs.

``tools/chaos.py`` makes the same runs as long as wished; ``docs/reliability.md`` has what came of them.
"""

from __future__ import annotations

import pytest

from tests.faults.run import Plan, run
from tests.faults.topologies import topologies

SECONDS = 18.0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", topologies())
async def test_every_promise_holds_under_faults(name: str) -> None:
    plan = Plan(seed=7, seconds=SECONDS, clients=8, subscribers=8, pairs=name == "redis7")
    async with topologies()[name]() as topology:
        verdict = await run(topology, plan)
    assert not verdict.violations, verdict.violations[:10]
    assert verdict.faults, "nothing was broken, so nothing is proven"
    assert verdict.operations["ok"] > 200, verdict.operations
