"""The format of a dump, and the reading of one that may be broken or foreign.

A dump is JSON lines, each an object of one member that says what it is::

    {"memx_dump": {"format": 1, "version": ..., "space": ..., "pattern": ..., "cursor": ..., "history": false}}
    {"schema": {"key": "task:*", "schema": {...}}}
    {"change": {...}}        a change of the log, where the history was asked for
    {"entry": {...}}         an entry, as `GET /get` answers it
    {"page": "..."}          where an export that was interrupted goes on
    {"entry": {...}}         behind the last page: what was written while the export ran,
    {"gone": "task:7"}       and what was deleted or expired
    {"end": {"lines": 8, "cursor": ...}}

What stands behind the last page replaces what stands before it: together they are the state at the cursor of the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import msgspec

from memx_sdk.core.values import encode
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import compile_pattern, validate_key, validate_pattern

FORMAT: Final = 1
"""Raised with every change that an older version would misread."""

_LONGEST_LINE: Final = 16 * 1024 * 1024
"""Bytes above which a line is none of a dump: a value has 1 MiB unless the operator allows more."""


class DumpError(Exception):
    """The file is no whole dump; the text says what is wrong, and where."""


class DumpHeader(msgspec.Struct, kw_only=True):
    """What a dump says of itself in its first line."""

    format: int
    version: str = "?"
    space: str = "?"
    pattern: str = "*"
    cursor: str = ""
    history: bool = False


class DumpEnd(msgspec.Struct, kw_only=True):
    """The last line of a whole dump; ``lines`` counts those before it."""

    lines: int
    cursor: str = ""


class DumpedSchema(msgspec.Struct):
    """A schema and what it governs."""

    key: str
    schema: Any


class DumpedEntry(msgspec.Struct):
    """What an import takes from an entry."""

    key: str
    value: msgspec.Raw
    expires_at: float | None = None
    logged: bool = True


class DumpedChange(msgspec.Struct):
    """What an import takes from a change; ``value`` is unset where the log did not keep it."""

    key: str
    action: str
    ts: float = 0.0
    writer: str = ""
    reason: str | None = None
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class DumpLine(msgspec.Struct, forbid_unknown_fields=True):
    """One line; exactly one of its members is set."""

    memx_dump: DumpHeader | None = None
    schema: DumpedSchema | None = None
    change: DumpedChange | None = None
    entry: DumpedEntry | None = None
    gone: str | None = None
    page: str | None = None
    end: DumpEnd | None = None


@dataclass
class Contents:
    """What a whole dump holds.

    Attributes:
        header: Its first line.
        schemas: The schemas.
        entries: How many lines of entries there are.
        changes: How many changes.
        latest: For each key that was written while the export ran, where its last line begins; None where
            it was deleted. These go before the lines of the pages.
        tail: Where the lines behind the last page begin.
        resume: What an export goes on from: the last page that is whole, and where it ends.
    """

    header: DumpHeader
    schemas: list[DumpedSchema] = field(default_factory=list)
    entries: int = 0
    changes: int = 0
    latest: dict[str, int | None] = field(default_factory=dict)
    tail: int = 0
    resume: tuple[str, int, int] | None = None


_decode = msgspec.json.Decoder(DumpLine).decode


def line(kind: str, content: Any) -> bytes:
    """Make a line of a dump."""
    return b'{"%b":%b}\n' % (kind.encode(), encode(content))


def lines(file: BinaryIO) -> Iterator[tuple[int, int, DumpLine]]:
    """Read the lines of a dump.

    Yields:
        For each its number, where it begins, and what it holds.

    Raises:
        DumpError: A line is none of a dump, or cut off.
    """
    start = 0
    for number in range(1, 1 << 62):
        text = file.readline(_LONGEST_LINE)
        if not text:
            return
        yield number, start, _read(text, number)
        start += len(text)


def examine(file: BinaryIO, *, whole: bool = True) -> Contents:
    """Read a dump through from its beginning, before anything is done with it.

    Args:
        file: The dump.
        whole: Whether its end must be there; without, the rest of an interrupted export is examined.

    Raises:
        DumpError: It is broken, foreign, cut off, or of a newer memX.
    """
    file.seek(0)
    found: Contents | None = None
    ended = False
    last = 0
    try:
        for number, start, each in lines(file):
            if found is None:
                found = Contents(_header(each))
            elif ended:
                raise DumpError(f"line {number}: there is more behind the end of the dump")
            else:
                ended = _note(found, each, number, start)
            last = number
    except DumpError:
        # An export that was killed leaves half a line; it goes on from the last whole page.
        if whole or found is None:
            raise
    if found is None:
        raise DumpError("the file is empty")
    if whole and not ended:
        raise DumpError(
            f"the dump breaks off behind line {last}: the export was not finished, or the copy was not"
        )
    return found


def _note(found: Contents, each: DumpLine, number: int, start: int) -> bool:
    """Count a line; return whether it is the end."""
    match each:
        case DumpLine(schema=DumpedSchema() as schema):
            found.schemas.append(schema)
        case DumpLine(entry=DumpedEntry() as entry):
            found.entries += 1
            found.latest[entry.key] = start
        case DumpLine(gone=str() as key):
            found.latest[key] = None
        case DumpLine(change=DumpedChange()):
            found.changes += 1
        case DumpLine(page=str() as page):
            # What the pages hold need not be remembered: only what comes behind the last one replaces.
            found.latest.clear()
            found.tail = start
            found.resume = (page, start, number)
        case DumpLine(end=DumpEnd() as end):
            if end.lines != number - 1:
                raise DumpError(
                    f"the dump has {number - 1} lines before its end, which counts {end.lines}: "
                    "lines are missing, or there are too many"
                )
            return True
    return False


def _header(first: DumpLine) -> DumpHeader:
    header = first.memx_dump
    if header is None:
        raise DumpError("line 1: this is no dump of memX; `memx export` makes one")
    return header


def _read(text: bytes, number: int) -> DumpLine:
    if not text.endswith(b"\n"):
        why = "is longer than any line of a dump" if len(text) == _LONGEST_LINE else "is cut off"
        raise DumpError(f"line {number} {why}")
    if number == 1:
        _check_format(text)
    try:
        each = _decode(text)
        _check_names(each)
    except (ValueError, UnicodeDecodeError) as error:
        if number == 1:
            raise DumpError("line 1: this is no dump of memX; `memx export` makes one") from None
        raise DumpError(f"line {number} is no line of a dump: {error}") from None
    except ProtocolError as error:
        raise DumpError(f"line {number}: {error.detail}") from None
    return each


class _AnyHeader(msgspec.Struct):
    memx_dump: DumpHeader


def _check_format(text: bytes) -> None:
    """Refuse a newer format before the rest of its header is looked at."""
    try:
        header = msgspec.json.decode(text, type=_AnyHeader).memx_dump
    except (ValueError, UnicodeDecodeError):
        return  # it is no header at all, and will be refused as such
    if header.format > FORMAT:
        raise DumpError(
            f"the dump is of a newer memX ({header.version}, format {header.format}; this one reads up "
            f"to {FORMAT}): pip install --upgrade 'memx-sdk[cli]'"
        )


def _check_names(each: DumpLine) -> None:
    if each.schema is not None:
        validate_pattern(each.schema.key)
    elif each.memx_dump is not None:
        compile_pattern(validate_pattern(each.memx_dump.pattern))
    elif (named := each.entry or each.change) is not None:
        validate_key(named.key)
    elif each.gone is not None:
        validate_key(each.gone)
    elif each.page is None and each.end is None:
        raise ValueError("it holds nothing")
