"""The output of commands: one JSON document per line for scripts, or text for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from memx_sdk.cli.values import compact, pretty, printable
from memx_sdk.core.values import encode
from memx_sdk.core.vocabulary import in_commands
from memx_sdk.display import escaped, isolated, quoted
from memx_sdk.display import name as shown_name
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

_WIDE: Final = 110
"""Columns of a terminal from which a history has space for all of its columns."""

_SHORT: Final = 6
"""Digits of a revision that are shown where there is no space for all of them."""

_WIDEST: Mapping[str, int] = {"writer": 20}


class Output:
    """Prints results on the standard output and everything else on the standard error.

    Attributes:
        as_json: One JSON document per line.
        console: The standard output.
        notes: The standard error.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        # Others wrote what is printed: ``:smile:`` in a value is its text and no picture, and lines
        # stay as long as they are, for whoever copies them.
        self.console = Console(highlight=False, emoji=False, soft_wrap=True)
        self.notes = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at the results."""
        return self.console.is_terminal and not self.as_json

    def document(self, document: Any) -> None:
        """Print one JSON document on one line."""
        # JSON leaves what turns text around, and the control characters beyond ASCII, as they are.
        sys.stdout.write(escaped(encode(document).decode(), spaces=True) + "\n")
        # A reader at the other end of a pipe follows ``watch`` line by line.
        sys.stdout.flush()

    def line(self, text: str | Text) -> None:
        """Print one line for people, or as it is where it goes to a file or another program."""
        if self.console.is_terminal:
            self.console.print(text, markup=False)
        else:
            # The text as it is, without styles: what reads it is a program, or somebody who looks
            # at the file later.
            sys.stdout.write(f"{text}\n")

    def note(self, text: str | Text, style: str = "dim") -> None:
        """Print one line beside the results."""
        self.notes.print(text, style=style, markup=False)

    def failure(self, error: MemxError) -> None:
        """Say what went wrong, and what to do about it."""
        if self.as_json:
            # The form of the server's own error object, so that scripts read one form.
            detail = in_commands(error.detail)
            answer = {"error": error.code, "detail": detail, **error.extra}
            self.notes.file.write(escaped(encode(answer).decode(), spaces=True) + "\n")
            return
        self.notes.print(
            Text.assemble(("error: ", "bold red"), isolated(printable(in_commands(error.detail))))
        )
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
            shown = Text(pretty(text))
            _HIGHLIGHTER.highlight(shown)
            self.console.print(shown)
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
                table.add_row(
                    *_cells(
                        shown_name(entry.key),
                        compact(entry.value),
                        shown_name(entry.writer),
                        ago(entry.ts),
                    )
                )
            self._print_table(table)
        else:
            for entry in entries:
                # A tab cannot be in what is printed before it: `escaped` writes it as an escape.
                self.line(f"{printable(entry.key)}\t{compact(entry.value)}")

    def change(self, change: Change) -> None:
        """Print one change as it comes."""
        if self.as_json:
            self.document(change)
            return
        clock = time.strftime("%H:%M:%S", time.localtime(change.ts))
        line = Text.assemble(
            (f"{clock}  ", "dim"),
            (f"{self._person(change.writer) or '-':<24} ", "cyan"),
            (self._person(change.key), "bold"),
            " ",
            *_happened(change, for_people=self.is_terminal),
        )
        if self.is_terminal:
            # One line for each change, or a large value would push everything else off the screen;
            # a file gets all of it.
            line.truncate(self.console.width, overflow="ellipsis")
        self.line(line)
        self.console.file.flush()

    def history(self, changes: Iterable[Change]) -> None:
        """Print one key's changes."""
        if not self.is_terminal:
            for change in changes:
                self.change(change)
            return
        narrow = self.console.width < _WIDE
        # What came of a change, and why, is what the table is for: on a narrow terminal the digits that
        # all revisions share, and the version, make way.
        columns = ("revision", "when", "writer", "value", "reason")
        table = _table(*columns) if narrow else _table("revision", "version", *columns[1:])
        for change in changes:
            revision = str(change.revision)
            numbers = [f"…{revision[-_SHORT:]}"] if narrow else [revision, str(change.version)]
            reason = quoted(change.reason) if change.reason else ""
            cells = _cells(*numbers, ago(change.ts), shown_name(change.writer), reason)
            what = Text.assemble(*_happened(change, with_reason=False, for_people=True))
            table.add_row(*cells[:-1], what, cells[-1])
        self._print_table(table)

    def presence(self, members: Iterable[Mapping[str, Any]]) -> None:
        """Print who is present."""
        table = _table("writer", "watching", "last seen", "since")
        for each in members:
            watching = " ".join(map(shown_name, each["watching"]))
            seen, since = ago(each["last_seen"]), ago(each["since"])
            if self.is_terminal:
                table.add_row(*_cells(shown_name(each["writer"]), watching, seen, since))
            else:
                self.line("\t".join((shown_name(each["writer"]), escaped(watching), seen, since)))
        if self.is_terminal:
            self._print_table(table)

    def reset(self, reset: Reset) -> None:
        """Say that changes were missed for good, and that the present state follows."""
        if self.as_json:
            self.document(reset)
        else:
            self.note(
                f"changes before this cannot be shown ({printable(reset.reason)}); the state:",
                "yellow",
            )

    def _person(self, name: str) -> str:
        """Return a key's or a writer's name as it stands in a line, for a terminal or a file."""
        return isolated(shown_name(name)) if self.is_terminal else shown_name(name)

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
    held = isolated(compact(entry.value))
    return f"revision {entry.revision} by {isolated(shown_name(entry.writer))}: {held}"


def _provenance(entry: Entry[Any]) -> str:
    parts = [
        f"revision {entry.revision}",
        f"version {entry.version}",
        f"by {isolated(shown_name(entry.writer))}",
        ago(entry.ts),
    ]
    if entry.expires_at is not None:
        parts.append(f"expires in {max(entry.expires_at - time.time(), 0):.0f} s")
    return " · ".join(parts)


def _happened(
    change: Change, *, with_reason: bool = True, for_people: bool
) -> list[tuple[str, str]]:
    isolate = isolated if for_people else str
    # A newer server may have actions that this version does not know; they are shown by name.
    word, style = _ACTIONS.get(change.action, (printable(change.action), "red"))
    parts = [(word, style)]
    if change.action == "schema":
        schema = "removed" if change.schema is None else isolate(compact(change.schema))
        parts.append((f" {schema}", ""))
    elif change.action == "set":
        # A value of null and one that the log did not keep are two things.
        held = isolate(compact(change.value)) if "value" in change else "(value not kept)"
        parts.append((f" {held}", ""))
    if with_reason and change.reason:
        parts.append((f"  ({isolate(quoted(change.reason))})", "dim"))
    return parts


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, expand=True)
    for column in columns:
        # What may be long takes what the others leave.
        ratio = {"value": 3, "reason": 2, "watching": 1}.get(column)
        table.add_column(
            column, no_wrap=True, overflow="ellipsis", ratio=ratio, max_width=_WIDEST.get(column)
        )
    return table


def _cells(*texts: str) -> list[Text]:
    return [Text(isolated(escaped(text, spaces=True))) for text in texts]
