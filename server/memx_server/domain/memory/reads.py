"""Reading entries, histories and the change log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from memx_sdk.protocol.cursors import Position, decode_cursor, encode_cursor
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import match_cost, validate_key, validate_pattern
from memx_server.domain import responses
from memx_server.domain.access import Caller, Visibility, kinds_of
from memx_server.domain.log_pages import up_to_head
from memx_server.domain.memory.listing import check_count
from memx_server.domain.requests import (
    ChangesRequest,
    GetRequest,
    HistoryRequest,
    MgetRequest,
)
from memx_server.settings import Limits
from memx_server.storage.base import (
    Compacted,
    Diverged,
    LogPage,
    Store,
    StoreUnavailable,
    TooMuch,
)
from memx_server.storage.encoding import decode_entry, is_unlogged, quote

_log = logging.getLogger("memx_server")

_LOG_PAGE = 256
_RECORDS_PER_ANSWER = 20 * _LOG_PAGE
"""How many records of the log are looked at for one answer. They are counted, and not the store's pages,
since those are shorter where values are long: where an answer ends shows nothing of hidden values."""


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """Changes of the log that a caller sees.

    Attributes:
        changes: Their JSON texts.
        cursor: Where the reader stands after them, and after what it does not see.
        more: Whether the log goes on behind them.
    """

    changes: Sequence[bytes]
    cursor: str
    more: bool

    def text(self) -> bytes:
        """Return its JSON text."""
        return b'{"changes":%b,"cursor":"%b","more":%b}' % (
            responses.array(self.changes),
            self.cursor.encode(),
            responses.boolean(self.more),
        )


class EntryReads:
    """The operations that read single entries, histories and the change log.

    Args:
        store: Where they are read.
        limits: Bounds on requests.
    """

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits

    async def get(self, caller: Caller, request: GetRequest) -> bytes:
        """Read an entry's JSON text, or ``null``; with ``at``, as it was at that revision."""
        key = validate_key(request.key)
        principal = caller.principal
        principal.require("read", key)
        (entry,) = await self._store.read(principal.space, (key,))
        if request.at is not None:
            return await self._entry_at(principal.space, key, request.at, entry)
        return responses.NULL if entry is None else entry

    async def get_each(self, caller: Caller, keys: Sequence[str]) -> list[bytes | ProtocolError]:
        """Read entries of one moment, as many of them as one response may hold.

        Returns:
            For each key its entry (JSON text) or ``null``, or the error that refuses this key. Fewer than ``keys``
            where their entries are big, but one at the least; those of the others are to be asked for anew.
        """
        # By key and not by place: a key that comes twice is read once.
        refusals = {key: _refusal(caller, key) for key in keys}
        readable = [key for key, refusal in refusals.items() if refusal is None]
        try:
            entries = await self._store.read(
                caller.space, readable, most_bytes=self._limits.bound_for(len(readable))
            )
        except TooMuch as much:
            return await self.get_each(caller, keys[: keys.index(readable[much.fits])])
        found = {
            key: responses.NULL if entry is None else entry
            for key, entry in zip(readable, entries, strict=True)
        }
        return [refusals[key] or found[key] for key in keys]

    async def mget(self, caller: Caller, request: MgetRequest) -> bytes:
        """Read several entries of one moment, and a cursor that misses nothing after it."""
        keys = list(dict.fromkeys(request.keys))
        check_count(len(keys), self._limits.keys_per_read, "keys")
        for key in keys:
            caller.principal.require("read", validate_key(key))
        # Both questions leave in one turn of the loop, the head first. A change that is committed
        # between the two is in the entries and again after the cursor; the other way round it would
        # be in neither.
        bound = self._limits.bound_for(len(keys))
        try:
            head, entries = await asyncio.gather(
                self._store.head(caller.space),
                self._store.read(caller.space, keys, most_bytes=bound),
            )
        except TooMuch as much:
            raise responses.too_much(much, "keys", self._limits.response_bytes) from None
        members = b",".join(
            b"%b:%b" % (quote(key), responses.NULL if entry is None else entry)
            for key, entry in zip(keys, entries, strict=True)
        )
        return b'{"entries":{%b},"cursor":"%b"}' % (members, encode_cursor(head).encode())

    async def history(self, caller: Caller, request: HistoryRequest) -> bytes:
        """Read the changes of one key, newest first, a page at a time."""
        key = validate_key(request.key)
        caller.principal.require("read", key)
        check_count(request.limit, self._limits.page, "limit")
        page = await self._store.history(caller.space, key, request.limit, until=request.until)
        further = page.more and page.changes
        return b'{"key":%b,"changes":%b,"complete":%b,"next":%b}' % (
            quote(key),
            responses.array(change.data for change in page.changes),
            responses.boolean(page.complete),
            b"%d" % (responses.revision_of(page.changes[-1]) - 1) if further else responses.NULL,
        )

    async def changes(self, caller: Caller, request: ChangesRequest) -> ChangesPage:
        """Read what has changed after a cursor, and the cursor to go on from.

        Raises:
            ProtocolError: ``compacted`` or ``diverged`` where the log cannot be read from there;
                ``forbidden``, ``invalid_pattern``, ``invalid_cursor``.
        """
        pattern = validate_pattern(request.pattern)
        caller.principal.require_any_read(pattern)
        check_count(request.limit, self._limits.page, "limit")
        since = None if request.since is None else decode_cursor(request.since)
        readable = caller.principal.scopes.read
        visibility = Visibility(pattern, kinds_of(request.event), readable)
        found: list[bytes] = []
        left, room = _RECORDS_PER_ANSWER, self._limits.response_bytes
        # Many records may pass unseen before one that the caller may see. So several pages of the log
        # are read for one answer, but no more than a bound; the cursor moves past all of them.
        while True:
            page = await self._log(caller.space, since, min(left, _LOG_PAGE))
            first = since if found else None
            position, seen = await _collect(
                page, first, visibility, request.limit - len(found), room
            )
            found += seen
            room -= sum(map(len, seen))
            left -= len(page.records)
            is_full = len(found) >= request.limit or position != page.position
            if is_full or position.revision >= page.head or not left:
                break
            since = position
        return ChangesPage(found, encode_cursor(position), position.revision < page.head)

    async def _log(self, space: str, since: Position | None, limit: int) -> LogPage:
        try:
            return up_to_head(await self._store.log(space, since, limit))
        except (Compacted, Diverged) as gap:
            # The error carries the head, for the client to go on from.
            head = await self._store.head(space)
            await self._try(space, head)
            raise responses.gap_error(gap, head) from None

    async def _try(self, space: str, position: Position) -> None:
        """Read the log from a position that is about to be handed out.

        Raises:
            StoreUnavailable: The store refuses the position that it has just named; a client that got
                it would be refused for ever, and would call again at once.
        """
        try:
            await self._store.log(space, position, 1)
        except Compacted:
            pass  # so much was written meanwhile: the client will be given another position
        except Diverged:
            _log.warning("the log of a space cannot be read from its own head; answering 503")
            raise StoreUnavailable("the log cannot be read from its own head") from None

    async def _entry_at(self, space: str, key: str, at: int, present: bytes | None) -> bytes:
        """Return the entry as it was at revision ``at``, given the present one."""
        if present is not None and decode_entry(present).revision <= at:
            return present  # not written since
        # Else what the last change up to that revision left, if the log still has it.
        page = await self._store.history(space, key, 1, until=at)
        if present is not None and is_unlogged(present):
            raise responses.forgotten(key, at)  # nothing ever tells what an unlogged key was
        if page.changes:
            return responses.entry_after(page.changes[0])
        if page.complete:
            return responses.NULL  # no change before: there was no such key yet
        raise responses.forgotten(key, at)


