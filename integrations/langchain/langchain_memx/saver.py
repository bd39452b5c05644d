"""LangGraph's checkpointer over memX: a graph that stopped in one process goes on in another."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.store.base import TTLConfig

from langchain_memx._async.checkpoint_care import AsyncCheckpointCare
from langchain_memx._async.checkpoint_records import AsyncCheckpointRecords
from langchain_memx._async.checkpoints import AsyncCheckpoints
from langchain_memx._sync.checkpoint_care import CheckpointCare
from langchain_memx._sync.checkpoint_records import CheckpointRecords
from langchain_memx._sync.checkpoints import Checkpoints
from langchain_memx.connection import Connected, Flows, MemxConnection
from langchain_memx.known_types import restricted


class MemxSaver(Connected, BaseCheckpointSaver[str]):
    """A LangGraph checkpointer with all optional methods, for threads and for event loops.

    It writes without history, so that checkpoints do not push the team's history out of memX's log; it splits
    what is larger than a value may be; and it encodes thread, namespace and task ids, so that any text will do.

    It restores only known types: messages and LangGraph's own, dates, UUIDs, decimals, sets, paths, and those that
    ``types`` names. A state with an object of any other class is refused when it is stored, and again when it is read,
    so that nobody who can write a record makes the reader call what they like.

    Args:
        connection: Where memX is; by default what the environment says.
        prefix: What the keys start with. Under the default one agents' tools do not see them.
        types: The graph's state, and whatever else it stores: dataclasses, pydantic models, enums, named tuples.
            What their fields declare is known with them, so ``types=[State]`` is mostly enough.
        serde: LangGraph's serialiser, for example an encrypting one; it is held to ``types`` as well.
        ttl: Minutes after its last write after which a thread is gone (``default_ttl``), and whether reading it counts
            as well (``refresh_on_read``); as LangGraph's stores take it.

    Raises:
        TypeError: The connection is none.
        ValueError: A type cannot be restored, or the serialiser falls back on pickle.
    """

    def __init__(
        self,
        connection: MemxConnection | None = None,
        *,
        prefix: str = "memx:graph",
        types: Collection[Any] = (),
        serde: SerializerProtocol | None = None,
        ttl: TTLConfig | None = None,
    ) -> None:
        Connected.__init__(self, connection)
        BaseCheckpointSaver.__init__(self, serde=restricted(serde, types))
        minutes = (ttl or {}).get("default_ttl")
        self._prefix = prefix
        self._seconds = None if minutes is None else minutes * 60.0
        self._refresh = bool((ttl or {}).get("refresh_on_read"))
        self._make_flows()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read the checkpoint that the config names, or the newest of its thread and namespace."""
        return self._here.checkpoints.get(config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The same without blocking the event loop."""
        return await self._of_loop.checkpoints.get(config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Iterate over checkpoints, newest first."""
        # Records are found at once, values are read as the caller takes them: who wants the first pays for one.
        yield from self._here.checkpoints.iterate(config, filter, before, limit)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The same without blocking the event loop."""
        async for complete in self._of_loop.checkpoints.iterate(config, filter, before, limit):
            yield complete

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; it can be seen only once all its channel values can."""
        return self._here.checkpoints.put(config, checkpoint, metadata, new_versions)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """The same without blocking the event loop."""
        return await self._of_loop.checkpoints.put(config, checkpoint, metadata, new_versions)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote before its step was complete; the same write twice counts once."""
        self._here.checkpoints.put_writes(config, writes, task_id, task_path)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """The same without blocking the event loop."""
        await self._of_loop.checkpoints.put_writes(config, writes, task_id, task_path)

    def delete_thread(self, thread_id: str) -> None:
        """Delete all that belongs to a thread."""
        self._here.care.delete_thread(str(thread_id))

    async def adelete_thread(self, thread_id: str) -> None:
        """The same without blocking the event loop."""
        await self._of_loop.care.delete_thread(str(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of these runs, in all threads, with their pending writes."""
        self._here.care.delete_for_runs(run_ids)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """The same without blocking the event loop."""
        await self._of_loop.care.delete_for_runs(run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints of a thread, their channel values and pending writes."""
        self._here.care.copy_thread(source_thread_id, target_thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """The same without blocking the event loop."""
        await self._of_loop.care.copy_thread(source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete all but the newest checkpoint of each namespace, or (``delete``) all.

        What a ``DeltaChannel`` of the newest one is rebuilt from is kept too.

        Raises:
            ValueError: Another strategy.
        """
        self._here.care.prune(thread_ids, strategy)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """The same without blocking the event loop."""
        await self._of_loop.care.prune(thread_ids, strategy)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Count up; the random part keeps versions of parallel branches apart."""
        count = 0 if current is None else int(str(current).partition(".")[0])
        return f"{count + 1:032}.{random.random():016}"  # noqa: S311 - tells versions apart, keeps no secret

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Collect what delta channels were given since their last snapshot, in a few requests."""
        return self._here.care.delta_history(config, channels) if channels else {}

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """The same without blocking the event loop."""
        if not channels:
            return {}
        return await self._of_loop.care.delta_history(config, channels)

    def _make_flows(self) -> None:
        options = (self._prefix, self.serde, self._seconds, self._refresh)
        self._made_for = self.serde
        self._flows = Flows(
            self._connection,
            lambda context: _Flow.of(CheckpointRecords(context, *options)),
            lambda context: _AsyncFlow.of(AsyncCheckpointRecords(context, *options)),
        )

    # LangGraph's ``with_allowlist`` copies the saver and then replaces ``serde``: what serialises is made anew then.
    @property
    def _here(self) -> _Flow:
        if self._made_for is not self.serde:
            self._make_flows()
        return self._flows.here

    @property
    def _of_loop(self) -> _AsyncFlow:
        if self._made_for is not self.serde:
            self._make_flows()
        return self._flows.of_loop


class _Flow(NamedTuple):
    """What a saver does in threads."""

    checkpoints: Checkpoints
    care: CheckpointCare

    @classmethod
    def of(cls, records: CheckpointRecords) -> _Flow:
        checkpoints = Checkpoints(records)
        return cls(checkpoints, CheckpointCare(records, checkpoints))


class _AsyncFlow(NamedTuple):
    """What a saver does in an event loop."""

    checkpoints: AsyncCheckpoints
    care: AsyncCheckpointCare

    @classmethod
    def of(cls, records: AsyncCheckpointRecords) -> _AsyncFlow:
        checkpoints = AsyncCheckpoints(records)
        return cls(checkpoints, AsyncCheckpointCare(records, checkpoints))
