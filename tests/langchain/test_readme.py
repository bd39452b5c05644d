"""The README's five-minute start, as a reader saves and runs it, but for the model."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from memx_sdk import memxContext
from tests.docs.python_blocks import ROOT, blocks
from tests.langchain.scripted_model import call, say, scripted
from tests.support.memx_server import Served


def test_the_five_minutes(
    served: Served,
    api_key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = next(blocks(ROOT / "integrations/langchain/README.md"))
    (tmp_path / "start.py").write_text(start.text)
    step = call("memx_memory", action="update", key="plan:steps", append=["tea"], reason="thirst")
    model = scripted(step, say("I added tea."))
    monkeypatch.setattr("langchain.agents.factory.init_chat_model", lambda name: model)
    monkeypatch.setenv("MEMX_API_KEY", api_key)
    monkeypatch.setenv("MEMX_BASE_URL", served.url)
    runpy.run_path(str(tmp_path / "start.py"), run_name="__main__")
    assert capsys.readouterr().out == "I added tea.\n"
    with memxContext(api_key, served.url) as memx:
        steps = memx.get("plan:steps")
    assert steps is not None
    assert (steps.value, steps.writer) == (["tea"], "tester/planner")
