"""``examples/langchain_team.py``, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from memx_sdk import memxContext
from tests.support.memx_server import Served

EXAMPLE = Path(__file__).parents[2] / "examples" / "langchain_team.py"


def test_three_agents_share_a_plan_and_one_is_held_back(served: Served) -> None:
    team = served.keys.add(space="breakfast", agent="team")
    guest = served.keys.add(
        space="breakfast", agent="guest", read=("team:*", "guest:*"), write=("guest:*",)
    )
    run = subprocess.run(
        [sys.executable, str(EXAMPLE), "--url", served.url],
        env={**os.environ, "MEMX_API_KEY": team, "MEMX_GUEST_KEY": guest},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "may not write 'team:plan'" in run.stdout
    with memxContext(team, served.url) as memx:
        plan, notes = memx.get("team:plan"), memx.get("guest:notes")
    assert plan is not None
    assert [step["done"] for step in plan.value["steps"]] == [True, False]
    assert plan.writer == "team/builder"
    assert notes is not None
    assert notes.value == ["say thanks"]
    assert notes.writer == "guest/guest"
