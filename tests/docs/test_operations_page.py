"""``docs/operations.md`` names every line of the log, every metric and every advice of the server."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
CODE = [ROOT / "server/memx_server", ROOT / "integrations/mcp/memx_mcp"]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
LOGGERS = {"log", "_log", "logger", "_logger"}
FAMILIES = {
    "_gauge",
    "make_gauge",
    "_counter",
    "CounterMetricFamily",
    "GaugeMetricFamily",
    "HistogramMetricFamily",
}


def files() -> Iterator[Path]:
    for folder in CODE:
        yield from sorted(folder.rglob("*.py"))


def calls(path: Path) -> Iterator[tuple[ast.Call, str, str]]:
    """The calls of a file, each with what it is called on and by which name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                on = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
                yield node, on, node.func.attr
            elif isinstance(node.func, ast.Name):
                yield node, "", node.func.id


def template(node: ast.expr) -> str:
    """A text of the code as the page writes it: … for what differs."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
        return "".join(map(str, parts))
    assert isinstance(node, ast.Constant), (
        f"line {node.lineno}: the page can only name a constant text"
    )
    return re.sub(r"%(?:\.\d+)?[a-z]", "…", str(node.value))


def log_lines() -> Iterator[str]:
    for path in files():
        for call, on, name in calls(path):
            if on in LOGGERS and name in LEVELS:
                yield template(call.args[0])
            assert not (on in LOGGERS and name == "log"), (
                f"{path}: a level of its own hides the message"
            )


def metrics() -> Iterator[str]:
    for path in files():
        for call, _, name in calls(path):
            if name not in FAMILIES or not call.args or not isinstance(call.args[0], ast.Constant):
                continue
            counts = name in {"_counter", "CounterMetricFamily"}
            yield str(call.args[0].value) + ("_total" if counts else "")


def advice() -> Iterator[str]:
    for path in files():
        if path.stem == "advice":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Yield) and node.value is not None:
                    yield template(node.value)


FOUND = {
    "log": sorted(set(log_lines())),
    "metric": sorted(set(metrics())),
    "advice": sorted(set(advice())),
}
EACH = [(kind, text) for kind, texts in FOUND.items() for text in texts]


@pytest.mark.parametrize(
    ("kind", "text"), EACH, ids=[f"{kind}: {text}"[:60] for kind, text in EACH]
)
def test_the_page_names(kind: str, text: str) -> None:
    assert f"`{text}`" in PAGE, (
        f"docs/operations.md does not say what to do about this {kind}: {text}"
    )


def test_the_page_names_nothing_that_is_gone() -> None:
    tables = [line for line in PAGE.splitlines() if line.startswith("| `")]
    named = {text for line in tables for text in re.findall(r"`([^`]+)`", line.split(" | ")[0])}
    known = {text for _, text in EACH} | {"process_*"}
    assert named - known == set()


def test_all_kinds_were_found() -> None:
    assert len(FOUND["log"]) > 15
    assert len(FOUND["metric"]) > 8
    assert len(FOUND["advice"]) > 3
