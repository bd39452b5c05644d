"""The reads of a space: entries, keys, the log, histories, schemas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from memx_sdk.protocol.cursors import Position
from memx_server.storage.base import (
    HISTORY_KEPT,
    Change,
    Compacted,
    Diverged,
    HistoryPage,
    KeyPage,
    LogPage,
    Record,
    RevisionPage,
    SpaceSchemas,
    TooMuch,
)
from memx_server.storage.encoding import revision_in
from memx_server.storage.redis.commit_codec import change_of, record_in_log
from memx_server.storage.redis.keyspace import Keyspace
from memx_server.storage.redis.network.topology import Script, Topology

NO_LINEAGE = "0"
"""Names the history of a space that never held anything; its only position is at revision 0."""

_PAGE_BYTES = 4 * 1024 * 1024
"""About how much a page of the log or of keys carries, whatever the number of its items."""

_REVISION_BYTES = 32
"""The beginning of an entry's text, in which its revision stands."""

_LOG_FIELDS = (b"lineage", b"head", b"floor", b"cuts", b"last")
_FIRST_RECORDS = 32
_HISTORY_STEPS = 32


@dataclass(frozen=True)
class LogState:
    """What tells whether a position can be served.

    Attributes:
        cuts: The last revision of each ended lineage that is part of the history.
        floor: The newest revision that is no longer in the log.
        last: The newest revision, which may be one of unlogged keys alone.
    """

    lineage: str
    head: int
    floor: int
    cuts: dict[str, int]
    last: int

    def check(self, since: Position) -> None:
        """Raise ``Diverged`` or ``Compacted`` where the log cannot go on from ``since``."""
        end = self.last if since.lineage == self.lineage else self.cuts.get(since.lineage, -1)
        if since.lineage == NO_LINEAGE:
            end = 0
        if since.revision > end:
            raise Diverged
        if since.revision < self.floor:
            raise Compacted


