"""LangGraph's long-term memory over memX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from langgraph.store.base import (
    NOT_PROVIDED,
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    NotProvided,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    validate_op_namespace,
)

from langchain_memx.connection import Flow, MemxConnection, do
from langchain_memx.names import path, path_prefix, segment
from langchain_memx.store_filters import in_namespace, matches_condition, matches_filter
from memx_sdk import Entry, ForbiddenError

_SECONDS = 60.0
"""LangGraph counts a TTL in minutes, memX in seconds."""

_ONE_TRANSACTION = 32

_MEMBERS = {"namespace", "key", "value", "created_at"}


class MemxItem(Item):
    """An item that knows the revision for a conditional put."""

    __slots__ = ("revision",)

    def __init__(self, *, revision: int, **item: Any) -> None:
        super().__init__(**item)
        self.revision = revision


class MemxStore(BaseStore):
    """LangGraph's ``BaseStore``, shared by every process and framework that uses the same memX.

    Search filters items and lists them in the order of namespace and key; it has no vector index, so ``query`` is
    ignored, as LangGraph's own stores do without one. What somebody else wrote under the prefix, and is no item,
    counts as not there.

    Args:
        connection: Where memX is; by default what the environment says.
        prefix: What the keys start with.
        ttl: LangGraph's TTL settings: ``default_ttl`` in minutes and ``refresh_on_read``.
    """

    supports_ttl = True

    def __init__(
        self,
        connection: MemxConnection | None = None,
        *,
        prefix: str = "store",
        ttl: TTLConfig | None = None,
    ) -> None:
        self._connection = connection or MemxConnection()
        self._prefix = prefix
        self.ttl_config = ttl

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute operations; puts after all reads, the last put of a key wins.

        Raises:
            InvalidNamespaceError: A label is empty, no text, or holds a period.
            MemxError: memX refused something or cannot be reached.
        """
        return self._connection.run(self._batch(list(ops)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The same without blocking the event loop."""
        return await self._connection.arun(self._batch(list(ops)))

    def put_if(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        revision: int,
        *,
        ttl: float | NotProvided | None = NOT_PROVIDED,
    ) -> int:
        """Put an item only if nobody else has since: what LangGraph's ``put`` lacks.

        Args:
            namespace: Where the item is.
            key: Its name there.
            value: Its new content.
            revision: ``MemxItem.revision`` of what was read; 0: only if there is none.
            ttl: Minutes until it expires, None for never; by default as the store's ``ttl`` says.

        Returns:
            The new revision.

        Raises:
            ConflictError: The item has changed; ``error.entry`` is what it holds now.
        """
        op = self._put_op(namespace, key, value, ttl)
        return self._connection.run(self._put_if(op, revision))

    async def aput_if(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        revision: int,
        *,
        ttl: float | NotProvided | None = NOT_PROVIDED,
    ) -> int:
        """The same without blocking the event loop."""
        op = self._put_op(namespace, key, value, ttl)
        return await self._connection.arun(self._put_if(op, revision))

    def _batch(self, ops: Sequence[Op]) -> Flow[list[Result]]:
        results: list[Result] = []
        puts: dict[str, PutOp] = {}
        for op in ops:
            validate_op_namespace(op)
            result: Result = None
            if isinstance(op, GetOp):
                result = yield from self._get(op)
            elif isinstance(op, SearchOp):
                result = yield from self._search(op)
            elif isinstance(op, ListNamespacesOp):
                result = yield from self._list_namespaces(op)
            else:
                puts[self._key(op.namespace, op.key)] = op
            results.append(result)
        yield from self._put(puts)
        return results

    def _get(self, op: GetOp) -> Flow[Item | None]:
        entry = yield from do("get", self._key(op.namespace, str(op.key)))
        if entry is None or not _is_item(entry):
            return None
        if op.refresh_ttl:
            yield from self._refresh(entry)
        return MemxItem(revision=entry.revision, **_item(entry))

    def _search(self, op: SearchOp) -> Flow[list[SearchItem]]:
        entries = yield from do("entries", f"{self._prefix}:{path_prefix(op.namespace_prefix)}*")
        found = [
            entry
            for entry in entries
            if _is_item(entry)
            and in_namespace(op.namespace_prefix, entry.value["namespace"])
            and matches_filter(entry.value["value"], op.filter)
        ][op.offset : op.offset + op.limit]
        if op.refresh_ttl:
            for entry in found:
                yield from self._refresh(entry)
        return [SearchItem(**_item(entry)) for entry in found]

    def _list_namespaces(self, op: ListNamespacesOp) -> Flow[list[tuple[str, ...]]]:
        conditions = op.match_conditions or ()
        start: list[str] = []
        for condition in conditions:
            if condition.match_type == "prefix" and "*" not in condition.path:
                start = max(start, [str(part) for part in condition.path], key=len)
        entries = yield from do("entries", f"{self._prefix}:{path_prefix(start)}*")
        namespaces = {tuple(entry.value["namespace"]) for entry in entries if _is_item(entry)}
        matching = {n for n in namespaces if all(matches_condition(c, n) for c in conditions)}
        if op.max_depth is not None:
            matching = {namespace[: op.max_depth] for namespace in matching}
        return sorted(matching)[op.offset : op.offset + op.limit]

    def _put(self, puts: Mapping[str, PutOp]) -> Flow[None]:
        keys = list(puts)
        for start in range(0, len(keys), _ONE_TRANSACTION):
            chunk = keys[start : start + _ONE_TRANSACTION]
            present = yield from do("mget", chunk)
            writes = [_write(key, puts[key], present[key]) for key in chunk]
            yield from do("txn", then=writes)

    def _put_op(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        ttl: float | NotProvided | None,
    ) -> PutOp:
        if isinstance(ttl, NotProvided):
            ttl = (self.ttl_config or {}).get("default_ttl")
        op = PutOp(namespace, key, dict(value), ttl=ttl)
        validate_op_namespace(op)
        return op

    def _put_if(self, op: PutOp, revision: int) -> Flow[int]:
        name = self._key(op.namespace, op.key)
        present = (yield from do("get", name)) if revision else None
        write = _write(name, op, present)
        written = yield from do(
            "set", name, write["value"], ttl=write.get("ttl"), if_revision=revision
        )
        return int(written.revision)

    def _refresh(self, entry: Entry) -> Flow[None]:
        minutes = entry.value.get("ttl")
        if minutes is not None:
            with suppress(ForbiddenError):  # who may only read does so, and keeps nothing alive
                yield from do("touch", entry.key, minutes * _SECONDS)

    def _key(self, namespace: Sequence[str], key: str) -> str:
        return f"{self._prefix}:{path(namespace)}:{segment(key)}"


def _write(key: str, op: PutOp, present: Entry | None) -> dict[str, Any]:
    if op.value is None:
        return {"op": "delete", "key": key}
    now = datetime.now(UTC).isoformat()
    value = {
        "namespace": list(op.namespace),
        "key": str(op.key),
        "value": dict(op.value),
        "created_at": present.value["created_at"] if present and _is_item(present) else now,
        "ttl": op.ttl,
    }
    write: dict[str, Any] = {"op": "set", "key": key, "value": value}
    if op.ttl is not None:
        write["ttl"] = op.ttl * _SECONDS
    return write


def _is_item(entry: Entry) -> bool:
    """Tell an item from what other agents, to whom every key is open, put in its place."""
    return isinstance(entry.value, dict) and entry.value.keys() >= _MEMBERS


def _item(entry: Entry) -> dict[str, Any]:
    stored = entry.value
    return {
        "namespace": tuple(stored["namespace"]),
        "key": stored["key"],
        "value": stored["value"],
        "created_at": datetime.fromisoformat(stored["created_at"]),
        "updated_at": datetime.fromtimestamp(entry.ts, UTC),
    }
