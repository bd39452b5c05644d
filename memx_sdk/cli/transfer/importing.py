"""``memx import``: brings a dump into the space of the API key, while agents go on writing."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NoReturn, cast

import typer

from memx_sdk.cli.exits import ExitCode
from memx_sdk.cli.session import Session, connected
from memx_sdk.cli.transfer import dump
from memx_sdk.cli.transfer.checking import Refused, refused_values
from memx_sdk.cli.transfer.progress import Count, counting
from memx_sdk.cli.transfer.replay import replay
from memx_sdk.cli.transfer.writing import EntryWriter, Existing, Tally
from memx_sdk.cli.values import compact
from memx_sdk.display import name as shown_name
from memx_sdk.errors import MemxError
from memx_sdk.protocol.keys import compile_pattern

_SIDE_BY_SIDE = 4
"""Batches under way at the same time."""
_LISTED = 10
"""Refused values that are named; all of them are counted."""


@connected
async def import_(
    session: Session,
    file: Annotated[str, typer.Argument(help="A dump; [bold]-[/] reads the standard input.")],
    pattern: Annotated[str, typer.Option(help="Only keys that match it.")] = "*",
    existing: Annotated[
        Literal["keep", "replace"],
        typer.Option(help="What becomes of a key that holds something else."),
    ] = "keep",
    history: Annotated[
        bool, typer.Option("--history", help="Replay the dump's changes of keys that are new here.")
    ] = False,
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="Leave out what a schema refuses.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
) -> None:
    """Bring a dump in. It is read through first, so that nothing of a broken one is written.

    Import it once more after an interruption: what is there already is left alone.
    """
    with _opened(session, file) as source:
        job = _Import(session, source, pattern, existing, dry_run=dry_run)
        refused = await job.check()
        _tell_refused(session, refused)
        if refused and not skip_refused:
            _fail(
                session,
                f"schemas on the server refuse {len(refused)} values, so nothing was written; "
                "--skip-refused imports the others",
                ExitCode.REFUSED,
            )
        with counting(session.output, job.contents.entries) as count:
            tally = await job.run(count, {each.key for each in refused}, with_history=history)
    _tell_refused(session, tally.refused)
    summary = {
        "written": tally.written,
        "present": tally.present,
        "kept": tally.kept,
        "expired": tally.expired,
        "refused": len(refused) + len(tally.refused),
        "replayed": tally.replayed,
        "dry_run": dry_run,
    }
    if session.output.as_json:
        session.output.document(summary)
    else:
        verb = "would be written" if dry_run else "written"
        session.output.note(
            f"{tally.written:,} {verb}, {tally.present:,} there already, {tally.kept:,} kept as they are, "
            f"{tally.expired:,} expired meanwhile, {summary['refused']:,} refused; {count.rate:,.0f} a second"
        )
    if tally.refused:
        raise typer.Exit(ExitCode.REFUSED)


class _Import:
    """One import.

    Attributes:
        contents: What the dump holds.
    """

    def __init__(
        self, session: Session, source: BinaryIO, pattern: str, existing: Existing, *, dry_run: bool
    ) -> None:
        self.contents = dump.examine(source)
        self._memory = session.memory
        self._source = source
        self._matches = compile_pattern(pattern)
        self._existing = existing
        self._dry_run = dry_run
        self._schemas = [each for each in self.contents.schemas if self._matches(each.key)]

    async def check(self) -> list[Refused]:
        """Find the values that schemas of the server would refuse, before anything is written."""
        present = {each["key"]: each["schema"] for each in await self._memory.schemas()}
        brought = {each.key for each in self._schemas}
        # A schema that the dump brings anew has let its values through before; one that stays may not.
        staying = [key for key in present if self._existing == "keep" or key not in brought]
        if not staying:
            return []
        return await refused_values(self._memory, self._entries(), staying)

    async def run(self, count: Count, left_out: set[str], *, with_history: bool) -> Tally:
        """Write what is to be written."""
        writer = EntryWriter(self._memory, self._existing, dry_run=self._dry_run)
        if with_history and not self._dry_run:
            changes = (
                each.change
                for _, _, each in self._lines()
                if each.change is not None and self._matches(each.change.key)
            )
            writer.tally.replayed = await replay(self._memory, changes)
        await self._bring_schemas()
        gate = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def write(batch: list[dump.DumpedEntry]) -> None:
            try:
                await writer.write(batch)
                count.done += len(batch)
            finally:
                gate.release()

        try:
            async with asyncio.TaskGroup() as group:
                entries = (each for each in self._entries() if each.key not in left_out)
                for batch in writer.batches(entries):
                    # No more is read than what is about to be written.
                    await gate.acquire()
                    group.create_task(write(batch))
        except BaseExceptionGroup as several:
            _raise_first(several, writer.tally.written)
        return writer.tally

    async def _bring_schemas(self) -> None:
        present = {each["key"]: each["schema"] for each in await self._memory.schemas()}
        for schema in self._schemas:
            there = present.get(schema.key)
            if there == schema.schema or (there is not None and self._existing == "keep"):
                continue
            if not self._dry_run:
                await self._memory.set_schema(schema.key, schema.schema)

    def _entries(self) -> Iterator[dump.DumpedEntry]:
        """Yield for each key its last entry, if that was not a deletion."""
        latest = self.contents.latest
        for _, start, each in self._lines():
            entry = each.entry
            if entry is None or not self._matches(entry.key):
                continue
            if start < self.contents.tail and entry.key in latest:
                continue  # what was written while the export ran comes behind the pages
            if start >= self.contents.tail and latest.get(entry.key) != start:
                continue  # it was written once more, or deleted
            yield entry

    def _lines(self) -> Iterator[tuple[int, int, dump.DumpLine]]:
        self._source.seek(0)
        return dump.lines(self._source)


@contextmanager
def _opened(session: Session, file: str) -> Iterator[BinaryIO]:
    """Open the dump; what is broken in it, or cannot be read, ends the command with one sentence."""
    try:
        if file == "-":
            with tempfile.TemporaryFile() as spooled:
                # It is read twice: once to see that it is whole, and once to import it.
                shutil.copyfileobj(sys.stdin.buffer, spooled)
                yield cast(BinaryIO, spooled)
        else:
            with Path(file).open("rb") as opened:
                yield opened
    except dump.DumpError as error:
        name = "the standard input" if file == "-" else file
        _fail(session, f"{name}: {error}; nothing was written", ExitCode.ERROR)
    except OSError as error:
        if isinstance(error, MemxError):
            raise
        _fail(session, f"cannot read {file}: {error.strerror}", ExitCode.ERROR)


def _raise_first(several: BaseExceptionGroup[BaseException], written: int) -> NoReturn:
    """Raise what ended an import, and say how far it has come."""
    error: BaseException = several
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, MemxError):
        raise error
    detail = f"{error.detail} ({written:,} entries were written; import the dump again to go on)"
    raise type(error)(error.code, detail, error.extra) from None


def _tell_refused(session: Session, refused: Iterable[Refused]) -> None:
    for place, each in enumerate(refused):
        if session.output.as_json:
            document = {"refused": each.key, "errors": each.errors}
            session.output.notes.file.write(compact(document) + "\n")
        elif place < _LISTED:
            session.output.note(f"refused: {shown_name(each.key)}", "red")
            for fault in each.errors[:2]:
                session.output.fault(fault)


def _fail(session: Session, why: str, code: ExitCode) -> NoReturn:
    session.output.failure(MemxError("import_failed", why))
    raise typer.Exit(code)
