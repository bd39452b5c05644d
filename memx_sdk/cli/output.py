"""The output of commands: one JSON document per line for scripts, or text for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from memx_sdk.cli.values import compact, printable
from memx_sdk.core.values import encode
from memx_sdk.errors import ConflictError, MemxError
from memx_sdk.models import Change, Entry, Reset

_HINTS: Mapping[str, str] = {
    "unauthenticated": "set MEMX_API_KEY or pass --api-key; `memx dev` prints the key it made",
    "connection": "`memx dev` starts a server, `memx doctor` finds out more",
    "timeout": "`memx doctor` finds out more",
    "bad_answer": "check --url (MEMX_BASE_URL); `memx doctor` finds out more",
}
_ACTIONS: Mapping[str, tuple[str, str]] = {
    "set": ("=", "green"),
    "delete": ("deleted", "red"),
    "expire": ("expired", "yellow"),
    "schema": ("schema", "blue"),
}
_HIGHLIGHTER = JSONHighlighter()


class Output:
    """Prints results on the standard output and everything else on the standard error.

    Attributes:
        as_json: One JSON document per line.
        console: The standard output.
        notes: The standard error.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, emoji=False, soft_wrap=True)
        self.notes = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at the results."""
        return self.console.is_terminal and not self.as_json

    def document(self, document: Any) -> None:
        """Print one JSON document on one line."""
        sys.stdout.write(encode(document).decode() + "\n")
        sys.stdout.flush()

    def line(self, text: str | Text) -> None:
        """Print one line for people, or as it is where it goes to a file or another program."""
        if self.console.is_terminal:
            self.console.print(text, markup=False)
        else:
            sys.stdout.write(f"{text}\n")

    def note(self, text: str | Text, style: str = "dim") -> None:
        """Print one line beside the results."""
        self.notes.print(text, style=style, markup=False)

    def failure(self, error: MemxError) -> None:
        """Say what went wrong, and what to do about it."""
        if self.as_json:
            answer = {"error": error.code, "detail": error.detail, **error.extra}
            self.notes.file.write(encode(answer).decode() + "\n")
            return
        self.notes.print(Text.assemble(("error: ", "bold red"), printable(error.detail)))
        for fault in error.extra.get("errors", ())[1:]:  # the detail tells the first
            self.fault(fault)
        if isinstance(error, ConflictError) and "entry" in error.extra:
            held = "it does not exist now" if error.entry is None else _held(error.entry)
            self.note(f"  {held}")
        if hint := _HINTS.get(error.code):
            self.note(f"  {hint}")

    def fault(self, fault: Mapping[str, Any]) -> None:
        """Print one reason why a schema refuses a value."""
        where = f"at {fault['path']}" if fault.get("path") else "the value itself"
        self.note(f"  {printable(where)}: {printable(str(fault.get('message')))}")

    def entry(self, entry: Entry[msgspec.Raw]) -> None:
        """Print a value; on a terminal also who wrote it and when."""
        text = bytes(entry.value).decode()
        if self.as_json:
            self.document(entry)
        elif self.is_terminal:
            pretty = Text(printable(msgspec.json.format(text, indent=2)))
            _HIGHLIGHTER.highlight(pretty)
            self.console.print(pretty)
            self.note(_provenance(entry))
        else:
            self.line(text)

    def entries(self, entries: Iterable[Entry]) -> None:
        """Print keys with their values."""
        if self.as_json:
            for entry in entries:
                self.document(entry)
        elif self.is_terminal:
            table = _table("key", "value", "writer", "written")
            for entry in entries:
                table.add_row(*_cells(entry.key, compact(entry.value), entry.writer, ago(entry.ts)))
            self._print_table(table)
        else:
            for entry in entries:
                self.line(f"{entry.key}\t{compact(entry.value)}")

    def change(self, change: Change) -> None:
        """Print one change as it comes."""
        if self.as_json:
            self.document(change)
            return
        clock = time.strftime("%H:%M:%S", time.localtime(change.ts))
        line = Text.assemble(
            (f"{clock}  ", "dim"),
            (f"{printable(change.writer) or '-':<24} ", "cyan"),
            (printable(change.key), "bold"),
            " ",
            *_happened(change),
        )
        if self.is_terminal:
            line.truncate(self.console.width, overflow="ellipsis")
        self.line(line)
        self.console.file.flush()

    def history(self, changes: Iterable[Change]) -> None:
        """Print one key's changes."""
        if not self.is_terminal:
            for change in changes:
                self.change(change)
            return
        table = _table("revision", "version", "when", "writer", "value", "reason")
        for change in changes:
            what = Text.assemble(*_happened(change, with_reason=False))
            row = _cells(
                str(change.revision), str(change.version), ago(change.ts), change.writer, "", ""
            )
            table.add_row(*row[:4], what, _cells(change.reason or "")[0])
        self._print_table(table)

    def reset(self, reset: Reset) -> None:
        """Say that changes were missed for good, and that the present state follows."""
        if self.as_json:
            self.document(reset)
        else:
            self.note(f"changes before this cannot be shown ({reset.reason}); the state:", "yellow")

    def _print_table(self, table: Table) -> None:
        self.console.print(table, soft_wrap=False)


def ago(ts: float, now: float | None = None) -> str:
    """Say how long before ``now`` (by default this moment) ``ts`` was, in Unix seconds."""
    seconds = (time.time() if now is None else now) - ts
    if seconds < 1:
        return "just now"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _held(entry: Entry) -> str:
    return f"revision {entry.revision} by {printable(entry.writer)}: {compact(entry.value)}"


def _provenance(entry: Entry[Any]) -> str:
    parts = [
        f"revision {entry.revision}",
        f"version {entry.version}",
        f"by {printable(entry.writer)}",
        ago(entry.ts),
    ]
    if entry.expires_at is not None:
        parts.append(f"expires in {max(entry.expires_at - time.time(), 0):.0f} s")
    return " · ".join(parts)


def _happened(change: Change, *, with_reason: bool = True) -> list[tuple[str, str]]:
    word, style = _ACTIONS.get(change.action, (change.action, "red"))
    parts = [(word, style)]
    if change.action == "schema":
        parts.append((" " + ("removed" if change.schema is None else compact(change.schema)), ""))
    elif change.action == "set":
        held = compact(change.value) if "value" in change else "(value not kept)"
        parts.append((" " + held, ""))
    if with_reason and change.reason:
        parts.append((f"  ({printable(change.reason)})", "dim"))
    return parts


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, expand=True)
    for column in columns:
        # What may be long takes what the others leave.
        ratio = {"value": 3, "reason": 1}.get(column)
        table.add_column(column, no_wrap=True, overflow="ellipsis", ratio=ratio)
    return table


def _cells(*texts: str) -> list[Text]:
    return [Text(printable(text)) for text in texts]
