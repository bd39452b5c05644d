"""LangGraph's long-term memory over memX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from langgraph.store.base import (
    NOT_PROVIDED,
    BaseStore,
    NotProvided,
    Op,
    PutOp,
    Result,
    TTLConfig,
    validate_op_namespace,
)

from langchain_memx._async.items import AsyncItems
from langchain_memx._sync.items import Items
from langchain_memx.connection import MemxConnection


class MemxStore(BaseStore):
    """LangGraph's ``BaseStore``, shared by every process and framework that uses the same memX.

    Search filters items and lists them in the order of namespace and key; it has no vector index, so ``query`` is
    ignored, as LangGraph's own stores do without one. What somebody else wrote under the prefix, and is no item,
    counts as not there. Under the default prefix agents' tools do not see the items.

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
        prefix: str = "memx:store",
        ttl: TTLConfig | None = None,
    ) -> None:
        self._connection = MemxConnection.of(connection)
        self._prefix = prefix
        self.ttl_config = ttl

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute operations; puts after all reads, the last put of a key wins.

        Raises:
            InvalidNamespaceError: A label is empty, no text, or holds a period.
            MemxError: memX refused something or cannot be reached.
        """
        return self._items.batch(list(ops))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The same without blocking the event loop."""
        return await self._async_items.batch(list(ops))

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
        return self._items.put_if(op, revision)

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
        return await self._async_items.put_if(op, revision)

    def _put_op(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        ttl: float | NotProvided | None,
    ) -> PutOp:
        # LangGraph fills in the default TTL in put(), which put_if() does not pass through.
        if isinstance(ttl, NotProvided):
            ttl = (self.ttl_config or {}).get("default_ttl")
        op = PutOp(namespace, key, dict(value), ttl=ttl)
        validate_op_namespace(op)
        return op

    @property
    def _items(self) -> Items:
        return Items(self._connection.context, self._prefix)

    @property
    def _async_items(self) -> AsyncItems:
        return AsyncItems(self._connection.async_context, self._prefix)
