"""The view of a run: one line for each change, in colour on a terminal and plain elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from memx_sdk import Change
from memx_sdk.cli.values import printable
from memx_server.demo.board import Board

_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
_PLAIN_WIDTH = 110
_WRITER_WIDTH, _KEY_WIDTH = 18, 22


class View:
    """Prints a run to ``console``."""

    def __init__(self, console: Console, board: Board) -> None:
        self._console, self._board = console, board
        self._colours: dict[str, str] = {}
        self._started: float | None = None
        self.changes = 0

    @property
    def writers(self) -> int:
        """The number of writers whose changes were shown."""
        return len(self._colours)

    def opening(self, where: str, mind: str) -> None:
        """Print the introduction."""
        self._print(Text.assemble(("memX demo", "bold"), (f"  {where}, {mind}", "dim")))
        self._print(Text("These agents share keys and nothing else. Each line is a change,", "dim"))
        self._print(
            Text("pushed to the monitor as it happens: when, who, which key, what.\n", "dim")
        )

    def change(self, change: Change) -> None:
        """Print one change."""
        self.changes += 1
        self._started = change.ts if self._started is None else self._started
        colour = self._colour(change.writer)
        key = Text(self._board.short(change.key), "bold")
        key.truncate(_KEY_WIDTH, overflow="ellipsis", pad=True)
        line = Text.assemble(
            (f"{change.ts - self._started:6.2f}s  ", "dim"),
            (f"{change.writer:<{_WRITER_WIDTH}} ", colour),
            key,
            f" {_one_line(described(change.value))}",
        )
        line.truncate(self._width, overflow="ellipsis")
        self._print(line)

    def closing(self, summary: Mapping[str, Any], facts: Iterable[str]) -> None:
        """Print the answer, and ``facts`` about the run."""
        sources = _one_line("; ".join(summary["sources"])) or "nothing"
        answer = _one_line(summary["text"])
        if self._console.is_terminal:
            body = Text.assemble(answer, (f"\n\nfrom: {sources}", "dim"))
            self._console.print(
                Panel(body, title="summary", title_align="left", width=min(self._width, 100))
            )
        else:
            self._print(Text(f"\nSummary: {answer}\nFrom: {sources}"))
        for fact in facts:
            self._print(Text(fact, "dim"))

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    @property
    def _width(self) -> int:
        return self._console.width if self._console.is_terminal else _PLAIN_WIDTH

    def _colour(self, writer: str) -> str:
        return self._colours.setdefault(writer, _COLOURS[len(self._colours) % len(_COLOURS)])


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def described(value: Mapping[str, Any] | None) -> str:
    """Return a few words for the value of a key of the board."""
    match value:
        case {"ask": ask, "state": "open"}:
            return f"open: {ask}"
        case {"state": "taken"}:
            return "taken, by a conditional write that only one explorer wins"
        case {"state": "done", "follow_ups": [*keys]} if keys:
            return f"done, in one transaction with its findings and {len(keys)} new leads"
        case {"state": "done"}:
            return "done"
        case {"title": title, "text": text}:
            return f"{title}: {text}"
        case {"state": state, "sources": sources}:
            return f"{state}, from {len(sources)} findings, by a conditional write"
        case {"text": text}:
            return str(text)
    return "gone" if value is None else str(value)
