"""LangGraph's long-term memory over memX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

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
from langchain_memx.connection import Connected, Flows, MemxConnection
from langchain_memx.store_items import MemxItem, MemxSearchItem


class MemxStore(Connected, BaseStore):
    """LangGraph's ``BaseStore``, shared by every process and framework that uses the same memX.

    Search filters items and lists the last written first; it has no vector index, so ``query`` is ignored, as
    LangGraph's own stores do without one. Values may be of any size. What somebody else wrote under the prefix, and
    is no item, counts as not there. Under the default prefix agents' tools do not see the items.

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
        super().__init__(connection)
        self.ttl_config = ttl
        self._flows = Flows(
            self._connection,
            lambda context: Items(context, prefix),
            lambda context: AsyncItems(context, prefix),
        )

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute operations; puts after all reads, the last put of a key wins.

        Raises:
            InvalidNamespaceError: A label is empty, no text, or holds a period.
            MemxError: memX refused something or cannot be reached.
        """
        return self._flows.here.batch(list(ops))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The same without blocking the event loop."""
        return await self._flows.of_loop.batch(list(ops))

    # LangGraph's methods, typed by what they return here: items that know their revision.

    def get(
        self, namespace: tuple[str, ...], key: str, *, refresh_ttl: bool | None = None
    ) -> MemxItem | None:
        """Read an item; its ``revision`` is for ``put_if``."""
        item = super().get(namespace, key, refresh_ttl=refresh_ttl)
        return cast("MemxItem | None", item)

    async def aget(
        self, namespace: tuple[str, ...], key: str, *, refresh_ttl: bool | None = None
    ) -> MemxItem | None:
        """The same without blocking the event loop."""
        item = await super().aget(namespace, key, refresh_ttl=refresh_ttl)
        return cast("MemxItem | None", item)

    def search(  # type: ignore[override]  # a list, as LangGraph says, but of items of a narrower type
        self,
        namespace_prefix: tuple[str, ...],
        /,
        *,
        query: str | None = None,
        filter: dict[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
    ) -> list[MemxSearchItem]:
        """Find items, the last written first.

        Raises:
            ValueError: The filter has an operator that LangGraph does not know.
        """
        found = super().search(
            namespace_prefix,
            query=query,
            filter=filter,
            limit=limit,
            offset=offset,
            refresh_ttl=refresh_ttl,
        )
        return cast("list[MemxSearchItem]", found)

    async def asearch(  # type: ignore[override]  # as above
        self,
        namespace_prefix: tuple[str, ...],
        /,
        *,
        query: str | None = None,
        filter: dict[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
    ) -> list[MemxSearchItem]:
        """The same without blocking the event loop."""
        found = await super().asearch(
            namespace_prefix,
            query=query,
            filter=filter,
            limit=limit,
            offset=offset,
            refresh_ttl=refresh_ttl,
        )
        return cast("list[MemxSearchItem]", found)

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
        return self._flows.here.put_if(op, revision)

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
        return await self._flows.of_loop.put_if(op, revision)

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
