"""The items of LangGraph's long-term memory as records of memX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    MemxItem,
    check_filter,
    in_namespace,
    is_item,
    item_members,
    matches_condition,
    matches_filter,
)
from memx_sdk import AsyncMemxContext, Entry, ForbiddenError
from memx_sdk.collections import path, path_prefix, segment

_SECONDS = 60.0
"""LangGraph counts a TTL in minutes, memX in seconds."""

_ONE_TRANSACTION = 32


class AsyncItems:
    """Executes LangGraph's operations on the items under a prefix.

    Args:
        context: Where the items are.
        prefix: What their keys start with.
    """

    def __init__(self, context: AsyncMemxContext, prefix: str) -> None:
        self._context = context
        self._prefix = prefix

    async def batch(self, ops: Sequence[Op]) -> list[Result]:
        """Execute operations; puts after all reads, the last put of a key wins.

        Raises:
            InvalidNamespaceError: A label is empty, no text, or holds a period.
        """
        results: list[Result] = []
        puts: dict[str, PutOp] = {}
        for op in ops:
            validate_op_namespace(op)
            result: Result = None
            if isinstance(op, GetOp):
                result = await self._get(op)
            elif isinstance(op, SearchOp):
                result = await self._search(op)
            elif isinstance(op, ListNamespacesOp):
                result = await self._list_namespaces(op)
            else:
                puts[self._key(op.namespace, op.key)] = op
            results.append(result)
        await self._put(puts)
        return results

    async def put_if(self, op: PutOp, revision: int) -> int:
        """Put an item if its key still has this revision (0: if there is none); return the new one."""
        key = self._key(op.namespace, op.key)
        # The present item is read for its creation time alone: if_revision decides who wins.
        present = (await self._context.get(key)) if revision else None
        write = _write(key, op, present)
        written = await self._context.set(
            key, write["value"], ttl=write.get("ttl"), if_revision=revision
        )
        return int(written.revision)

    async def _get(self, op: GetOp) -> Item | None:
        entry = await self._context.get(self._key(op.namespace, str(op.key)))
        if entry is None or not is_item(entry):
            return None
        if op.refresh_ttl:
            await self._refresh(entry)
        return MemxItem(revision=entry.revision, **item_members(entry))

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        check_filter(op.filter)
        pattern = f"{self._prefix}:{path_prefix(op.namespace_prefix)}*"
        found = [
            entry
            for entry in await self._context.entries(pattern)
            if is_item(entry)
            and in_namespace(op.namespace_prefix, entry.value["namespace"])
            and matches_filter(entry.value["value"], op.filter)
        ][op.offset : op.offset + op.limit]
        # Only what is returned counts as read.
        if op.refresh_ttl:
            for entry in found:
                await self._refresh(entry)
        return [SearchItem(**item_members(entry)) for entry in found]

    async def _list_namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        conditions = op.match_conditions or ()
        # The longest prefix without a wildcard narrows what is read; every condition is checked afterwards.
        start: list[str] = []
        for condition in conditions:
            if condition.match_type == "prefix" and "*" not in condition.path:
                start = max(start, [str(part) for part in condition.path], key=len)
        entries = await self._context.entries(f"{self._prefix}:{path_prefix(start)}*")
        namespaces = {tuple(entry.value["namespace"]) for entry in entries if is_item(entry)}
        matching = {n for n in namespaces if all(matches_condition(c, n) for c in conditions)}
        if op.max_depth is not None:
            matching = {namespace[: op.max_depth] for namespace in matching}
        return sorted(matching)[op.offset : op.offset + op.limit]

    async def _put(self, puts: Mapping[str, PutOp]) -> None:
        keys = list(puts)
        for start in range(0, len(keys), _ONE_TRANSACTION):
            chunk = keys[start : start + _ONE_TRANSACTION]
            # Two that create an item at the same moment may both take their own time for its creation: the last
            # put wins, as LangGraph's put promises. put_if is for those who need to know.
            present = await self._context.mget(chunk)
            await self._context.txn(then=[_write(key, puts[key], present[key]) for key in chunk])

    async def _refresh(self, entry: Entry) -> None:
        minutes = entry.value.get("ttl")
        if minutes is not None:
            with suppress(ForbiddenError):  # a reader without write keeps nothing alive
                await self._context.touch(entry.key, minutes * _SECONDS)

    def _key(self, namespace: Sequence[str], key: str) -> str:
        return f"{self._prefix}:{path(namespace)}:{segment(key)}"


def _write(key: str, op: PutOp, present: Entry | None) -> dict[str, Any]:
    """Write the operation of a transaction that puts an item, or deletes it where it has no value."""
    if op.value is None:
        return {"op": "delete", "key": key}
    now = datetime.now(UTC).isoformat()
    value = {
        "namespace": list(op.namespace),
        "key": str(op.key),
        "value": dict(op.value),
        "created_at": present.value["created_at"] if present and is_item(present) else now,
        "ttl": op.ttl,
    }
    write: dict[str, Any] = {"op": "set", "key": key, "value": value}
    if op.ttl is not None:
        write["ttl"] = op.ttl * _SECONDS
    return write