def _refusal(caller: Caller, key: str) -> ProtocolError | None:
    """Return why ``caller`` cannot read ``key``; None where it can."""
    try:
        caller.principal.require("read", validate_key(key))
    except ProtocolError as refusal:
        return refusal
    return None


async def _collect(
    page: LogPage, before: Position | None, visibility: Visibility, limit: int, room: int
) -> tuple[Position, list[bytes]]:
    """Collect the visible changes of whole transactions, until there are ``limit`` of them or they fill ``room``.

    A transaction is never cut, since the cursor can only stand between two; so it may be a few more.

    Args:
        page: Where they are.
        before: The position before the page; None where a first change is to be collected however large it is.
        visibility: Which are visible.
        limit: How many.
        room: Bytes.

    Returns:
        The position behind them, and their texts.
    """
    found: list[bytes] = []
    for record in page.records:
        if match_cost(visibility.pattern):
            # Such a pattern takes microseconds for each of a page's thousands of changes.
            await asyncio.sleep(0)
        seen = [change.data for change in record.changes or () if visibility.sees_change(change)]
        room -= sum(map(len, seen))
        if room < 0 and seen and before is not None:
            return before, found
        found += seen
        if len(found) >= limit:
            return record.position, found
        if found:
            before = record.position
    return page.position, found
