"""Changes of a log, each one transaction that moves its head."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from memx_sdk._async._concurrency import sleep
from memx_sdk._async.client import AsyncMemxContext
from memx_sdk.collections import envelope
from memx_sdk.collections._async.heads import MOST_OPERATIONS, AsyncHead, AsyncHeadState, read_entry
from memx_sdk.collections._async.split_values import AsyncSplitValues
from memx_sdk.collections.envelope import Split, Stored
from memx_sdk.collections.layout import Layout
from memx_sdk.collections.log_places import (
    bounds,
    groups,
    index_value,
    made_key,
    place_of,
    written_items,
)
from memx_sdk.collections.models import Appended
from memx_sdk.core.retry import CONTENTION
from memx_sdk.errors import ConflictError, MemxTimeout
from memx_sdk.models import TxnResult

_NAMED_AT_ONCE = 50
_BYTES_AT_ONCE = 4_000_000
_GIVE_UP = 30.0

Text = msgspec.Raw | Split


class AsyncPlaceChange(NamedTuple):
    """A change of one item.

    Attributes:
        key: The item's key.
        position: Its place and its number there.
        value: Its new value in a tuple; None to remove it.
    """

    key: str
    position: tuple[int, int]
    value: tuple[Any] | None


class AsyncNewItems(NamedTuple):
    """Items that are to be appended.

    Attributes:
        values: Their values, as JSON.
        keys: Their names; None where the log names them.
    """

    values: Sequence[Any]
    keys: Sequence[str] | None

    def without(self, held: set[str]) -> AsyncNewItems:
        """Leave out what the log holds already, and what comes a second time."""
        if self.keys is None:
            return self
        new: dict[str, Any] = {}
        for key, value in zip(self.keys, self.values, strict=True):
            if key not in held:
                new.setdefault(key, value)
        return AsyncNewItems(list(new.values()), list(new))


class AsyncLogWrites:
    """The changes of one log.

    Every change compares the head's revision and writes the head, so they are in one order, and the head's revision
    is the log's.

    Args:
        context: Where the log is.
        layout: Its keys.
        head: Its head.
        split: Writes what is too large for one entry.
        logged: Whether memX's log keeps the items' values.
    """

    def __init__(
        self,
        context: AsyncMemxContext,
        layout: Layout,
        head: AsyncHead,
        split: AsyncSplitValues,
        logged: bool,
    ) -> None:
        self._context = context
        self._layout = layout
        self._head = head
        self._split = split
        self._logged = logged

    async def append(
        self, values: Sequence[Any], keys: Sequence[str] | None, if_revision: int | None
    ) -> Appended:
        """Append items; named ones in steps of 50."""
        if keys is None or len(keys) <= _NAMED_AT_ONCE:
            return await self._append(AsyncNewItems(values, keys), if_revision)
        added, revision = 0, 0
        for start in range(0, len(keys), _NAMED_AT_ONCE):
            end = start + _NAMED_AT_ONCE
            step = AsyncNewItems(values[start:end], keys[start:end])
            done = await self._append(step, if_revision)
            added += done.added
            revision = done.revision
            if_revision = revision if if_revision is not None else None
        return Appended(list(keys), added, revision)

    async def rewrite(
        self, values: Sequence[Any], keys: Sequence[str] | None, if_revision: int | None
    ) -> Appended:
        """Replace all items by one write of the head, which names a new generation."""
        if keys is not None and len(keys) > _NAMED_AT_ONCE:
            raise ValueError(f"{len(keys)} named items; at once {_NAMED_AT_ONCE} at the most")
        if not values:
            await self.clear(if_revision)
            return Appended([], 0, 0)
        items = AsyncNewItems(values, keys).without(set())
        attempt, give_up = 0, time.monotonic() + _GIVE_UP
        state = await self._head.fresh()
        while True:
            self._check(state, if_revision)
            generation = self._layout.new_generation()
            texts = _texts(items)
            then = [self._head.write(state, generation, _members(1, 1 + len(texts)))]
            if state.generation:
                then.append(self._head.note(state.generation))
            then += await self._writes_of(items, texts, generation, 1)
            result = await self._commit(state, then)
            if result.succeeded:
                if state.generation:
                    await self._head.sweep(state.generation)
                return Appended(_keys(items, texts, 1), len(items.values), result.revision)
            state = await self._head.present()
            attempt += 1
            await self._pause(attempt, give_up)

    async def clear(self, if_revision: int | None) -> None:
        """Delete the head, then what it named."""
        state = await self._head.fresh()
        self._check(state, if_revision)
        while state.generation and not await self._head.delete(state):
            state = await self._head.present()
            self._check(state, if_revision)
        if state.generation:
            await self._head.sweep(state.generation)
        await self._head.sweep_notes()

    async def change(self, change: AsyncPlaceChange, revision: int) -> bool:
        """Change one item if the log still has this revision; tells whether it had."""
        state = await self._head.present()
        if state.revision != revision or not state.generation:
            return False
        place, _ = change.position
        key = self._layout.place(state.generation, place)
        parts = self._layout.parts(state.generation)
        found, _ = await self._split.read([key], parts=parts)
        if key not in found:
            return False
        first, end = bounds(state.members)
        then, is_gone = await self._changed(change, found[key], state.generation)
        # A log whose oldest items are removed one by one must not look at their empty places for ever.
        first = first + 1 if is_gone and place == first else first
        head = self._head.write(state, state.generation, _members(first, end))
        result = await self._commit(state, [head, *then])
        return result.succeeded

    async def _append(self, items: AsyncNewItems, if_revision: int | None) -> Appended:
        attempt, give_up = 0, time.monotonic() + _GIVE_UP
        # A revision that is expected is compared with what is there, and not with what was seen last.
        if if_revision not in (None, (await self._head.present()).own_revision):
            await self._head.fresh()
        while True:
            state, held = await self._look(items.keys or ())
            self._check(state, if_revision)
            new = items.without(held)
            if not new.values:
                return Appended(list(items.keys or ()), 0, state.revision)
            generation = state.generation or self._layout.new_generation()
            first, end = bounds(state.members) if state.generation else (1, 1)
            texts = _texts(new)
            members = _members(first, end + len(texts))
            then = [self._head.write(state, generation, members)]
            then += await self._writes_of(new, texts, generation, end)
            result = await self._commit(state, then)
            if result.succeeded:
                await self._appended(state, result)
                keys = items.keys if items.keys is not None else _keys(new, texts, end)
                return Appended(list(keys), len(new.values), result.revision)
            attempt += 1
            await self._pause(attempt, give_up)

    async def _look(self, keys: Sequence[str]) -> tuple[AsyncHeadState, set[str]]:
        """Ask which of these names the log holds, at the moment of the head that is returned."""
        if not keys:
            return await self._head.present(), set()
        while True:
            state = await self._head.present()
            names = {key: self._layout.index(state.generation, key) for key in keys}
            entries = await self._context.mget([self._layout.head, *names.values()])
            if self._head.learn(entries[self._layout.head]).generation == state.generation:
                break
        held = set()
        for key, name in names.items():
            entry = entries[name]
            if entry is not None and place_of(entry.value, key):
                held.add(key)
        return await self._head.present(), held

    async def _writes_of(
        self, items: AsyncNewItems, texts: Sequence[tuple[slice, Text]], generation: str, place: int
    ) -> list[dict[str, Any]]:
        """The operations that write items at places that nobody reads yet, and the index of their names."""
        operations: list[dict[str, Any]] = []
        for number, (part, text) in enumerate(texts, start=place):
            operations += await self._set(self._layout.place(generation, number), text, generation)
            for key in (items.keys or ())[part]:
                index = self._layout.index(generation, key)
                operations.append(self._expiring(index, index_value(key, number)))
        return operations

    async def _set(
        self, key: str, text: Text, generation: str, *, is_new: bool = True
    ) -> list[dict[str, Any]]:
        if not isinstance(text, Split):
            return [self._expiring(key, text, is_new=is_new)]
        parts = await self._split.stage(text, self._layout.parts(generation))
        lives = self._head.record_ttl
        touches = [{"op": "touch", "key": part, "touch": lives} for part in parts]
        return [self._expiring(key, text.pointer(), is_new=is_new), *touches]

    def _expiring(self, key: str, value: Any, *, is_new: bool = True) -> dict[str, Any]:
        write: dict[str, Any] = {"op": "set", "key": key, "value": value}
        if self._head.record_ttl is not None:
            write["ttl"] = self._head.record_ttl
        if self._logged:
            return write
        # A key is made as an unlogged one or never: the one that is there stays what it is.
        return {**write, "logged": False} if is_new else {**write, "history": False}

    async def _changed(
        self, change: AsyncPlaceChange, stored: Stored, generation: str
    ) -> tuple[list[dict[str, Any]], bool]:
        """The operations that change an item of a place, and whether the place is empty then."""
        place, number = change.position
        items = list(stored.value["items"])
        held = items[number]
        items[number] = None if change.value is None else {**held, "value": change.value[0]}
        key = self._layout.place(generation, place)
        then: list[dict[str, Any]] = [{"op": "delete", "key": part} for part in stored.parts]
        is_gone = not any(items)
        if is_gone:
            then.append({"op": "delete", "key": key})
        else:
            then += await self._set(
                key, envelope.write({"items": items}, None), generation, is_new=False
            )
        if change.value is None and "key" in held:
            then.append({"op": "delete", "key": self._layout.index(generation, change.key)})
        return then, is_gone

    async def _commit(self, state: AsyncHeadState, then: list[dict[str, Any]]) -> TxnResult:
        result = await self._context.txn(
            if_=[self._head.compare(state)], then=then, else_=[self._head.read_again()]
        )
        if result.succeeded:
            # What was written is known, but for the time that the store gave it.
            self._head.wrote(result, state, then[0]["value"])
        else:
            self._head.learn(read_entry(result.results[0]))
        return result

    async def _appended(self, state: AsyncHeadState, result: TxnResult) -> None:
        if not state.generation:
            await self._head.sweep_notes(limit=1)
        else:
            known = await self._head.present()
            await self._head.renew(result.results[0].get("expires_at"), known)

    def _check(self, state: AsyncHeadState, if_revision: int | None) -> None:
        """Refuse a change of a log that has another revision than its caller expects.

        Raises:
            ConflictError: It has.
        """
        revision = state.own_revision
        if if_revision is not None and if_revision != revision:
            raise ConflictError(
                "conflict",
                f"the log has revision {revision}, not {if_revision}",
                {"key": self._layout.head, "revision": revision},
            )

    async def _pause(self, attempt: int, give_up: float) -> None:
        if attempt == 1:
            return
        delay = CONTENTION.jitter(attempt - 1)
        if time.monotonic() + delay > give_up:
            raise MemxTimeout(
                "timeout", f"{self._layout.base!r} was contended for {_GIVE_UP:g} s; gave up"
            )
        await sleep(delay)


def _members(first: int, end: int) -> dict[str, Any]:
    """Write what a log keeps in its head."""
    return {"first": first, "next": end}


def _keys(items: AsyncNewItems, texts: Sequence[tuple[slice, Text]], place: int) -> list[str]:
    """The keys of new items: those that were given, or those that their places make."""
    if items.keys is not None:
        return list(items.keys)
    return [
        made_key(number, index)
        for number, (part, _) in enumerate(texts, start=place)
        for index in range(part.stop - part.start)
    ]


def _texts(items: AsyncNewItems) -> list[tuple[slice, Text]]:
    """Write items as the texts of places, so that all of them fit into one transaction.

    Raises:
        ValueError: They do not.
    """
    count = len(items.values)
    texts = [(part, _text(items, part)) for part in groups(count)]
    size = sum(len(bytes(text)) for _, text in texts if not isinstance(text, Split))
    touched = sum(len(text.texts) for _, text in texts if isinstance(text, Split))
    named = len(items.keys or ())
    if size <= _BYTES_AT_ONCE and len(texts) + touched + named + 2 <= MOST_OPERATIONS:
        return texts
    # Too much for one request: as one place it is written in parts, which the transaction only has to keep.
    whole = slice(0, count)
    return [(whole, _text(items, whole))]


def _text(items: AsyncNewItems, part: slice) -> Text:
    keys = None if items.keys is None else items.keys[part]
    return envelope.write(written_items(items.values[part], keys), None)
