"""Every Python example in the documentation runs, in order, and gives what it promises."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from memx_server.storage.sqlite import SqliteStore

from memx_sdk import AsyncMemxContext, memxContext
from tests.docs.python_blocks import ROOT, Block, blocks, documents, run
from tests.support.memx_server import Served, serve_store

ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost):8000")
"""Where the documentation says that the server is."""

WITH_PYTHON = [path for path in documents() if any(True for _ in blocks(path))]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    """A server with nothing in it, as ``memx dev`` starts one."""
    with serve_store(SqliteStore(tmp_path / "memx.db")) as served:
        yield served


@pytest.mark.timeout(120)
@pytest.mark.parametrize("path", WITH_PYTHON, ids=lambda path: path.name)
async def test_examples(
    path: Path, server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMX_BASE_URL", server.url)
    monkeypatch.setenv("MEMX_API_KEY", server.api_key)
    monkeypatch.chdir(tmp_path)
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # classes are looked up in their module
    names = vars(page)
    try:
        for block in blocks(path):
            if not block.why_not:
                await run(_at(server.url, block), names)
    finally:
        await _close_contexts(names)


def test_the_sdk_s_page_is_among_them() -> None:
    assert ROOT / "docs" / "sdk.md" in WITH_PYTHON
    assert ROOT / "README.md" in WITH_PYTHON


FAILING = {
    "a wrong result": "x = 1\nx  # -> 2",
    "a wrong result in a block": "with open(__file__):\n    1 + 1  # -> 3",
    "a wrong result over lines": "dict(\n    a=1,\n)  # -> {'a': 2}",
    "a wrong result of a coroutine": "async def f(): return 1\nawait f()  # -> 2",
    "an assertion": "assert False",
}


@pytest.mark.parametrize("text", FAILING.values(), ids=FAILING.keys())
async def test_a_wrong_example_is_noticed(text: str) -> None:
    with pytest.raises(AssertionError):
        await run(Block(ROOT / "README.md", 1, text), {"__file__": __file__})
    await run(
        Block(ROOT / "README.md", 1, re.sub(r"#.*|assert False", "", text)), {"__file__": __file__}
    )


def test_a_marker_without_a_reason_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- python: not run, it needs a model's key -->\n```python\nx\n```\n")
    assert [block.why_not for block in blocks(page)] == ["it needs a model's key"]
    page.write_text("<!-- python: not run -->\n```python\nx\n```\n")
    with pytest.raises(ValueError, match="no marker"):
        list(blocks(page))


def _at(url: str, block: Block) -> Block:
    return Block(block.path, block.line, ADDRESS.sub(url.removeprefix("http://"), block.text))


async def _close_contexts(names: dict[str, Any]) -> None:
    for value in names.values():
        if isinstance(value, AsyncMemxContext):
            await value.aclose()
        elif isinstance(value, memxContext):
            value.close()
