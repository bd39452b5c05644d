# Generated from memx_sdk/collections/_async/log.py by tools/unasync.py; change that file, not this one.
"""Ordered, append-only lists of items."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar, cast

from memx_sdk._sync.client import memxContext
from memx_sdk.collections._sync.heads import Head, HeadState
from memx_sdk.collections._sync.log_writes import LogWrites, PlaceChange
from memx_sdk.collections._sync.split_values import SplitValues
from memx_sdk.collections.envelope import Stored
from memx_sdk.collections.foreign import ForeignValues
from memx_sdk.collections.forms import JSON, Form
from memx_sdk.collections.layout import Layout
from memx_sdk.collections.log_places import bounds, given_key, items_of, place_of
from memx_sdk.collections.models import Appended, LogItem, LogPage

V = TypeVar("V")

_log = logging.getLogger("memx_sdk.collections")
_NOT_OURS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a form may raise for a value that it did not write."""

_TRIES = 3
_SLACK = 1.25
"""How many more places than items a limited read looks at: some items were removed."""


class Log(Generic[V]):
    """An ordered list of items under a prefix, to which several writers append at once.

    ::

        log = Log(context, "memx:app", "session 7")
        log.append([question, answer])
        page = log.read(20)

    An append is seen whole or not at all, behind all that came before it. What lies under the prefix and is none of
    the log's items counts as not there, and is logged once.

    Args:
        context: Where memX is.
        root: What the keys of all logs of this kind start with.
        *name: Which log; any texts. No log's items are another's.
        form: How items are written as JSON and read back; by default JSON as it is.
        ttl: Seconds after its last change after which the whole log is gone; None for never.
        refresh: With ``ttl``: reading counts as use, too.
        logged: False for bulk data that nobody watches: its keys are unlogged ones, which no subscription, history or
            search shows.
        noun: What an item is called in the log of foreign values.
    """

    def __init__(
        self,
        context: memxContext,
        root: str,
        *name: str,
        form: Form[V] | None = None,
        ttl: float | None = None,
        refresh: bool = False,
        logged: bool = True,
        noun: str = "item",
    ) -> None:
        self._layout = Layout(root, name)
        self._foreign = ForeignValues(_log, noun)
        self._form: Form[V] = form or cast("Form[V]", JSON)
        self._context = context
        self._refresh = refresh
        self._split = SplitValues(context, self._foreign)
        self._head = Head(context, self._layout, "log", self._foreign, ttl, logged)
        self._writes = LogWrites(context, self._layout, self._head, self._split, logged)

    @property
    def pattern(self) -> str:
        """The pattern of the log's keys, for a subscription."""
        return f"{self._layout.base}:*"

    def append(
        self,
        items: Iterable[V],
        *,
        keys: Sequence[str] | None = None,
        if_revision: int | None = None,
    ) -> Appended:
        """Append items behind all that are there: together, in this order, all or none.

        Args:
            items: The items.
            keys: A name for each, any texts. An item whose name is in the log already is not appended again, so an
                append that is repeated changes nothing. More than 50 named items are appended in steps.
            if_revision: Append only if the log has this revision; 0: only if it is empty.

        Raises:
            ConflictError: The log has another revision.
            ValueError: The items are together larger than one append can be, or ``keys`` names more or fewer.
        """
        dumped = [self._form.dump(item) for item in items]
        if keys is not None and len(keys) != len(dumped):
            raise ValueError(f"{len(dumped)} items and {len(keys)} keys")
        return self._writes.append(dumped, keys, if_revision)

    def read(
        self,
        limit: int | None = None,
        *,
        oldest: bool = False,
        after: tuple[int, int] | None = None,
    ) -> LogPage[V]:
        """Read items, in their order.

        Args:
            limit: How many at the most: the newest, or with ``oldest`` or ``after`` the first ones; None for all.
            oldest: Read from the beginning.
            after: Only those behind this ``position``.
        """
        if limit is not None and limit < 1:
            return LogPage([], (self._head.fresh()).own_revision, True)
        tries = 0
        while True:
            state = self._head.present()
            first, end = bounds(state.members)
            first = first if after is None else max(first, after[0])
            places = range(first, end) if state.generation else range(0)
            backwards = not oldest and after is None
            items, now = self._window(state, places, limit, backwards, after)
            tries += 1
            # Nothing was appended or removed while it was read, so it is the log of one moment. One that others
            # change all the time is read up to where it was, once its head is no old memory of this object.
            is_still = now.revision == state.revision or tries > _TRIES
            if is_still and now.generation == state.generation:
                break
        if self._refresh:
            self._head.use(now)
        more = limit is not None and len(items) > limit
        if limit is not None:
            items = items[-limit:] if backwards else items[:limit]
        return LogPage(items, now.own_revision, more)

    def get(self, key: str) -> LogItem[V] | None:
        """Read the item of a name; None where there is none."""
        found = self._find(key)
        return None if found is None else found[1]

    def pop(self) -> LogItem[V] | None:
        """Remove the newest item and return it; None where there is none. No two callers get the same."""
        while True:
            page = self.read(1)
            if not page.items:
                return None
            item = page.items[-1]
            if self._change(item, None, page.revision):
                return item

    def remove(self, key: str) -> bool:
        """Remove the item of a name; tells whether there was one."""
        while True:
            found = self._find(key)
            if found is None:
                return False
            if self._change(found[1], None, found[0]):
                return True

    def replace(self, key: str, value: V) -> bool:
        """Put another value in an item's place; tells whether there was one."""
        dumped = self._form.dump(value)
        while True:
            found = self._find(key)
            if found is None:
                return False
            if self._change(found[1], (dumped,), found[0]):
                return True

    def rewrite(
        self,
        items: Iterable[V],
        *,
        keys: Sequence[str] | None = None,
        if_revision: int | None = None,
    ) -> Appended:
        """Put other items in the place of all: readers see the old ones or the new ones.

        Args:
            items: The items.
            keys: As for `append`; at the most 50.
            if_revision: As for `append`.

        Raises:
            ConflictError: The log has another revision.
            ValueError: The items are together larger than one transaction can be.
        """
        dumped = [self._form.dump(item) for item in items]
        if keys is not None and len(keys) != len(dumped):
            raise ValueError(f"{len(dumped)} items and {len(keys)} keys")
        return self._writes.rewrite(dumped, keys, if_revision)

    def clear(self, *, if_revision: int | None = None) -> None:
        """Delete all items: for every reader at once, by one conditional write; then what is left of them, in steps.

        Args:
            if_revision: Only if the log has this revision.

        Raises:
            ConflictError: The log has another revision.
        """
        self._writes.clear(if_revision)

    def revision(self) -> int:
        """Ask for the log's revision; 0 where it is empty."""
        return (self._head.fresh()).own_revision

    def sweep(self) -> int:
        """Finish what others left unswept under the same root; tells how many logs there were."""
        return self._head.sweep_notes()

    def _window(
        self,
        state: HeadState,
        places: range,
        limit: int | None,
        backwards: bool,
        after: tuple[int, int] | None,
    ) -> tuple[list[LogItem[V]], HeadState]:
        """Read a bit more than ``limit`` items, from one end of the places, and the head after them."""
        items: list[LogItem[V]] = []
        now = state
        while True:
            count = len(places) if limit is None else int((limit - len(items)) * _SLACK) + 1
            part = places[-count:] if backwards else places[:count]
            places = places[: -len(part) or None] if backwards else places[len(part) :]
            keys = [self._layout.place(state.generation, number) for number in part]
            found, head = self._split.read(
                keys, parts=self._layout.parts(state.generation), beside=self._layout.head
            )
            now = self._head.learn(head)
            read = [
                item
                for number, key in zip(part, keys, strict=True)
                if key in found
                for item in self._items(number, found[key])
                if after is None or item.position > after
            ]
            items = read + items if backwards else items + read
            enough = limit is not None and len(items) > limit
            if enough or not places or now.generation != state.generation:
                return items, now

    def _find(self, key: str) -> tuple[int, LogItem[V]] | None:
        """Find an item by its key, and the log's revision at that moment."""
        while True:
            state = self._head.present()
            place = self._place_of(state, key)
            name = self._layout.place(state.generation, place)
            found, head = self._split.read(
                [name], parts=self._layout.parts(state.generation), beside=self._layout.head
            )
            if self._head.learn(head).generation == state.generation:
                break
        items = self._items(place, found[name]) if name in found else []
        revision = (self._head.present()).revision
        return next(((revision, item) for item in items if item.key == key), None)

    def _place_of(self, state: HeadState, key: str) -> int:
        """Look up the place of a key: in the index, or in a key that the log has made itself; 0 for none."""
        index = self._layout.index(state.generation, key)
        entry = self._context.get(index)
        given = place_of(None if entry is None else entry.value, key)
        return given or given_key(key)

    def _items(self, place: int, stored: Stored) -> list[LogItem[V]]:
        entry = stored.entry
        items: list[LogItem[V]] = []
        try:
            for number, key, value in items_of(place, stored.value):
                loaded = self._form.load(value)
                items.append(LogItem(key, loaded, (place, number), entry.ts, entry.writer))
        except _NOT_OURS:
            self._foreign.note(entry.key)
        return items

    def _change(self, item: LogItem[V], value: tuple[Any] | None, revision: int) -> bool:
        """Remove an item or put another value in its place, if the log still has this revision."""
        return self._writes.change(PlaceChange(item.key, item.position, value), revision)
