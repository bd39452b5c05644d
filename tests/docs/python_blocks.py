"""The Python blocks of the documentation, as a reader would type them one after the other.

A fenced ``python`` block is run unless an HTML comment right above it gives a reason not to:

    <!-- python: not run, WHY -->

All blocks of a document share their names, ``await`` works at the top as in the REPL of asyncio, and a
line such as ``entry.value  # -> {"a": 1}`` is checked: the expression must equal what the arrow points at.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"^(?:[ ]*<!-- python: (?P<marker>.*?) -->\n+)?"
    r"(?P<indent>[ ]*)```(?:python|py)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
ARROW = re.compile(r"#\s*->\s*(?P<expected>.+?)\s*$")
CHECK = "_expect_equal"


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        path: The document.
        line: Where its code starts, counted from 1.
        text: The code.
        why_not: The reason for a block that is not run; empty for the others.
    """

    path: Path
    line: int
    text: str
    why_not: str = ""


def documents() -> list[Path]:
    """The documents whose Python is run: README.md and all of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path) -> Iterator[Block]:
    """The Python blocks of a document, in order.

    Raises:
        ValueError: A marker is not understood.
    """
    text = path.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        yield Block(path, line, _dedented(match), _reason(match["marker"], f"{path}:{line}"))


async def run(block: Block, names: dict[str, Any]) -> None:
    """Run ``block`` in the namespace ``names``.

    Raises:
        AssertionError: An arrow points at something else than its expression gives.
    """
    tree = ast.parse(block.text, filename=str(block.path))
    tree = ast.fix_missing_locations(_Arrows(block.text).visit(tree))
    ast.increment_lineno(tree, block.line - 1)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(tree, str(block.path), "exec", flags=flags, dont_inherit=True)
    names[CHECK] = _expect_equal
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result


class _Arrows(ast.NodeTransformer):
    """Turns ``expression  # -> expected`` into a comparison."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        arrow = ARROW.search(self._lines[(node.end_lineno or node.lineno) - 1])
        if arrow is None:
            return node
        expected = ast.parse(arrow["expected"], mode="eval").body
        check = ast.Call(ast.Name(CHECK, ast.Load()), [node.value, expected], [])
        return ast.copy_location(ast.Expr(check), node)


def _expect_equal(actual: object, expected: object) -> None:
    assert actual == expected, f"the documentation promises {expected!r}; it is {actual!r}"


def _dedented(match: re.Match[str]) -> str:
    return "\n".join(line.removeprefix(match["indent"]) for line in match["text"].splitlines())


def _reason(marker: str | None, place: str) -> str:
    if marker is None:
        return ""
    how, _, why = marker.partition(", ")
    if how != "not run" or not why:
        raise ValueError(f"{place}: {marker!r} is no marker; see {__name__}")
    return why
