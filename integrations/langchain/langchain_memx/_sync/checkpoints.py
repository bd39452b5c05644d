# Generated from integrations/langchain/langchain_memx/_async/checkpoints.py by tools/unasync.py; change that file, not this one.
"""LangGraph's operations on checkpoints, in few requests each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

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

from langchain_memx._sync.checkpoint_records import (
    MISSING,
    CheckpointRecord,
    CheckpointRecords,
)
from langchain_memx.keys import CHECKPOINTS, Place, checkpoints_in, writes_in
from memx_sdk import ConflictError
from memx_sdk.collections import Record

_PAGE = 100
_MOST_TOGETHER = 32
"""Checkpoints that are completed in one step while a list of them is read."""


class Checkpoints:
    """Reads and writes checkpoints.

    A checkpoint is one record; each channel value that it refers to, and each pending write, is another. What is
    referred to is written before what refers to it, or with it, so that whoever finds a checkpoint finds all of it.

    Args:
        records: The records.
    """

    def __init__(self, records: CheckpointRecords) -> None:
        self._records = records

    def get(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read the checkpoint that a config names, or the newest of its thread and namespace."""
        record = self.record(Place.of(config["configurable"]))
        if record is None:
            return None
        self._records.use(record.place.thread)
        (complete,) = self.complete([record])
        return complete

    def record(self, place: Place) -> CheckpointRecord | None:
        """Read the record of a checkpoint, or of the newest of its thread and namespace."""
        if not place.checkpoint:
            return self._newest(place)
        return self._records.checkpoint(self._records.of(place.thread).get(place.name))

    def iterate(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, newest first; the first ones at once, then more and more in one step."""
        found = self.find(config, filter, before, limit)
        start, size = 0, 1
        while start < len(found):
            for complete in self.complete(found[start : start + size]):
                yield complete
            start, size = start + size, min(2 * size, _MOST_TOGETHER)

    def find(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Sequence[CheckpointRecord]:
        """Find records, newest first.

        Args:
            config: The thread, and if it names them the namespace and the checkpoint; None for all threads.
            filter: Members that the metadata must have.
            before: A config whose checkpoint is newer than those that are found.
            limit: How many at the most.
        """
        only = get_checkpoint_id(config) if config else None
        bound = get_checkpoint_id(before) if before else None

        def fits(record: CheckpointRecord) -> bool:
            checkpoint = record.place.checkpoint
            if (only and checkpoint != only) or (bound and checkpoint >= bound):
                return False
            wanted = (filter or {}).items()
            return all(record.metadata.get(name) == value for name, value in wanted)

        if config is None:
            found = [each for each in self._everywhere() if fits(each)]
            found.sort(key=lambda each: each.place.checkpoint, reverse=True)
            return found[:limit]
        return self._in_thread(config["configurable"], fits, limit)

    def complete(self, records: Sequence[CheckpointRecord]) -> list[CheckpointTuple]:
        """Add the channel values and pending writes to records."""
        done: dict[int, CheckpointTuple] = {}
        for thread in dict.fromkeys(record.place.thread for record in records):
            of_thread = [
                (index, record)
                for index, record in enumerate(records)
                if record.place.thread == thread
            ]
            values = self.values(thread, [record for _, record in of_thread])
            writes = self.writes(thread, [record.place for _, record in of_thread])
            for (index, record), held in zip(of_thread, values, strict=True):
                done[index] = _complete(record, held, writes[record.place])
        return [done[index] for index in range(len(records))]

    def values(
        self, thread: str, records: Sequence[CheckpointRecord]
    ) -> list[dict[str, Any]]:
        """Read the channel values of checkpoints, each once that several share."""
        names = [record.values() for record in records]
        wanted = {name for each in names for name in each.values()}
        stored = self._records.of(thread).get_many(wanted)
        restored: dict[str, Any] = {}
        for name, record in stored.items():
            # A channel without a value at this version is empty: LangGraph counts its version all the same.
            restored[name] = (
                MISSING if record is None else self._records.unpack(thread, record)
            )
        return [
            {
                channel: restored[name]
                for channel, name in each.items()
                if restored[name] is not MISSING
            }
            for each in names
        ]

    def writes(self, thread: str, places: Sequence[Place]) -> dict[Place, list[PendingWrite]]:
        """Read the pending writes of checkpoints, in LangGraph's order."""
        records = self._records.of(thread)
        by_place: dict[Place, list[Record[Any]]] = {place: [] for place in places}
        # Writes may be added while they are read: LangGraph reads them again before it repeats a task.
        if len(places) == 1:
            by_place[places[0]] = [*records.list(prefix=places[0].writes)]
        else:
            self._writes_of_many(thread, by_place)
        found: dict[Place, list[PendingWrite]] = {}
        for place, stored in by_place.items():
            found[place] = []
            for record in sorted(filter(self._records.is_write, stored), key=_write_order):
                value = self._records.unpack(thread, record)
                if value is not MISSING:
                    found[place].append((record.value["task"], record.value["channel"], value))
        return found

    def put(
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
        stored: dict[str, Any] = {}
        # The values first: a checkpoint that can be seen refers to nothing that is missing.
        for channel, version in new_versions.items():
            if channel in values:
                name = place.value(channel, version)
                content = self._records.pack(place.thread, name, values[channel])
                stored[name] = {"channel": channel, "version": version, "content": content}
        bare = {name: part for name, part in checkpoint.items() if name != "channel_values"}
        about = get_checkpoint_metadata(config, metadata)
        content = {"checkpoint": bare, "metadata": about}
        stored[place.name] = {
            "place": list(place),
            "parent": config["configurable"].get("checkpoint_id"),
            "run_id": about.get("run_id"),
            "held": list(values),
            "content": self._records.pack(place.thread, place.name, content),
        }
        self._records.write(place.thread, stored)
        return cast("RunnableConfig", place.config())

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task: str, task_path: str
    ) -> None:
        """Store what a task wrote: a regular write that is there already stays, a special one is replaced."""
        place = Place.of(config["configurable"])
        stored: dict[str, Any] = {}
        conditions: dict[str, int] = {}
        for number, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, number)
            name = place.write(task, index)
            stored[name] = {
                "task": task,
                "path": task_path,
                "index": index,
                "channel": channel,
                "content": self._records.pack(place.thread, name, value),
            }
            if index >= 0:
                conditions[name] = 0
        # LangGraph repeats a task's writes after a retry: the first ones count. Mostly none is there yet, so that is
        # tried first; two that come here at once are settled by the conditions.
        while stored:
            try:
                self._records.write(place.thread, stored, conditions)
                return
            except ConflictError:
                there = self._records.of(place.thread).get_many(conditions)
            for name in [name for name, record in there.items() if record is not None]:
                del stored[name], conditions[name]

    def _newest(self, place: Place) -> CheckpointRecord | None:
        """Read the newest checkpoint of a namespace: the first name, since those of newer ones sort first."""
        records = self._records.of(place.thread)
        cursor: str | None = None
        limit = 1
        while True:
            page = records.page(
                prefix=checkpoints_in(place.namespace), limit=limit, cursor=cursor
            )
            for record in page.records:
                found = self._records.checkpoint(record)
                if found is not None:
                    return found
            # Only foreign values so far, which is rare: go on in pages.
            cursor, limit = page.next, _PAGE
            if cursor is None:
                return None

    def _in_thread(
        self, configurable: Mapping[str, Any], fits: Any, limit: int | None
    ) -> list[CheckpointRecord]:
        namespace = configurable.get("checkpoint_ns")
        prefix = CHECKPOINTS if namespace is None else checkpoints_in(str(namespace))
        records = self._records.of(str(configurable["thread_id"]))
        found: list[CheckpointRecord] = []
        cursor: str | None = None
        while True:
            size = _PAGE if limit is None else min(_PAGE, limit + 1)
            page = records.page(prefix=prefix, limit=size, cursor=cursor)
            found += [each for each in self._records.checkpoints(page.records) if fits(each)]
            cursor = page.next
            # In one namespace they come newest first, and enough is enough.
            is_enough = limit is not None and namespace is not None and len(found) >= limit
            if cursor is None or is_enough:
                break
        found.sort(key=lambda each: each.place.checkpoint, reverse=True)
        return found[:limit]

    def _everywhere(self) -> list[CheckpointRecord]:
        found: list[CheckpointRecord] = []
        for thread, names in self._records.threads():
            records = self._records.of(thread).get_many(names)
            found += self._records.checkpoints(records.values())
        return found

    def _writes_of_many(
        self, thread: str, by_place: Mapping[Place, list[Record[Any]]]
    ) -> None:
        records = self._records.of(thread)
        owners = {place.writes: place for place in by_place}
        names: dict[str, Place] = {}
        for namespace in dict.fromkeys(place.namespace for place in by_place):
            for name in records.names(writes_in(namespace)):
                owner = owners.get(f"{':'.join(name.split(':')[:3])}:")
                if owner is not None:
                    names[name] = owner
        for name, record in (records.get_many(names)).items():
            if record is not None:
                by_place[names[name]].append(record)


def _complete(
    record: CheckpointRecord, values: Mapping[str, Any], writes: Sequence[PendingWrite]
) -> CheckpointTuple:
    parent = record.parent_place
    return CheckpointTuple(
        config=cast("RunnableConfig", record.place.config()),
        checkpoint=cast("Checkpoint", {**record.checkpoint, "channel_values": dict(values)}),
        metadata=cast("CheckpointMetadata", record.metadata),
        parent_config=None if parent is None else cast("RunnableConfig", parent.config()),
        pending_writes=[*writes],
    )


def _write_order(record: Record[Any]) -> tuple[str, str, int]:
    stored = record.value
    return writes_sort_key(stored["path"], stored["task"], stored["index"])
