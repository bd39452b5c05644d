"""LangChain's record manager over memX: which documents an index holds, and since when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from langchain_core.indexing import RecordManager

from langchain_memx.connection import Connected, Flows, MemxConnection
from memx_sdk.collections import AsyncRecords, ModelForm, Record, Records


class IndexedDocument(TypedDict):
    """What is kept of a document."""

    group_id: str | None


class MemxRecordManager(Connected, RecordManager):
    """The record manager of ``langchain_core.indexing.index``, shared by all indexers that use the same memX.

    A document was updated when memX says so: times are those of the store's clock, whatever the indexers' clocks say.

    Args:
        namespace: Names the index; any text.
        connection: Where memX is; by default what the environment says.
        prefix: What the keys start with.
    """

    def __init__(
        self,
        namespace: str,
        connection: MemxConnection | None = None,
        *,
        prefix: str = "memx:index",
    ) -> None:
        Connected.__init__(self, connection)
        RecordManager.__init__(self, namespace)
        options: dict[str, Any] = {
            "form": ModelForm(IndexedDocument),
            "logged": False,
            "noun": "indexed document",
        }
        self._flows: Flows[Records[IndexedDocument], AsyncRecords[IndexedDocument]] = Flows(
            self._connection,
            lambda context: Records(context, prefix, namespace, **options),
            lambda context: AsyncRecords(context, prefix, namespace, **options),
        )

    def create_schema(self) -> None:
        """Do nothing: memX needs no schema for it."""

    async def acreate_schema(self) -> None:
        """Do nothing: memX needs no schema for it."""

    def get_time(self) -> float:
        """Ask for the time of the store's clock."""
        return self._connection.context.txn(then=[]).ts

    async def aget_time(self) -> float:
        """The same without blocking the event loop."""
        return (await self._connection.async_context.txn(then=[])).ts

    def update(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Note that documents are in the index as of now.

        Args:
            keys: Their keys.
            group_ids: The group of each.
            time_at_least: A time that must not be in the future.

        Raises:
            ValueError: There are more or fewer groups than keys, or ``time_at_least`` is in the future.
        """
        documents = _documents(keys, group_ids)
        if time_at_least is not None:
            _check_time(time_at_least, self.get_time())
        self._flows.here.put_many(documents)

    async def aupdate(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """The same without blocking the event loop."""
        documents = _documents(keys, group_ids)
        if time_at_least is not None:
            _check_time(time_at_least, await self.aget_time())
        await self._flows.of_loop.put_many(documents)

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Tell of each document whether the index holds it."""
        found = self._flows.here.get_many(keys)
        return [found[key] is not None for key in keys]

    async def aexists(self, keys: Sequence[str]) -> list[bool]:
        """The same without blocking the event loop."""
        found = await self._flows.of_loop.get_many(keys)
        return [found[key] is not None for key in keys]

    def list_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """List documents.

        Args:
            before: Only those last updated before this time.
            after: Only those last updated after it.
            group_ids: Only those of these groups.
            limit: How many at the most.
        """
        fits = _condition(before, after, group_ids)
        found = self._flows.here.list(where=fits, limit=limit or None)
        return [record.name for record in found]

    async def alist_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """The same without blocking the event loop."""
        fits = _condition(before, after, group_ids)
        found = await self._flows.of_loop.list(where=fits, limit=limit or None)
        return [record.name for record in found]

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Forget documents; those that are not there are no error."""
        self._flows.here.delete_many(keys)

    async def adelete_keys(self, keys: Sequence[str]) -> None:
        """The same without blocking the event loop."""
        await self._flows.of_loop.delete_many(keys)


def _documents(
    keys: Sequence[str], group_ids: Sequence[str | None] | None
) -> dict[str, IndexedDocument]:
    if group_ids is not None and len(group_ids) != len(keys):
        raise ValueError(f"{len(keys)} keys and {len(group_ids)} groups")
    groups = group_ids or [None] * len(keys)
    return {key: IndexedDocument(group_id=group) for key, group in zip(keys, groups, strict=True)}


def _check_time(time_at_least: float, now: float) -> None:
    if time_at_least > now:
        raise ValueError(f"time_at_least is {time_at_least - now:.3f} s in the future of memX")


def _condition(
    before: float | None, after: float | None, group_ids: Sequence[str] | None
) -> Callable[[Record[IndexedDocument]], bool]:
    def fits(record: Record[IndexedDocument]) -> bool:
        return (
            (before is None or record.ts < before)
            and (after is None or record.ts > after)
            and (group_ids is None or record.value["group_id"] in group_ids)
        )

    return fits
