"""``memx export``: writes what a space holds at one moment, while agents go on writing."""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, BinaryIO, NoReturn, Self

import msgspec
import typer

from memx_sdk import AsyncMemxContext
from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.session import Session, connected
from memx_sdk.cli.transfer import dump
from memx_sdk.cli.transfer.progress import Count, counting
from memx_sdk.errors import CompactedError, DivergedError, InvalidRequestError, MemxError
from memx_sdk.models import Change
from memx_sdk.protocol.cursors import decode_cursor
from memx_sdk.protocol.keys import compile_pattern, validate_pattern

_PAGE = 500
"""Entries that are asked for at once; the server gives fewer where they are large."""
_CHANGES = 1000
_ATTEMPTS = 3
"""How often an export begins anew since the log was trimmed past its beginning."""


@connected
async def export(
    session: Session,
    pattern: Annotated[str, typer.Argument(help="A key or a pattern with * ? [...].")] = "*",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: the standard output."),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="With the changes that the log still has.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with FILE.part of an interrupted export.")
    ] = False,
) -> None:
    """Write entries and schemas to a file of JSON lines, as they are at one moment.

    Agents may go on writing. The file appears when it is whole; until then it is FILE.part.
    """
    if resume and output is None:
        raise typer.BadParameter("--resume needs --output FILE")
    if output is not None and output.exists():
        raise typer.BadParameter(f"{output} exists; choose another file, or remove it")
    try:
        with _DumpFile(output, resume=resume) as file, counting(session.output) as count:
            job = _Export(session.memory, pattern, file, count, history=history)
            await job.run()
    except dump.DumpError as error:
        _fail(session, f"{output}.part: {error}")
    except OSError as error:
        if isinstance(error, MemxError) or error.errno == errno.EPIPE:
            raise
        rest = "" if output is None else "; what was written stays there: go on with --resume"
        _fail(
            session,
            f"cannot write {error.filename or output or 'the output'}: {error.strerror}{rest}",
        )
    done = {"entries": count.done, "lines": file.lines, "file": str(output) if output else None}
    if session.output.as_json and output is not None:
        session.output.document(done)
    else:
        session.output.note(f"exported {count.done:,} entries, {count.rate:,.0f} a second")


class _DumpFile:
    """The file of an export: written under another name until it is whole.

    Attributes:
        lines: How many lines it has.
        started: The header, and the page behind which to go on, of an export that is resumed.
    """

    def __init__(self, path: Path | None, *, resume: bool) -> None:
        self._path = path
        self.lines = 0
        self.started: tuple[dump.DumpHeader, str] | None = None
        if path is None:
            self._file: BinaryIO = sys.stdout.buffer
            return
        self._part = path.with_name(f"{path.name}.part")
        if resume:
            self._file = self._part.open("r+b")
            self._find_place()
        else:
            # What agents remember is its owner's.
            descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file = os.fdopen(descriptor, "w+b")

    def write(self, kind: str, content: Any) -> None:
        """Write a line."""
        self._file.write(dump.line(kind, content))
        self.lines += 1

    def begin_anew(self) -> bool:
        """Drop what was written, where that can be taken back."""
        if self._path is None:
            return False
        self._file.seek(0)
        self._file.truncate()
        self.lines, self.started = 0, None
        return True

    def _find_place(self) -> None:
        found = dump.examine(self._file, whole=False)
        if found.resume is None:
            # Not one whole page: it begins anew.
            self.begin_anew()
            return
        page, start, number = found.resume
        self._file.seek(start)
        self._file.readline()
        self._file.truncate()
        self.started, self.lines = (found.header, page), number

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._path is None:
            self._file.flush()
            return
        try:
            self._file.flush()
            if error is None:
                # On the disk before it gets its name: a whole dump is never an empty file after a power cut.
                os.fsync(self._file.fileno())
                self._part.rename(self._path)
        except OSError:
            if error is None:
                raise
        finally:
            try:
                self._file.close()
            except OSError:
                if error is None:
                    raise


