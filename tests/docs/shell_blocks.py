"""The shell blocks of the documentation, as a reader would copy them.

A fenced ``bash``, ``sh`` or ``console`` block (of the last, the lines after ``$ ``) is run by
``test_shell_blocks.py`` unless an HTML comment right above it says otherwise:

    <!-- shell: in the background -->    a server: it must answer, and end cleanly on Ctrl-C
    <!-- shell: until Ctrl-C -->         it follows team:* and must print what happens there
    <!-- shell: not run, WHY -->         the reason is compulsory
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"^(?:[ ]*<!-- shell: (?P<marker>.*?) -->\n+)?"
    r"(?P<indent>[ ]*)```(?P<language>bash|sh|shell|console)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)

How = Literal["run", "in the background", "until Ctrl-C", "not run"]


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        place: ``README.md:12``.
        script: What bash is to run.
        how: What the test does with it.
        why: The reason for a block that is not run.
    """

    place: str
    script: str
    how: How
    why: str = ""


def documents() -> list[Path]:
    """Every Markdown file that readers of the repository are shown."""
    folders = [ROOT, ROOT / "docs", ROOT / "examples", ROOT / "server"]
    folders += sorted((ROOT / "integrations").iterdir())
    return [path for folder in folders for path in sorted(folder.glob("*.md"))]


def blocks(path: Path) -> Iterator[Block]:
    """The shell blocks of a document, in order.

    Raises:
        ValueError: A marker is none of those that this module knows, or gives no reason.
    """
    text = path.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        place = f"{path.relative_to(ROOT)}:{line}"
        how, why = _read_marker(match["marker"], place)
        yield Block(place, _script(match), how, why)


def _read_marker(marker: str | None, place: str) -> tuple[How, str]:
    match (marker or "run").partition(", "):
        case "run" | "in the background" | "until Ctrl-C" as how, "", "":
            return how, ""
        case "not run", _, why if why:
            return "not run", why
    raise ValueError(f"{place}: {marker!r} is no marker; see {__name__}")


def _script(match: re.Match[str]) -> str:
    lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines()]
    if match["language"] == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return "\n".join(lines)