class RedisReads:
    """The reading half of the store."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._entries = Script("entries")
        self._history = Script("history")
        self._page = Script("keys")

    async def entries(
        self, space: Keyspace, keys: Sequence[str], most_bytes: int | None
    ) -> Sequence[bytes | None]:
        """Read entries of one moment, or raise ``TooMuch``."""
        if not keys:
            return []
        if len(keys) == 1:
            return [await self._topology.call(space.slot, b"GET", space.entry(keys[0]))]
        names = [space.entry(key) for key in keys]
        if most_bytes is None:
            found: list[bytes | None] = await self._topology.call(space.slot, b"MGET", *names)
            return found
        # MGET would answer with all of them, and there may be a gigabyte.
        fits, texts = await self._entries.run(self._topology, space.slot, names, [most_bytes])
        if fits < len(keys):
            raise TooMuch(fits)
        entries: list[bytes | None] = texts
        return entries

    async def head(self, space: Keyspace) -> Position:
        """The newest position."""
        lineage, head = await self._topology.call(
            space.slot, b"HMGET", space.meta, b"lineage", b"head"
        )
        return _position(lineage.decode() if lineage else NO_LINEAGE, int(head or 0))

    async def keys(self, space: Keyspace, prefix: str, after: str, limit: int) -> KeyPage:
        """Read a page of the index of keys together with the entries, as they are at one moment."""
        return await self._key_page(space, prefix, after, limit, b"")

    async def revisions(self, space: Keyspace, prefix: str, after: str, limit: int) -> RevisionPage:
        """Read a page of the index of keys together with the entries' revisions."""
        page = await self._key_page(space, prefix, after, limit, b"%d" % _REVISION_BYTES)
        return RevisionPage([(key, revision_in(text)) for key, text in page.entries], page.after)

    async def _key_page(
        self, space: Keyspace, prefix: str, after: str, limit: int, bytes_of_each: bytes
    ) -> KeyPage:
        """Read a page of keys with the first bytes of each entry, or with the whole of it (``b""``)."""
        first, last = _lex_range(prefix, after)
        # One more than ``limit`` shows whether there is a next page.
        most = limit + 1
        names: list[bytes] = await self._topology.call(
            space.slot, b"ZRANGEBYLEX", space.names, first, last, b"LIMIT", 0, most
        )
        # Two steps, since a script has to be given the keys of the entries that it reads. Where the index
        # has changed between them, the page ends before the first name whose entry was not read; where
        # that is the very first name, the script is run again with the names that it found.
        while names:
            current, texts = await self._page.run(
                self._topology,
                space.slot,
                [space.names, *[space.entry(name.decode()) for name in names[:limit]]],
                [first, last, most, _PAGE_BYTES, bytes_of_each],
            )
            page = _key_page(current, dict(zip(names, texts, strict=False)), limit)
            if page is not None:
                return page
            names = current
        return KeyPage([], None)

    async def log(self, space: Keyspace, since: Position | None, limit: int) -> LogPage:
        """Read the log after a position, None for the oldest kept."""
        count = min(limit, _FIRST_RECORDS)
        state, records = await self._log_batch(space, since, count)
        while len(records) == count < limit and (fitting := _fitting_behind(records)):
            more = min(limit - count, fitting)
            try:
                state, further = await self._log_batch(space, records[-1].position, more)
            except (Compacted, Diverged):
                # The log was trimmed or lost between two batches. What was read is good; the next call
                # of the reader finds out.
                break
            records += further
            count += more
        # A reader may stand above the head, at a revision without a record, and stays there.
        stands = max(state.head, 0 if since is None else since.revision)
        position = records[-1].position if records else _position(state.lineage, stands)
        return LogPage(records, position, state.head)

    async def history(
        self, space: Keyspace, key: str, limit: int, until: int | None
    ) -> HistoryPage:
        """Read the changes of a key, newest first."""
        changes: list[Change] = []
        begin, steps_left, complete = b"", HISTORY_KEPT, True
        size = 0
        while steps_left > 0 and len(changes) < limit and size < _PAGE_BYTES:
            begin, steps, untrimmed, *texts = await self._history.run(
                self._topology,
                space.slot,
                [space.meta, space.log, space.newest],
                [
                    *(key, begin, 2**53 if until is None else until, limit - len(changes)),
                    *(min(steps_left, _HISTORY_STEPS), _PAGE_BYTES, HISTORY_KEPT),
                ],
            )
            changes += [change_of(text) for text in texts]
            size += sum(map(len, texts))
            steps_left -= steps
            complete = complete and bool(untrimmed)
            if not begin:
                break
        return HistoryPage(changes, complete, more=bool(begin) and steps_left > 0)

    async def schemas(self, space: Keyspace) -> SpaceSchemas:
        """Read all schemas."""
        revision, fields = await self._topology.transact(
            space.slot, (b"HGET", space.meta, b"schemas"), (b"HGETALL", space.schemas)
        )
        patterns = (pattern.decode() for pattern in fields[::2])
        return SpaceSchemas(int(revision or 0), dict(zip(patterns, fields[1::2], strict=True)))

    async def _log_batch(
        self, space: Keyspace, since: Position | None, count: int
    ) -> tuple[LogState, list[Record]]:
        start = b"-" if since is None else b"%d-0" % (since.revision + 1)
        held, length, rows = await self._topology.transact(
            space.slot,
            (b"HMGET", space.meta, *_LOG_FIELDS),
            (b"XLEN", space.log),
            (b"XRANGE", space.log, start, b"+", b"COUNT", count),
        )
        state = _log_state(held, length)
        if since is not None:
            state.check(since)
        # What stands above the head has not been committed, and may be removed again (lua/repair.lua).
        records = [record_in_log(state.lineage, row) for row in rows]
        while records and records[-1].position.revision > state.head:
            records.pop()
        return state, records


def _log_state(held: Sequence[bytes | None], length: int) -> LogState:
    lineage, head, floor, cuts, last = held
    ended = (cut.rsplit(":", 1) for cut in (cuts or b"").decode().split())
    newest = int(head or 0)
    # The newest record always stays, so an empty log was evicted or deleted.
    return LogState(
        lineage=lineage.decode() if lineage else NO_LINEAGE,
        head=newest,
        floor=int(floor or 0) if length else newest,
        cuts={name: int(cut) for name, cut in ended},
        last=max(newest, int(last or 0)),
    )


def _position(lineage: str, revision: int) -> Position:
    """Make a position; the one before every record is the same in all lineages."""
    return Position(lineage if revision else NO_LINEAGE, revision)


def _fitting_behind(records: Sequence[Record]) -> int:
    """How many more records of this size fit into a page."""
    size = sum(len(change.data) for record in records for change in record.changes or ())
    return max(0, _PAGE_BYTES - size) * len(records) // max(1, size)


def _lex_range(prefix: str, after: str) -> tuple[bytes, bytes]:
    start, behind = prefix.encode(), after.encode()
    first = b"(" + behind if behind >= start else b"[" + start
    # No UTF-8 text holds the byte 255, so it sorts behind all that start with the prefix.
    return first if behind or start else b"-", b"(" + start + b"\xff"


def _key_page(
    names: Sequence[bytes], values: dict[bytes, bytes | None], limit: int
) -> KeyPage | None:
    """Make a page of ``names`` up to the first with no known value; None if that is the first."""
    known = list(takewhile(values.__contains__, names[:limit]))
    if names and not known:
        return None
    found = ((name.decode(), values[name]) for name in known)
    entries = [(key, value) for key, value in found if value is not None]
    return KeyPage(entries, known[-1].decode() if len(known) < len(names) else None)
