"""The view of a run: one line for each change, in colour on a terminal and plain elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from memx_sdk import Change
from memx_sdk.cli.values import printable
from memx_server.demo.board import Board, Note

_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
WIDTH = 100
"""Characters of the longest line."""
_WRITER_WIDTH, _KEY_WIDTH, _COMMAND_WIDTH = 18, 20, 36


class View:
    """Prints a run to ``console``."""

    def __init__(self, console: Console, board: Board) -> None:
        self._console, self._board = console, board
        self._colours: dict[str, str] = {}
        self._started: float | None = None
        self._elapsed = 0.0
        self._revision = 0
        self._waiting: list[Note] = []
        self.changes = 0

    @property
    def writers(self) -> int:
        """The number of writers whose changes were shown."""
        return len(self._colours)

    def opening(self, where: str, mind: str) -> None:
        """Print the introduction."""
        self._print(Text.assemble(("memX demo", "bold"), (f"  {where}, {mind}", "dim")))
        self._print(
            Text(
                "These agents share keys and nothing else. Each line is a change, pushed as it happens: when,\n"
                "who, which key, what. A ! marks what an agent met: a refusal, or its own absence.\n",
                "dim",
            )
        )

    def change(self, change: Change) -> None:
        """Print one change."""
        # What explains a note is pushed to the monitor like any change, perhaps a moment after the agent met it. All
        # changes of a transaction come before the notes that it explains.
        if change.revision > self._revision:
            self._print_notes(self._revision)
        self.changes += 1
        self._revision = change.revision
        self._started = change.ts if self._started is None else self._started
        self._elapsed = change.ts - self._started
        self._colour(change.writer)
        self._line(change.writer, change.key, described(change.value))

    def note(self, note: Note) -> None:
        """Print what an agent met, after the change that explains it."""
        self._waiting.append(note)
        self._print_notes(self._revision)

    def _print_notes(self, revision: int) -> None:
        due = [note for note in self._waiting if note.after <= revision]
        self._waiting = [note for note in self._waiting if note.after > revision]
        for note in due:
            self._line(note.writer, note.key, note.text, mark="!")

    def _line(self, writer: str, key: str, words: str, mark: str = " ") -> None:
        name = Text(self._board.short(key), "bold")
        name.truncate(_KEY_WIDTH, overflow="ellipsis", pad=True)
        line = Text.assemble(
            (f"{self._elapsed:6.2f}s ", "dim"),
            (mark, "bold yellow"),
            (f" {writer:<{_WRITER_WIDTH}} ", self._colours.get(writer, "")),
            name,
            (f" {_one_line(words)}", "" if mark == " " else "yellow"),
        )
        line.truncate(self._width, overflow="ellipsis")
        self._print(line)

    def closing(self, summary: Mapping[str, Any], facts: Iterable[str]) -> None:
        """Print the answer, and ``facts`` about the run."""
        self._print_notes(self._revision)
        sources = _one_line("; ".join(summary["sources"])) or "nothing"
        answer = _one_line(summary["text"])
        if self._console.is_terminal:
            body = Text.assemble(answer, (f"\n\nfrom: {sources}", "dim"))
            self._console.print(Panel(body, title="summary", title_align="left", width=self._width))
        else:
            self._print(Text(""))
            for line in (f"Summary: {answer}", f"From: {sources}"):
                self._print(Text(textwrap.fill(line, WIDTH, subsequent_indent="  ")))
        for fact in facts:
            self._print(Text(fact, "dim"))

    def remark(self, text: str) -> None:
        """Print a sentence that is no part of the run."""
        self._print(Text(text, "dim"))

    def next_steps(self, title: str, steps: Iterable[tuple[str, str]]) -> None:
        """Print commands to go on with, and what each does."""
        self._print(Text(f"\n{title}", "bold"))
        for command, what in steps:
            self._print(
                Text.assemble("  ", (f"{command:<{_COMMAND_WIDTH}}", "cyan"), (f"  {what}", "dim"))
            )

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    @property
    def _width(self) -> int:
        return min(self._console.width, WIDTH) if self._console.is_terminal else WIDTH

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
            return "taken, by a conditional write"
        case {"state": "done", "follow_ups": [*keys]} if keys:
            return f"done, in one transaction with {len(keys)} new leads"
        case {"state": "done"}:
            return "done"
        case {"title": title, "text": text}:
            return f"{title}: {text}"
        case {"state": state, "sources": sources}:
            return f"{state}, from {len(sources)} findings, by a conditional write"
        case {"text": text}:
            return str(text)
    return "gone" if value is None else str(value)
