"""The README's five-minute start, as a reader saves and runs it, but for the model."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

from memx_sdk import memxContext
from tests.autogen.scripted import call, scripted
from tests.docs.python_blocks import ROOT, blocks
from tests.support.memx_server import Served


def test_the_five_minutes(
    served: Served,
    api_key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = next(blocks(ROOT / "integrations/autogen/README.md"))
    (tmp_path / "start.py").write_text(start.text)
    model = scripted(
        call("memx_update", key="plan:steps", append=["tea"], reason="thirst"),
        call("memx_set", key="plan:done", value=True),
        "The plan is made.",
        *["It is."] * 20,
    )
    openai = ModuleType("autogen_ext.models.openai")
    openai.__dict__["OpenAIChatCompletionClient"] = lambda model_name=None, **_: model
    monkeypatch.setitem(sys.modules, openai.__name__, openai)
    runpy.run_path(str(tmp_path / "start.py"), run_name="__main__")
    assert "The plan is made." in capsys.readouterr().out
    with memxContext(api_key, served.url) as memx:
        steps = memx.get("plan:steps")
    assert steps is not None
    assert steps.value == ["tea"]
