"""The items of LangGraph's long-term memory as records of memX."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from langgraph.store.base import (
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    validate_op_namespace,
)

from langchain_memx.store_items import (
    ItemForm,
    MemxItem,
    MemxSearchItem,
    check_item_filter,
    in_namespace,
    item_members,
    matches_condition,
)
from memx_sdk import AsyncMemxContext, ForbiddenError
from memx_sdk.collections import AsyncRecords, Record, path, path_prefix, segment

_SECONDS = 60.0
"""LangGraph counts a TTL in minutes, memX in seconds."""

Stored = Mapping[str, Any]


class AsyncItems:
    """Executes LangGraph's operations on the items under a prefix.

    Args:
        context: Where the items are.
        prefix: What their keys start with.
    """

    def __init__(self, context: AsyncMemxContext, prefix: str) -> None:
        # The keys are the store's own, so that a namespace is a prefix of keys, and items can be watched.
        self._records: AsyncRecords[Stored] = AsyncRecords(
            context, prefix, form=ItemForm(), plain=True, encoded=True, noun="item"
        )

    async def batch(self, ops: Sequence[Op]) -> list[Result]:
        """Execute operations; puts after all reads, the last put of a key wins.

        Raises:
            InvalidNamespaceError: A label is empty, no text, or holds a period.
            ValueError: A filter has an operator that LangGraph does not know.
        """
        results: list[Result] = [None] * len(ops)
        puts: dict[str, PutOp] = {}
        gets: dict[int, GetOp] = {}
        for index, op in enumerate(ops):
            validate_op_namespace(op)
            if isinstance(op, GetOp):
                gets[index] = op
            elif isinstance(op, SearchOp):
                results[index] = await self._search(op)
            elif isinstance(op, ListNamespacesOp):
                results[index] = await self._list_namespaces(op)
            else:
                puts[_name(op.namespace, op.key)] = op
        for index, item in (await self._get(gets)).items():
            results[index] = item
        await self._put(puts)
        return results

    async def put_if(self, op: PutOp, revision: int) -> int:
        """Put an item if its key still has this revision (0: if there is none); return the new one."""
        name = _name(op.namespace, op.key)
        # The present item is read for its creation time: the revision decides who wins.
        seen = await self._records.get_many([name])
        return await self._records.put_many(
            {name: _stored(op, seen[name])},
            if_revisions={name: revision},
            ttl=_seconds(op.ttl),
            seen=seen,
        )

    async def _get(self, ops: Mapping[int, GetOp]) -> dict[int, Item]:
        """Read the items that operations ask for, all at once."""
        names = {index: _name(op.namespace, str(op.key)) for index, op in ops.items()}
        records = await self._records.get_many(names.values()) if names else {}
        found: dict[int, Item] = {}
        refreshed: list[Record[Stored]] = []
        for index, name in names.items():
            record = records[name]
            if record is not None:
                found[index] = MemxItem(revision=record.revision, **item_members(record))
                if ops[index].refresh_ttl:
                    refreshed.append(record)
        await self._refresh(refreshed)
        return found

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        check_item_filter(op.filter)

        def is_inside(record: Record[Stored]) -> bool:
            return in_namespace(op.namespace_prefix, record.value["namespace"])

        records = await self._records.list(
            prefix=path_prefix(op.namespace_prefix),
            order="newest",
            filter={"value": dict(op.filter)} if op.filter else None,
            where=is_inside,
            limit=op.offset + op.limit,
        )
        found = records[op.offset :]
        # Only what is returned counts as read.
        if op.refresh_ttl:
            await self._refresh(found)
        return [
            MemxSearchItem(revision=record.revision, **item_members(record)) for record in found
        ]

    async def _list_namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        conditions = op.match_conditions or ()
        # The longest prefix without a wildcard narrows what is read; every condition is checked afterwards.
        start: list[str] = []
        for condition in conditions:
            if condition.match_type == "prefix" and "*" not in condition.path:
                start = max(start, [str(part) for part in condition.path], key=len)
        namespaces = await self._namespaces(path_prefix(start))
        matching = {n for n in namespaces if all(matches_condition(c, n) for c in conditions)}
        if op.max_depth is not None:
            matching = {namespace[: op.max_depth] for namespace in matching}
        return sorted(matching)[op.offset : op.offset + op.limit]

    async def _namespaces(self, prefix: str) -> set[tuple[str, ...]]:
        """Find the namespaces of items: of all keys, and of one item for each namespace."""
        waiting: defaultdict[str, list[str]] = defaultdict(list)
        for name in await self._records.names(prefix):
            waiting[name.rpartition(":")[0]].append(name)
        found: set[tuple[str, ...]] = set()
        # Mostly one round: only where the first key of a namespace holds a foreign value is the next one looked at.
        while waiting:
            records = await self._records.get_many(names.pop() for names in waiting.values())
            for name, record in records.items():
                if record is not None:
                    found.add(tuple(record.value["namespace"]))
                    del waiting[name.rpartition(":")[0]]
            for place in [place for place, names in waiting.items() if not names]:
                del waiting[place]
        return found

    async def _put(self, puts: Mapping[str, PutOp]) -> None:
        deleted = [name for name, op in puts.items() if op.value is None]
        if deleted:
            await self._records.delete_many(deleted)
        written = {name: op for name, op in puts.items() if op.value is not None}
        if not written:
            return
        # Two that create an item at the same moment may both take their own time for its creation: the last put
        # wins, as LangGraph's put promises. put_if is for those who need to know.
        seen = await self._records.get_many(written)
        for ttl in {op.ttl for op in written.values()}:
            values = {
                name: _stored(op, seen[name]) for name, op in written.items() if op.ttl == ttl
            }
            await self._records.put_many(values, ttl=_seconds(ttl), seen=seen)

    async def _refresh(self, records: Iterable[Record[Stored]]) -> None:
        by_ttl: defaultdict[float, list[Record[Stored]]] = defaultdict(list)
        for record in records:
            if record.value.get("ttl") is not None:
                by_ttl[record.value["ttl"]].append(record)
        for minutes, expiring in by_ttl.items():
            with suppress(ForbiddenError):  # a reader without write keeps nothing alive
                await self._records.touch(expiring, minutes * _SECONDS)


def _name(namespace: Sequence[str], key: str) -> str:
    return f"{path(namespace)}:{segment(str(key))}"


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else minutes * _SECONDS


def _stored(op: PutOp, present: Record[Stored] | None) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {
        "namespace": list(op.namespace),
        "key": str(op.key),
        "value": dict(op.value or {}),
        "created_at": present.value["created_at"] if present else now,
        "ttl": op.ttl,
    }
