"""The generator that writes each ``_sync`` package from the ``_async`` package beside it.

``python tools/unasync.py`` rewrites them; with ``--check`` it only looks, and fails when a file is missing, left
over or stale. What a component does is written once, for coroutines, in a package named ``_async`` of any
distribution: the SDK's client, the runner of its tools, an adapter's flows. What differs by nature (sleeping, waiting,
background work) is in the two hand-written modules named ``_concurrency.py``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = (
    ROOT / "memx_sdk",
    ROOT / "integrations/langchain/langchain_memx",
    ROOT / "integrations/autogen/autogen_memx",
    ROOT / "integrations/mcp/memx_mcp",
)
SOURCE_NAME = "_async"
TARGET_NAME = "_sync"

HAND_WRITTEN = frozenset({"_concurrency.py"})

HEADER = "# Generated from {source} by tools/unasync.py; change that file, not this one.\n"

TOKENS: tuple[tuple[str, str], ...] = (
    # The longer phrases first: each rule sees what the ones before it have left.
    (r"\bAsyncMemxContext\b", "memxContext"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait\s+", ""),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\bCoroutine\[Any, Any, (\w+)\]", r"\1"),
    (r"\b__a(enter|exit|iter)__\b", r"__\1__"),
    (r"\b__anext__\b", "__next__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\ba(close|iter|next)\b", r"\1"),
    (r"\bwebsockets\.asyncio\b", "websockets.sync"),
    (r"\b_async\b", "_sync"),
    (r"\basynchronous\b", "synchronous"),
    (r"\bAsynchronous\b", "Synchronous"),
    (r"\bAsync([A-Z])", r"\1"),
)
"""What is replaced by what, in this order, in comments and docstrings too."""

FORBIDDEN = re.compile(r"\b(import asyncio|asyncio\.\w+|import threading|threading\.\w+|async)\b")
"""What generated code may not hold: it belongs into ``_concurrency.py``."""


def translate(text: str) -> str:
    """Return the synchronous form of the asynchronous module ``text``.

    Raises:
        ValueError: It uses asyncio or threading itself.
    """
    for pattern, replacement in TOKENS:
        text = re.sub(pattern, replacement, text)
    if match := FORBIDDEN.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise ValueError(f"line {line}: {match[0]!r} has no synchronous form")
    return text


def sources() -> list[Path]:
    """Return every asynchronous package, in all distributions."""
    return sorted(
        folder
        for distribution in DISTRIBUTIONS
        for folder in distribution.rglob(SOURCE_NAME)
        if folder.is_dir()
    )


def generate(source: Path, target: Path) -> dict[Path, str]:
    """Return what every generated file of one package should hold, by its path."""
    wanted = {}
    for path in written_in(source):
        try:
            body = translate(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SystemExit(f"{path.relative_to(ROOT)}: {error}") from None
        header = HEADER.format(source=path.relative_to(ROOT).as_posix())
        wanted[target / path.relative_to(source)] = header + body
    return wanted


def stale(wanted: dict[Path, str], target: Path) -> list[Path]:
    """Return the files of a synchronous package that are not as they should be."""
    present = set(written_in(target))
    differing = {
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    return sorted(differing | (present - wanted.keys()))


def written_in(package: Path) -> Iterator[Path]:
    """Yield the modules of a package and its subpackages that are not written twice by hand."""
    for path in sorted(package.rglob("*.py")):
        if path.name not in HAND_WRITTEN:
            yield path


def write(wanted: dict[Path, str], target: Path) -> None:
    """Bring a synchronous package up to date."""
    for path in stale(wanted, target):
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check = parser.parse_args().check
    found: list[Path] = []
    for source in sources():
        target = source.with_name(TARGET_NAME)
        wanted = generate(source, target)
        found += stale(wanted, target)
        if not check:
            write(wanted, target)
    for path in found if check else ():
        print(f"{path.relative_to(ROOT)} is stale: run python tools/unasync.py", file=sys.stderr)
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
