"""The writes of an import: in transactions, on condition of what was there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from memx_sdk import AsyncMemxContext
from memx_sdk.cli.transfer.checking import Refused
from memx_sdk.cli.transfer.dump import DumpedEntry
from memx_sdk.errors import ConflictError, RequestError, SchemaViolationError
from memx_sdk.models import Entry

Existing = Literal["keep", "replace"]

_MOST = 60
"""Entries of a batch: each is a write and a compare, and a transaction takes 128 of both."""
_MOST_BYTES = 1024 * 1024
_ATTEMPTS = 5
_REASON = "memx import"


@dataclass
class Tally:
    """What became of the entries of a dump.

    Attributes:
        written: Were not there, or were replaced.
        present: Held the same value already.
        kept: Hold something else, and were left alone.
        expired: Were to expire by now.
        replayed: Changes of the dump's history that were written.
        refused: Were refused by a schema.
    """

    written: int = 0
    present: int = 0
    kept: int = 0
    expired: int = 0
    replayed: int = 0
    refused: list[Refused] = field(default_factory=list)


class EntryWriter:
    """Writes entries of a dump so that no write of an agent is lost by it.

    Each write is on condition of what was read before, so that two imports, or an import and agents, may run at the
    same time.

    Attributes:
        tally: What became of the entries so far.
    """

    def __init__(self, memory: AsyncMemxContext, existing: Existing, *, dry_run: bool) -> None:
        self._memory = memory
        self._existing = existing
        self._dry_run = dry_run
        self.tally = Tally()

    def batches(self, entries: Iterable[DumpedEntry]) -> Iterator[list[DumpedEntry]]:
        """Gather entries into batches that a transaction and a request can take."""
        batch: list[DumpedEntry] = []
        size = 0
        for entry in entries:
            length = len(bytes(entry.value)) + len(entry.key)
            if batch and (len(batch) == _MOST or size + length > _MOST_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(entry)
            size += length
        if batch:
            yield batch

    async def write(self, batch: list[DumpedEntry]) -> None:
        """Write a batch; what came in between, or is refused, is settled entry by entry."""
        wanted = {entry.key: entry for entry in batch}
        present = await self._memory.mget(wanted, model=msgspec.Raw)
        due = [entry for entry in wanted.values() if self._is_due(entry, present[entry.key])]
        if not due or self._dry_run:
            self.tally.written += len(due)
            return
        try:
            done = await self._memory.txn(
                if_=[{"key": each.key, "revision": _revision(present[each.key])} for each in due],
                then=[_operation(each, present[each.key]) for each in due],
                reason=_REASON,
            )
            if done.succeeded:
                self.tally.written += len(due)
                return
        except RequestError as error:
            if not _is_of_one_entry(error):
                raise
        for entry in due:
            await self._write_one(entry, present[entry.key])

    async def _write_one(self, entry: DumpedEntry, present: Entry[Any] | None) -> None:
        for _ in range(_ATTEMPTS):
            try:
                await self._memory.set(
                    entry.key,
                    entry.value,
                    if_revision=_revision(present),
                    ttl=_ttl(entry),
                    reason=_REASON,
                    logged=_logged(entry, present),
                )
            except ConflictError:
                present = await self._memory.get(entry.key, model=msgspec.Raw)
                if not self._is_due(entry, present):
                    return
            except SchemaViolationError as error:
                self.tally.refused.append(Refused(entry.key, error.errors))
                return
            except RequestError as error:
                if not _is_of_one_entry(error):
                    raise
                self.tally.refused.append(Refused(entry.key, [{"message": error.detail}]))
                return
            else:
                self.tally.written += 1
                return
        # Agents write it all the time: theirs is newer than the dump.
        self.tally.kept += 1

    def _is_due(self, entry: DumpedEntry, present: Entry[Any] | None) -> bool:
        """Count an entry that need not be written, and tell whether it must be."""
        ttl = _ttl(entry)
        if ttl is not None and ttl <= 0:
            self.tally.expired += 1
        elif present is None:
            return True
        elif bytes(present.value) == bytes(entry.value):
            self.tally.present += 1
        elif self._existing == "keep":
            self.tally.kept += 1
        else:
            return True
        return False


def _operation(entry: DumpedEntry, present: Entry[Any] | None) -> Mapping[str, Any]:
    operation = {"op": "set", "key": entry.key, "value": entry.value}
    options = {"ttl": _ttl(entry), "logged": _logged(entry, present)}
    return operation | {name: option for name, option in options.items() if option is not None}


def _logged(entry: DumpedEntry, present: Entry[Any] | None) -> bool | None:
    """Tell what a write says of the log: a new key is made as it was, others stay as they are."""
    return False if present is None and not entry.logged else None


def _ttl(entry: DumpedEntry) -> float | None:
    return None if entry.expires_at is None else round(entry.expires_at - time.time(), 3)


def _revision(present: Entry[Any] | None) -> int:
    return 0 if present is None else present.revision


def _is_of_one_entry(error: RequestError) -> bool:
    """Tell whether an error may be one value's fault, so that the others can go on without it."""
    return error.code in ("schema_violation", "too_large", "invalid_value", "invalid_request")
