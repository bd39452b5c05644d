"""``examples/autogen_team.py``, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from memx_sdk import memxContext
from tests.support.memx_server import Served

EXAMPLE = Path(__file__).parents[2] / "examples" / "autogen_team.py"


def test_two_teams_share_a_board(served: Served, api_key: str) -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLE), "--url", served.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "the tasters stopped: " in run.stdout
    assert "kitchen:closed was met by tester/cooks" in run.stdout
    with memxContext(api_key, served.url) as memx:
        tasted = memx.get("kitchen:tasted")
        assert tasted is not None
        assert tasted.value == ["soup", "pie"]
        assert memx.get("memx:team:kitchen%3Ateam") is not None
