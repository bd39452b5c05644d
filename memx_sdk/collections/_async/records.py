"""Named records under a prefix."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, MutableSequence, Sequence
from typing import Any, Generic, TypeVar, cast

from memx_sdk._async.client import AsyncMemxContext
from memx_sdk.collections import envelope
from memx_sdk.collections._async.heads import AsyncHead
from memx_sdk.collections._async.record_writes import AsyncRecordWrites, AsyncSeen
from memx_sdk.collections._async.split_values import AsyncSplitValues
from memx_sdk.collections.envelope import Stored
from memx_sdk.collections.filters import check_filter, matches, may_be_sent
from memx_sdk.collections.foreign import ForeignValues
from memx_sdk.collections.forms import JSON, Form
from memx_sdk.collections.layout import Layout
from memx_sdk.collections.models import Record, RecordPage
from memx_sdk.core import reads
from memx_sdk.models import Entry

V = TypeVar("V")

_PAGE = 100
_FEW = 30
_log = logging.getLogger("memx_sdk.collections")
_NOT_OURS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a form may raise for a value that it did not write."""


class AsyncRecords(Generic[V]):
    """Named records under a prefix: any name, any size, each read and written whole.

    ::

        records = AsyncRecords(context, "memx:app", "settings of " + user)
        record = await records.get("theme")
        await records.put("theme", {"dark": True}, if_revision=record.revision if record else 0)

    What lies under the prefix and is none of the collection's records counts as not there, and is logged once.

    Args:
        context: Where memX is.
        root: What the keys of all collections of this kind start with.
        *name: Which collection; any texts. No collection's records are another's.
        form: How values are written as JSON and read back; by default JSON as it is.
        ttl: Seconds after its last write after which the whole collection is gone; None for never.
        refresh: With ``ttl``: reading counts as use, too.
        plain: The records lie at ``root:name:record`` for all to see and watch, and there is no head: `clear` then
            deletes step by step and not at once, and ``ttl`` has no effect (``put`` has one for each record).
        strict: Reading a record of which a part is missing raises `BrokenRecordError`; else it counts as not there.
        encoded: Names are the ends of keys as they are: the program has encoded them (`path`, `segment`).
        logged: False for bulk data that nobody watches, such as caches: its keys are unlogged ones, which no
            subscription, history or search shows, and which push nobody's history out.
        noun: What a record is called in the log of foreign values.
    """

    def __init__(
        self,
        context: AsyncMemxContext,
        root: str,
        *name: str,
        form: Form[V] | None = None,
        ttl: float | None = None,
        refresh: bool = False,
        plain: bool = False,
        encoded: bool = False,
        strict: bool = False,
        logged: bool = True,
        noun: str = "record",
    ) -> None:
        self._layout = Layout(root, name, plain=plain, encoded=encoded)
        self._foreign = ForeignValues(_log, noun)
        self._form: Form[V] = form or cast("Form[V]", JSON)
        self._context = context
        self._refresh = refresh
        self._split = AsyncSplitValues(context, self._foreign, strict)
        self._head = AsyncHead(context, self._layout, "records", self._foreign, ttl, logged)
        self._writes = AsyncRecordWrites(context, self._layout, self._head, self._split, logged)

    @property
    def pattern(self) -> str:
        """The pattern of the collection's keys, for a subscription."""
        return f"{self._layout.base}:*"

    async def get(self, name: str) -> Record[V] | None:
        """Read a record; None where there is none."""
        return (await self.get_many([name]))[name]

    async def get_many(self, names: Iterable[str]) -> dict[str, Record[V] | None]:
        """Read several records: up to 50 of one moment, more in a few requests.

        Returns:
            By name the record, or None where there is none.
        """
        wanted = list(dict.fromkeys(names))
        found = await self._read(wanted) if wanted else {}
        return {name: found.get(name) for name in wanted}

    async def put(
        self, name: str, value: V, *, if_revision: int | None = None, ttl: float | None = None
    ) -> int:
        """Write a record.

        Args:
            name: Its name.
            value: Its value.
            if_revision: Write only if the record has this revision; 0: only if there is none.
            ttl: Seconds after which it expires; None for never, or as the collection says.

        Returns:
            Its new revision.

        Raises:
            ConflictError: It has another revision; ``entry`` has its value as it is stored, read it with `get`.
            InvalidRequestError: It has no form in JSON.
            ValueError: It is larger than a record can be.
        """
        return await self.put_many(
            {name: value},
            if_revisions=None if if_revision is None else {name: if_revision},
            ttl=ttl,
        )

    async def put_many(
        self,
        values: Mapping[str, V],
        *,
        if_revisions: Mapping[str, int] | None = None,
        ttl: float | None = None,
        seen: Mapping[str, Record[V] | None] | None = None,
    ) -> int:
        """Write several records; up to 30 that are together under 4 MB at once, all or none.

        Args:
            values: Values by name.
            if_revisions: Revisions by name, as ``if_revision`` of `put`; only for as many as are written at once.
            ttl: As for `put`.
            seen: What `get_many` has just returned of these names; it saves the request that asks again.

        Returns:
            The revision of the last of them.
        """
        dumped = {name: self._form.dump(value) for name, value in values.items()}
        known = {
            name: AsyncSeen() if record is None else AsyncSeen(record.revision, record.parts)
            for name, record in (seen or {}).items()
        }
        return await self._writes.put(dumped, if_revisions or {}, ttl, known)

    async def touch(self, records: Iterable[Record[V]], ttl: float | None) -> None:
        """Let records expire ``ttl`` seconds from now, or never: in a few requests, without a revision."""
        await self._writes.touch([key for each in records for key in (each.key, *each.parts)], ttl)

    async def delete(self, name: str, *, if_revision: int | None = None) -> bool:
        """Delete a record; tells whether there was one.

        Raises:
            ConflictError: It has another revision than ``if_revision``.
        """
        conditions = {} if if_revision is None else {name: if_revision}
        return bool(await self._writes.delete([name], conditions))

    async def delete_many(self, names: Iterable[str]) -> int:
        """Delete several records in a few requests; tells how many there were."""
        wanted = list(dict.fromkeys(names))
        # Of many, what they hold is not read first, as long as nothing here lies in parts that would be left.
        if len(wanted) > _FEW and not await self._has_parts():
            return await self._writes.delete_keys(wanted)
        return await self._writes.delete(wanted, {})

    async def touch_all(self, ttl: float | None) -> None:
        """Let all that lies under the prefix expire ``ttl`` seconds from now, or never; for ``plain`` records."""
        await self._writes.touch(await self._context.keys(self.pattern), ttl)

    async def list(
        self,
        *,
        prefix: str = "",
        order: str = "name",
        filter: Mapping[str, Any] | None = None,
        where: Callable[[Record[V]], bool] | None = None,
        limit: int | None = None,
    ) -> Sequence[Record[V]]:
        """Read the records, in one list.

        Args:
            prefix: Only those whose names start with it.
            order: ``name``, ``newest`` (the last written first) or ``oldest``.
            filter: Conditions on members of the stored value, such as ``{"score": {"$gt": 5}, "kind": "note"}``;
                the operators are those of memX's lists: ``$eq $ne $gt $gte $lt $lte $in $nin $exists``.
            where: One more condition, of the program's own.
            limit: How many at the most.

        Raises:
            ValueError: The filter has an unknown operator, or the order is unknown.
        """
        if order not in ("name", "newest", "oldest"):
            raise ValueError(f"order {order!r}: use name, newest or oldest")
        check_filter(filter)
        sent = filter if filter and may_be_sent(filter) else None
        # The server lists by name or the newest first; the oldest are found among all.
        listed: reads.Order = "newest" if order == "newest" else "key"
        most = None if order == "oldest" else limit

        def fits(record: Record[V], stored: Any) -> bool:
            return matches(stored, filter) and (where is None or where(record))

        found = await self._gather(prefix, listed, sent, fits, most)
        if sent and await self._has_hidden():
            # What lies in parts, or in an envelope with its name, the server cannot look into.
            hidden = {envelope.MARK: {"$exists": True}}
            found += await self._gather(prefix, listed, hidden, fits, most)
            found = sorted(
                {record.name: record for record in found}.values(), key=lambda record: record.key
            )
        if order != "name":
            found = sorted(found, key=lambda record: record.revision, reverse=order == "newest")
        return found[:limit]

    async def page(
        self, *, prefix: str = "", limit: int = _PAGE, cursor: str | None = None
    ) -> RecordPage[V]:
        """Read one page of the records, by name.

        Args:
            prefix: Only those whose names start with it.
            limit: How many to look at, at the most.
            cursor: ``next`` of the page before. After a `clear` in between, the list ends.
        """
        found, following = await self._page(prefix, "key", None, limit, cursor)
        return RecordPage([record for record, _ in found], following)

    async def names(self, prefix: str = "") -> Sequence[str]:
        """List the names, sorted as their keys are; long ones cost reading their records."""
        while True:
            generation = "" if self._layout.plain else (await self._head.present()).generation
            if not generation and not self._layout.plain:
                return []
            keys = await self._context.keys(self._layout.records(generation, prefix))
            long = [key for key in keys if not self._layout.holds_name(generation, key)]
            stored, _ = await self._split.read(long, parts=self._layout.parts(generation))
            if self._layout.plain or (await self._now()).generation == generation:
                break
        names = [
            stored[key].name if key in stored else self._layout.name_of(generation, key)
            for key in keys
        ]
        return [name for name in names if name is not None and name.startswith(prefix)]

    async def clear(self) -> None:
        """Delete all records: for every reader at once, by one conditional write; then what is left of them, in steps.

        A crash in between loses nothing but time: whoever clears a collection of the same root next goes on.
        """
        if self._layout.plain:
            await self._writes.delete_all()
            return
        state = await self._head.fresh()
        while state.generation and not await self._head.delete(state):
            state = await self._head.present()
        if state.generation:
            await self._head.sweep(state.generation)
        await self._head.sweep_notes()

    async def sweep(self) -> int:
        """Finish what others left unswept under the same root; tells how many collections there were."""
        return await self._head.sweep_notes()

    async def __aiter__(self) -> AsyncIterator[Record[V]]:
        """Iterate over the records by name, a page at a time."""
        cursor: str | None = None
        while True:
            page = await self.page(cursor=cursor)
            for record in page.records:
                yield record
            cursor = page.next
            if cursor is None:
                return

    async def _gather(
        self,
        prefix: str,
        order: reads.Order,
        filter: Mapping[str, Any] | None,
        fits: Callable[[Record[V], Any], bool],
        limit: int | None,
    ) -> MutableSequence[Record[V]]:
        """Read pages until there are enough records that fit."""
        found: list[Record[V]] = []
        cursor: str | None = None
        while limit is None or len(found) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page, cursor = await self._page(prefix, order, filter, size, cursor)
            found += [record for record, stored in page if fits(record, stored)]
            if cursor is None:
                break
        return found

    async def _page(
        self,
        prefix: str,
        order: reads.Order,
        filter: Mapping[str, Any] | None,
        limit: int,
        cursor: str | None,
    ) -> tuple[Sequence[tuple[Record[V], Any]], str | None]:
        """Read a page of records, each with its stored value."""
        while True:
            plain = self._layout.plain
            generation = "" if plain else (await self._head.present()).generation
            entries: Sequence[Entry] = []
            following: str | None = None
            if generation or plain:
                pattern = self._layout.records(generation, prefix)
                page = await self._context.entry_page(
                    pattern, limit=limit, after=cursor, order=order, filter=filter
                )
                entries, following = page.items, page.next
            stored = await self._split.join(entries, self._layout.parts(generation))
            # The head is looked at after the records: if it still names their generation, then it did so while they
            # were read, and nothing of it had been swept.
            if plain or (await self._now()).generation == generation:
                break
            if cursor is not None:
                return [], None
        pairs = [(self._record(generation, each), each.value) for each in stored.values()]
        return [
            (record, value)
            for record, value in pairs
            if record is not None and record.name.startswith(prefix)
        ], following

    async def _has_hidden(self) -> bool:
        """Whether any record may lie in parts or in an envelope."""
        if not self._layout.plain or not self._layout.is_encoded:
            return True  # names may be long
        return await self._has_parts()

    async def _has_parts(self) -> bool:
        generation = "" if self._layout.plain else (await self._head.present()).generation
        parts = f"{self._layout.parts(generation)}*"
        return bool((await self._context.key_page(parts, limit=1)).items)

    async def _now(self) -> Any:
        state = await self._head.fresh()
        if self._refresh:
            await self._head.use(state)
        return state

    async def _read(self, names: Sequence[str]) -> dict[str, Record[V]]:
        while True:
            plain = self._layout.plain
            generation = "" if plain else (await self._head.present()).generation
            keys = [self._layout.record(generation, name) for name in names]
            parts = self._layout.parts(generation)
            found, head = await self._split.read(
                keys, parts=parts, beside=None if plain else self._layout.head
            )
            if plain or self._head.learn(head).generation == generation:
                break
        if self._refresh and not plain:
            await self._head.use(await self._head.present())
        records = (self._record(generation, stored) for stored in found.values())
        return {record.name: record for record in records if record is not None}

    def _record(self, generation: str, stored: Stored) -> Record[V] | None:
        """Make a record of what a key holds; None where it is none of ours."""
        entry = stored.entry
        name = stored.name
        if name is None:
            name = self._layout.name_of(generation, entry.key)
        try:
            # A name that its key does not hold must still be the one that the key was made of.
            if name is None or self._layout.record(generation, name) != entry.key:
                raise ValueError(entry.key)
            value = self._form.load(stored.value)
        except _NOT_OURS:
            self._foreign.note(entry.key)
            return None
        return Record(
            name,
            value,
            entry.revision,
            entry.version,
            entry.ts,
            entry.writer,
            entry.expires_at,
            entry.key,
            stored.parts,
        )
