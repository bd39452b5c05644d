"""Checkpoints, channel values and pending writes as records of memX."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from langchain_memx.keys import CheckpointKeys, Place
from memx_sdk import AsyncMemxContext, ConflictError, Entry

_ONE_READ = 50

_PART_BYTES = 600_000
"""As base64 800,000 characters: below memX's limit of 1 MiB for a value."""

_DELTA_COUNTERS = "counters_since_delta_snapshot"
"""In a checkpoint's metadata LangGraph counts, per ``DeltaChannel``, the updates since its last snapshot."""


class AsyncCheckpointRecord(NamedTuple):
    """A stored checkpoint without its channel values and pending writes."""

    place: Place
    parent: str | None
    run_id: str | None
    checkpoint: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def parent_place(self) -> Place | None:
        """Where its parent is."""
        return None if self.parent is None else self.place._replace(checkpoint=self.parent)


class AsyncCheckpoints:
    """Reads, writes and removes the records of checkpoints.

    A checkpoint is one record; each channel value that it refers to, and each pending write, is another. What is
    referred to is written before what refers to it, and removed after it, so that whoever finds a checkpoint
    finds all of it.

    Args:
        context: Where the records are.
        keys: Their keys.
        serde: LangGraph's serialiser.
    """

    def __init__(
        self, context: AsyncMemxContext, keys: CheckpointKeys, serde: SerializerProtocol
    ) -> None:
        self._context = context
        self._keys = keys
        self._serde = serde

    async def get(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read the checkpoint that a config names, or the newest of its thread and namespace."""
        place = Place.of(config["configurable"])
        if place.checkpoint:
            record = await self._record_at(place)
        else:
            # Keys of newer checkpoints sort first, so one entry is enough.
            pattern = self._keys.checkpoints(place.thread, place.namespace)
            newest = await self._context.entries(pattern, limit=1)
            record = (await self._record(newest[0])) if newest else None
        return None if record is None else await self.complete(record)

    async def find(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> list[AsyncCheckpointRecord]:
        """Find records, newest first.

        Args:
            config: The thread, and if it names them the namespace and the checkpoint; None for all threads.
            filter: Members that the metadata must have.
            before: A config whose checkpoint is newer than those that are found.
            limit: How many at the most.
        """
        entries = await self._context.entries(self._pattern(config))
        only = get_checkpoint_id(config) if config else None
        bound = get_checkpoint_id(before) if before else None
        found: list[AsyncCheckpointRecord] = []
        for entry in sorted(entries, key=_checkpoint_id, reverse=True):
            if limit is not None and len(found) >= limit:
                break
            checkpoint = _checkpoint_id(entry)
            is_none = not checkpoint or not self._keys.is_checkpoint(entry.key)
            if is_none or (only and checkpoint != only) or (bound and checkpoint >= bound):
                continue
            record = await self._record(entry)
            if all(record.metadata.get(name) == value for name, value in (filter or {}).items()):
                found.append(record)
        return found

    async def complete(self, record: AsyncCheckpointRecord) -> CheckpointTuple:
        """Add the channel values and pending writes to a record."""
        place = record.place
        values = await self._channel_values(place, record.checkpoint["channel_versions"])
        writes = await self._pending_writes(place)
        parent = record.parent_place
        return CheckpointTuple(
            config=cast("RunnableConfig", place.config()),
            checkpoint=cast("Checkpoint", {**record.checkpoint, "channel_values": values}),
            metadata=cast("CheckpointMetadata", record.metadata),
            parent_config=None if parent is None else cast("RunnableConfig", parent.config()),
            pending_writes=writes,
        )

    async def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and those of its channel values that are new.

        Returns:
            The config that names it.
        """
        place = Place.of(config["configurable"], checkpoint["id"])
        values = checkpoint["channel_values"]
        # The values first: a checkpoint that can be seen refers to nothing that is missing.
        for channel, version in new_versions.items():
            if channel in values:
                await self._put_value(place, channel, version, values[channel])
        owner = self._keys.checkpoint(place)
        bare = {name: part for name, part in checkpoint.items() if name != "channel_values"}
        about = get_checkpoint_metadata(config, metadata)
        content = await self._pack(place.thread, owner, {"checkpoint": bare, "metadata": about})
        record = {
            "place": list(place),
            "parent": config["configurable"].get("checkpoint_id"),
            "run_id": about.get("run_id"),
            "content": content,
        }
        await self._context.set(owner, record, history=False)
        return cast("RunnableConfig", place.config())

    async def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task: str, task_path: str
    ) -> None:
        """Store what a task wrote: a regular write that is there already stays, a special one is replaced."""
        place = Place.of(config["configurable"])
        for number, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, number)
            owner = self._keys.write(place, task, index)
            # LangGraph repeats a task's writes after a retry: the first ones count. This read only saves the
            # packing of what is there already; two that come here at once are settled by if_revision below.
            if index >= 0 and await self._context.get(owner) is not None:
                continue
            record = {
                "task": task,
                "path": task_path,
                "index": index,
                "channel": channel,
                "content": await self._pack(place.thread, owner, value),
            }
            try:
                await self._context.set(
                    owner, record, if_revision=0 if index >= 0 else None, history=False
                )
            except ConflictError:
                continue

    async def delete_thread(self, thread: str) -> None:
        """Delete all that belongs to a thread."""
        for key in await self._context.keys(self._keys.thread(thread)):
            await self._context.delete(key)

    async def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs, in whatever thread."""
        runs = set(run_ids)
        if not runs:
            return
        records = await self.find(None)
        for thread in {record.place.thread for record in records if record.run_id in runs}:
            of_thread = [record for record in records if record.place.thread == thread]
            await self._keep(of_thread, {r.place for r in of_thread if r.run_id not in runs})

    async def prune(self, threads: Sequence[str], strategy: str) -> None:
        """Keep the newest checkpoint of each namespace and what it needs, or nothing.

        Raises:
            ValueError: The strategy is neither ``keep_latest`` nor ``delete``.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy {strategy!r}: use keep_latest or delete")
        for thread in threads:
            if strategy == "delete":
                await self.delete_thread(thread)
                continue
            records = await self.find({"configurable": {"thread_id": thread}})
            newest: dict[str, AsyncCheckpointRecord] = {}
            for record in records:
                newest.setdefault(record.place.namespace, record)
            kept: set[Place] = set()
            for record in newest.values():
                kept |= await self._needed(record)
            await self._keep(records, kept)

    async def copy_thread(self, source: str, target: str) -> None:
        """Copy every checkpoint with its channel values and pending writes, each under its own id."""
        start = len(self._keys.thread(source)) - 1
        moved = self._keys.thread(target)[:-1]
        copies: list[tuple[str, str]] = []
        for key in await self._context.keys(self._keys.thread(source)):
            rest = key[start:]
            # Parts are named by a digest of their owner's key, so they are copied with their owner.
            if not rest.startswith("p:"):
                copies.append((key, moved + rest))
        # Channel values and writes first: a checkpoint can be seen only once all of it can.
        for key, copy in sorted(copies, key=lambda pair: self._keys.is_checkpoint(pair[0])):
            entry = await self._context.get(key)
            if entry is None:
                continue
            value = dict(entry.value)
            if "place" in value:
                value["place"] = [target, *value["place"][1:]]
            for number in range(value["content"].get("parts", 0)):
                part = await self._part(source, key, number)
                name = self._keys.part(target, copy, number)
                await self._context.set(name, part, history=False)
            await self._context.set(copy, value, history=False)

    async def _record_at(self, place: Place) -> AsyncCheckpointRecord | None:
        entry = await self._context.get(self._keys.checkpoint(place))
        return None if entry is None else await self._record(entry)

    async def _record(self, entry: Entry) -> AsyncCheckpointRecord:
        stored = entry.value
        place = Place(*stored["place"])
        content = await self._unpack(place.thread, entry.key, stored["content"])
        return AsyncCheckpointRecord(
            place, stored["parent"], stored["run_id"], content["checkpoint"], content["metadata"]
        )

    async def _pending_writes(self, place: Place) -> list[PendingWrite]:
        """Read a checkpoint's pending writes in LangGraph's order."""
        entries = await self._context.entries(self._keys.writes(place))
        writes: list[PendingWrite] = []
        for entry in sorted(entries, key=_write_order):
            stored = entry.value
            value = await self._unpack(place.thread, entry.key, stored["content"])
            writes.append((stored["task"], stored["channel"], value))
        return writes

    async def _channel_values(self, place: Place, versions: ChannelVersions) -> dict[str, Any]:
        channels = {self._keys.value(place, c, version): c for c, version in versions.items()}
        keys = list(channels)
        values: dict[str, Any] = {}
        for start in range(0, len(keys), _ONE_READ):
            entries = await self._context.mget(keys[start : start + _ONE_READ])
            for key, entry in entries.items():
                # A channel without a value at this version is empty: LangGraph counts its version all the same.
                if entry is not None:
                    content = entry.value["content"]
                    values[channels[key]] = await self._unpack(place.thread, key, content)
        return values

    async def _put_value(
        self, place: Place, channel: str, version: str | int | float, value: Any
    ) -> None:
        owner = self._keys.value(place, channel, version)
        content = await self._pack(place.thread, owner, value)
        record = {"channel": channel, "version": version, "content": content}
        await self._context.set(owner, record, history=False)

    async def _pack(self, thread: str, owner: str, value: Any) -> dict[str, Any]:
        """Serialise ``value`` for the entry ``owner``; what is too large for it is written first, in parts."""
        kind, data = self._serde.dumps_typed(value)
        if len(data) <= _PART_BYTES:
            return {"type": kind, "data": base64.b64encode(data).decode()}
        parts = [data[start : start + _PART_BYTES] for start in range(0, len(data), _PART_BYTES)]
        for number, part in enumerate(parts):
            text = base64.b64encode(part).decode()
            await self._context.set(self._keys.part(thread, owner, number), text, history=False)
        return {"type": kind, "parts": len(parts)}

    async def _unpack(self, thread: str, owner: str, packed: Mapping[str, Any]) -> Any:
        """Read back what ``_pack`` made.

        Raises:
            LookupError: A part is missing.
        """
        if "parts" not in packed:
            return self._serde.loads_typed((packed["type"], base64.b64decode(packed["data"])))
        data = b""
        for number in range(packed["parts"]):
            data += base64.b64decode(await self._part(thread, owner, number))
        return self._serde.loads_typed((packed["type"], data))

    async def _part(self, thread: str, owner: str, number: int) -> Any:
        part = await self._context.get(self._keys.part(thread, owner, number))
        if part is None:
            raise LookupError(f"part {number} of {owner} is missing")
        return part.value

    async def _remove(self, thread: str, owner: str) -> None:
        """Delete an entry, then its parts: whoever finds the entry finds its parts."""
        await self._context.delete(owner)
        for key in await self._context.keys(self._keys.parts(thread, owner)):
            await self._context.delete(key)

    async def _needed(self, record: AsyncCheckpointRecord) -> set[Place]:
        """Find what a checkpoint is rebuilt from: itself, and ancestors back to each delta channel's snapshot."""
        kept = {record.place}
        complete = await self.complete(record)
        missing = set(record.metadata.get(_DELTA_COUNTERS) or ())
        missing -= set(complete.checkpoint["channel_values"])
        parent = record.parent_place
        # A delta channel's value is its last snapshot plus the writes since: an ancestor that holds a value
        # of the channel holds the snapshot, and ends the walk for it.
        while missing and parent is not None:
            ancestor = await self._record_at(parent)
            if ancestor is None:
                break
            kept.add(ancestor.place)
            complete = await self.complete(ancestor)
            missing -= set(complete.checkpoint["channel_values"])
            parent = ancestor.parent_place
        return kept

    async def _keep(self, records: Sequence[AsyncCheckpointRecord], kept: set[Place]) -> None:
        """Delete all of these records but some, with the writes and values that nothing refers to any more."""
        for record in records:
            if record.place in kept:
                continue
            # The checkpoint first: it must not be seen without its writes and values.
            await self._remove(record.place.thread, self._keys.checkpoint(record.place))
            for key in await self._context.keys(self._keys.writes(record.place)):
                await self._remove(record.place.thread, key)
        used = {
            self._keys.value(record.place, channel, version)
            for record in records
            if record.place in kept
            for channel, version in record.checkpoint["channel_versions"].items()
        }
        for thread, namespace in {(r.place.thread, r.place.namespace) for r in records}:
            for key in await self._context.keys(self._keys.values(thread, namespace)):
                if key not in used:
                    await self._remove(thread, key)

    def _pattern(self, config: RunnableConfig | None) -> str:
        if config is None:
            return self._keys.all_checkpoints()
        configurable = config["configurable"]
        return self._keys.checkpoints(
            str(configurable["thread_id"]), configurable.get("checkpoint_ns")
        )


def _checkpoint_id(entry: Entry) -> str:
    """Read a checkpoint's id; empty for what is none, by whomever it was put there."""
    place = entry.value.get("place") if isinstance(entry.value, dict) else None
    return place[2] if place else ""


def _write_order(entry: Entry) -> tuple[str, str, int]:
    stored = entry.value
    return writes_sort_key(stored["path"], stored["task"], stored["index"])
