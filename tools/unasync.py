"""The generator of the synchronous halves: it rewrites each package's ``_async`` into its ``_sync``.

``python tools/unasync.py`` rewrites the ``_sync`` folders; with ``--check`` it only compares, and fails
when a file there is missing, left over or stale. The flow of the client is written once, in
``memx_sdk/_async``: what differs by nature (sleeping, waiting, background work) is in the two
hand-written files named ``_concurrency.py``. LangChain calls its components from threads and from
event loops, so ``langchain_memx`` is generated in the same way.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (ROOT / "memx_sdk", ROOT / "integrations/langchain/langchain_memx")
TARGETS = tuple(package / "_sync" for package in PACKAGES)

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


def generate() -> dict[Path, str]:
    """Return what every generated file should hold, by its path."""
    wanted = {}
    for package in PACKAGES:
        for source in sorted((package / "_async").glob("*.py")):
            if source.name in HAND_WRITTEN:
                continue
            try:
                body = translate(source.read_text(encoding="utf-8"))
            except ValueError as error:
                raise SystemExit(f"{source.relative_to(ROOT)}: {error}") from None
            header = HEADER.format(source=source.relative_to(ROOT).as_posix())
            wanted[package / "_sync" / source.name] = header + body
    return wanted


def stale(wanted: dict[Path, str]) -> list[Path]:
    """Return the files of the synchronous halves that are not as they should be."""
    present = {
        path for target in TARGETS for path in target.glob("*.py") if path.name not in HAND_WRITTEN
    }
    differing = {
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    return sorted(differing | (present - wanted.keys()))


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check = parser.parse_args().check
    wanted = generate()
    for path in stale(wanted):
        if check:
            print(
                f"{path.relative_to(ROOT)} is stale: run python tools/unasync.py", file=sys.stderr
            )
        elif path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return 1 if check and stale(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
