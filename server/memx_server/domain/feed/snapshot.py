"""The snapshot: the state of a space under a pattern at one position of its log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from weakref import finalize

import msgspec

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import compile_pattern, is_pattern, literal_prefix
from memx_server.domain.byte_budget import ByteBudget
from memx_server.domain.feed.log_reader import patiently
from memx_server.domain.feed.messages import Event
from memx_server.domain.log_pages import up_to_head
from memx_server.storage.base import Change, Store, TooMuch
from memx_server.storage.encoding import is_unlogged, quote

_ROUNDS = 50
"""How often values that the log does not keep are read again before the builder gives up."""

_LOG_PAGE = 256

_COUNTED_AT_ONCE = 64 * 1024


class _Stamp(msgspec.Struct):
    revision: int


_decode_stamp = msgspec.json.Decoder(_Stamp).decode


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Snapshot:
    """The entries and schemas under a pattern at ``position``, as events without a cursor.

    Whoever needs it no longer lets go of it: its bytes count in the budget of the process as long as it lives.
    """

    events: Sequence[Event]
    position: Position


def entry_event(key: str, entry: bytes, *, snapshot: bool = True) -> Event:
    """Make the event for an entry as it is.

    Args:
        key: Its key.
        entry: Its JSON text.
        snapshot: Whether the event is a part of a snapshot, and says so.
    """
    last_member = b',"snapshot":true}' if snapshot else b"}"
    data = b'{"event":"value","action":"set",' + entry[1:-1] + last_member
    return Event("value", data, key=key)


@dataclass(slots=True)
class SnapshotBuilder:
    """Builds the snapshot of a pattern, of one moment although it is read over many.

    A store cannot hold still while thousands of entries are read, so the builder works like this:

    1. It notes the head (the *start*), then reads the entries page by page. Each is as of some
       moment after the start.
    2. It reads the log from the start to its end, and applies each change that is newer than the
       entry that it has. Whatever moment an entry was read at, that leads it to its state at the
       position that the log reading has reached (the *end*). The snapshot is of that position.
    3. A change may lack its value (``history: false``): then the entry is *unknown* at the end. All
       entries of that kind are read again, in one read, which is of one moment. The log is then
       followed up to that moment; where it holds none of these keys, everything is known there. Else
       once more, ``_ROUNDS`` times at the most.

    Attributes:
        byte_limit: The most bytes of events that it may hold.
        budget: Counts them, with those of other snapshots and large responses; None where nobody does.
    """

    store: Store
    space: str
    pattern: str
    kinds: frozenset[str]
    byte_limit: int
    budget: ByteBudget | None = None
    _size: int = 0
    _counted: int = 0
    _values: dict[str, bytes] = field(default_factory=dict)
    _schemas: dict[str, bytes] = field(default_factory=dict)
    # Keys whose last change in the log lacks the value, and all keys that ever were such.
    _unknown: set[str] = field(default_factory=set)
    _volatile: set[str] = field(default_factory=set)

    @property
    def _matches(self) -> Callable[[str], object]:
        return compile_pattern(self.pattern)

    async def build(self) -> Snapshot:
        """Read it.

        Raises:
            Compacted: The log was trimmed faster than it could be followed.
            Diverged: Writes were lost while it was read.
            ProtocolError: ``too_large`` where it outgrows the limit, ``unavailable`` where the process holds
                too many others, or where values that the log does not keep change faster than they can be read.
        """
        try:
            snapshot = await self._build()
        except BaseException:
            if self.budget is not None:
                self.budget.give_back(self.space, self._counted)
            raise
        if self.budget is not None:
            # It is shared: the last one to let go of it gives its bytes back.
            finalize(snapshot, self.budget.give_back, self.space, self._counted)
        return snapshot

    async def _build(self) -> Snapshot:
        # The start. Whatever is committed from here on is in the log after it, so that an entry may
        # be read before or after it is changed.
        position = await patiently(lambda: self.store.head(self.space))
        if "value" in self.kinds:
            await self._read_entries()
        if "schema" in self.kinds:
            await self._read_schemas()
        until: int | None = None
        for _ in range(_ROUNDS):
            position = await self._follow(position, until)
            if not self._unknown:
                # Every entry is as of this position: the ones that were read later have been read
                # only where the log up to here says the same.
                return Snapshot(self._events(), position)
            until = await self._read_volatile(position)
        raise ProtocolError(
            "unavailable",
            f"entries of {self.pattern!r} written with history: false change too fast for a "
            "snapshot; subscribe again, or without them",
            retry_after=1,
        )

    async def _read_entries(self) -> None:
        if not is_pattern(self.pattern):
            await self._read_keys([self.pattern])
            return
        prefix, after = literal_prefix(self.pattern), ""
        while True:
            page = await patiently(
                lambda after=after: self.store.list(self.space, prefix=prefix, after=after)  # type: ignore[misc]  # mypy cannot infer a default's type
            )
            for key, entry in page.entries:
                if self._matches(key) and not is_unlogged(entry):
                    self._keep(key, entry_event(key, entry).data)
            if page.after is None:
                return
            after = page.after

    async def _read_schemas(self) -> None:
        schemas = await patiently(lambda: self.store.schemas(self.space))
        for key, schema in schemas.by_pattern.items():
            if self._matches(key):
                self._schemas[key] = (
                    b'{"event":"schema","action":"schema","key":%s,"schema":%s,"snapshot":true}'
                    % (quote(key), schema)
                )

    async def _follow(self, position: Position, until: int | None) -> Position:
        """Apply the log after ``position`` up to revision ``until`` (None: the head)."""
        while until is None or position.revision < until:
            since = position
            page = up_to_head(
                await patiently(lambda since=since: self.store.log(self.space, since, _LOG_PAGE))  # type: ignore[misc]  # mypy cannot infer a default's type
            )
            for record in page.records:
                # A record is one transaction: the end never lies in the middle of one.
                if until is not None and record.position.revision > until:
                    return position
                position = record.position
                for change in record.changes or ():
                    if self._matches(change.key):
                        self._apply(change, position.revision)
            position = page.position
            if position.revision >= page.head:
                break
        return position

    def _apply(self, change: Change, revision: int) -> None:
        """Lead the state over one change of the log."""
        if change.action == "schema":
            if change.data.endswith(b',"schema":null}'):
                self._schemas.pop(change.key, None)
            elif "schema" in self.kinds:
                self._schemas[change.key] = _as_snapshot(change.data)
        # What an entry already shows is not applied: it was read after this change.
        elif "value" in self.kinds and revision > self._revision(change.key):
            self._unknown.discard(change.key)
            if change.action != "set":
                self._drop(change.key)
                self._volatile.discard(change.key)
            elif Event("value", change.data).bare:
                self._unknown.add(change.key)
            else:
                self._keep(change.key, _as_snapshot(change.data))

    def _revision(self, key: str) -> int:
        data = self._values.get(key)
        return 0 if data is None else _decode_stamp(data).revision

    async def _read_volatile(self, position: Position) -> int | None:
        """Read the entries of which some change lacked its value.

        Returns:
            The revision up to which the log is to be followed now: the newest of these entries. Up to
            there the log can hold no change of them that is newer than what was just read. None
            where one of the keys has no entry: when it was deleted only the log can say, so it is
            followed to its end.
        """
        self._volatile |= self._unknown
        self._unknown.clear()
        # In one read, so that all of them are of one moment. Of two moments, the newer entry's
        # revision would take the log past a change of the older one.
        keys = list(self._volatile)
        await self._read_keys(keys)
        if any(key not in self._values for key in keys):
            return None
        return max(position.revision, *(self._revision(key) for key in keys))

    async def _read_keys(self, keys: Sequence[str]) -> None:
        try:
            entries = await patiently(
                lambda: self.store.read(self.space, keys, most_bytes=self.byte_limit)
            )
        except TooMuch:
            raise self._too_large() from None
        for key, entry in zip(keys, entries, strict=True):
            if entry is None or is_unlogged(entry):
                self._drop(key)
            else:
                self._keep(key, entry_event(key, entry).data)

    def _drop(self, key: str) -> None:
        self._size -= len(self._values.pop(key, b""))

    def _keep(self, key: str, data: bytes) -> None:
        self._size += len(data) - len(self._values.get(key, b""))
        if self._size > self.byte_limit:
            raise self._too_large()
        # In steps, so that a small snapshot costs a comparison for each entry.
        if self.budget is not None and self._size > self._counted:
            step = max(_COUNTED_AT_ONCE, self._size - self._counted)
            self.budget.take(self.space, step)
            self._counted += step
        self._values[key] = data

    def _too_large(self) -> ProtocolError:
        return ProtocolError(
            "too_large",
            f"a snapshot of {self.pattern!r} is over the limit of {self.byte_limit} bytes; "
            "narrow the pattern, or read it page by page with GET /keys",
            limit=self.byte_limit,
        )

    def _events(self) -> list[Event]:
        schemas = [Event("schema", data, key=key) for key, data in sorted(self._schemas.items())]
        values = [Event("value", data, key=key) for key, data in sorted(self._values.items())]
        return schemas + values


def _as_snapshot(data: bytes) -> bytes:
    return data[:-1] + b',"snapshot":true}'