class _Export:
    """One export.

    It reads the entries page by page, each of its own moment, and then the changes since its beginning, which bring
    all of them to one moment: that of the last change.
    """

    def __init__(
        self,
        memory: AsyncMemxContext,
        pattern: str,
        file: _DumpFile,
        count: Count,
        *,
        history: bool,
    ) -> None:
        self._memory = memory
        self._pattern = pattern
        self._file = file
        self._count = count
        self._history = history

    async def run(self) -> None:
        """Write the whole dump."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._attempt()
            except (CompactedError, DivergedError) as error:
                # The pages are of no one moment then, and what is missing cannot be read any more.
                if attempt == _ATTEMPTS or not self._file.begin_anew():
                    raise MemxError(
                        error.code,
                        "so much was written while the export ran that the log no longer reaches back to "
                        "its beginning; export smaller patterns, or at a quieter time",
                    ) from None
                self._count.done = 0
            else:
                return

    async def _attempt(self) -> None:
        if self._file.started is None:
            cursor, after = await self._begin(), None
        else:
            header, after = self._file.started
            if header.pattern != self._pattern or header.history != self._history:
                raise dump.DumpError(
                    f"it is an export of {header.pattern!r}"
                    f"{' with' if header.history else ' without'} history; resume it as that"
                )
            cursor = header.cursor
        await self._pages(after)
        cursor = await self._catch_up(cursor)
        self._file.write("end", {"lines": self._file.lines, "cursor": cursor})

    async def _begin(self) -> str:
        me = await self._memory.whoami()
        cursor = await self._memory.cursor()
        header = {
            "format": dump.FORMAT,
            "version": version("memx-sdk"),
            "space": me["space"],
            "pattern": validate_pattern(self._pattern),
            "cursor": cursor,
            "history": self._history,
        }
        self._file.write("memx_dump", header)
        chosen = compile_pattern(self._pattern)
        for schema in await self._memory.schemas():
            # The name of a schema is a key or a pattern, compared as a text: `task:*` is one of `task:*`.
            if chosen(schema["key"]):
                self._file.write("schema", schema)
        if self._history:
            await self._log(cursor)
        return cursor

    async def _log(self, until: str) -> None:
        """Write the changes up to the beginning; those behind it come with the last lines."""
        revision = decode_cursor(until).revision
        since: str | None = None
        while True:
            page = await self._memory.changes(
                self._pattern, since=since, limit=_CHANGES, model=msgspec.Raw
            )
            for change in page.changes:
                if change.revision <= revision:
                    self._file.write("change", change)
            since = page.cursor
            if not page.more or decode_cursor(since).revision >= revision:
                return

    async def _pages(self, after: str | None) -> None:
        while True:
            try:
                page = await self._memory.entry_page(
                    self._pattern, limit=_PAGE, after=after, model=msgspec.Raw
                )
            except InvalidRequestError as error:
                if after is not None and error.code == "invalid_cursor":
                    raise dump.DumpError(
                        "the export cannot be gone on with; begin it anew without --resume"
                    ) from None
                raise
            for entry in page.items:
                self._file.write("entry", entry)
            self._count.done += len(page.items)
            after = page.next
            # Also behind the last page: what stands behind it replaces what stands before.
            self._file.write("page", after or "")
            if after is None:
                return

    async def _catch_up(self, cursor: str) -> str:
        while True:
            page = await self._memory.changes(
                self._pattern, since=cursor, limit=_CHANGES, model=msgspec.Raw
            )
            for change in page.changes:
                await self._write_change(change)
            cursor = page.cursor
            if not page.more:
                return cursor

    async def _write_change(self, change: Change) -> None:
        if self._history:
            self._file.write("change", change)
        if change.action != "set":
            self._file.write("gone", change.key)
            return
        if "value" in change:
            self._file.write("entry", change)
            return
        # The log did not keep the value, so the present one stands for it.
        entry = await self._memory.get(change.key, model=msgspec.Raw)
        if entry is None:
            self._file.write("gone", change.key)
        else:
            self._file.write("entry", entry)


def _fail(session: Session, why: str) -> NoReturn:
    session.output.failure(MemxError("export_failed", why))
    raise typer.Exit(ExitCode.ERROR)
