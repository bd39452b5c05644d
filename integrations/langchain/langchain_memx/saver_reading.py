"""Finds and reads checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
    writes_sort_key,
)

from langchain_memx.connection import Flow, do
from langchain_memx.saver_keys import Place, SaverKeys
from langchain_memx.saver_records import Records
from memx_sdk import Entry

_ONE_READ = 50


class CheckpointRecord(NamedTuple):
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


class Reading:
    """The flows that read."""

    def __init__(self, keys: SaverKeys, records: Records) -> None:
        self._keys = keys
        self._records = records

    def tuple(self, config: RunnableConfig) -> Flow[CheckpointTuple | None]:
        """Read the checkpoint that a config names, or the newest there."""
        place = Place.of(config["configurable"])
        if place.checkpoint:
            record = yield from self.record(place)
        else:
            newest = yield from do(
                "entries", self._keys.checkpoints(place.thread, place.namespace), limit=1
            )
            record = (yield from self._record(newest[0])) if newest else None
        if record is None:
            return None
        return (yield from self.complete(record))

    def record(self, place: Place) -> Flow[CheckpointRecord | None]:
        """Read a checkpoint's record by its place."""
        entry = yield from do("get", self._keys.checkpoint(place))
        return None if entry is None else (yield from self._record(entry))

    def records(
        self,
        config: RunnableConfig | None,
        wanted: Mapping[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Flow[list[CheckpointRecord]]:
        """Find records, newest first."""
        entries = yield from do("entries", self._pattern(config))
        only = get_checkpoint_id(config) if config else None
        bound = get_checkpoint_id(before) if before else None
        found: list[CheckpointRecord] = []
        for entry in sorted(entries, key=_checkpoint_id, reverse=True):
            if limit is not None and len(found) >= limit:
                break
            checkpoint = _checkpoint_id(entry)
            is_none = not checkpoint or not self._keys.is_checkpoint(entry.key)
            if is_none or (only and checkpoint != only):
                continue
            if bound and checkpoint >= bound:
                continue
            record = yield from self._record(entry)
            if all(record.metadata.get(name) == want for name, want in (wanted or {}).items()):
                found.append(record)
        return found

    def complete(self, record: CheckpointRecord) -> Flow[CheckpointTuple]:
        """Add the channel values and pending writes to a record."""
        place = record.place
        values = yield from self._channel_values(place, record.checkpoint["channel_versions"])
        writes = yield from self.pending_writes(place)
        parent = record.parent_place
        return CheckpointTuple(
            config=cast("RunnableConfig", place.config()),
            checkpoint=cast("Checkpoint", {**record.checkpoint, "channel_values": values}),
            metadata=cast("CheckpointMetadata", record.metadata),
            parent_config=None if parent is None else cast("RunnableConfig", parent.config()),
            pending_writes=writes,
        )

    def pending_writes(self, place: Place) -> Flow[list[PendingWrite]]:
        """Read a checkpoint's pending writes in LangGraph's order."""
        entries = yield from do("entries", self._keys.writes(place))
        writes: list[PendingWrite] = []
        for entry in sorted(entries, key=_write_order):
            stored = entry.value
            value = yield from self._records.unpack(place.thread, entry.key, stored["content"])
            writes.append((stored["task"], stored["channel"], value))
        return writes

    def _channel_values(self, place: Place, versions: ChannelVersions) -> Flow[dict[str, Any]]:
        channels = {self._keys.value(place, c, version): c for c, version in versions.items()}
        values: dict[str, Any] = {}
        for chunk in _chunks(list(channels), _ONE_READ):
            entries = yield from do("mget", chunk)
            for key, entry in entries.items():
                if entry is not None:
                    values[channels[key]] = yield from self._records.unpack(
                        place.thread, key, entry.value["content"]
                    )
        return values

    def _record(self, entry: Entry) -> Flow[CheckpointRecord]:
        stored = entry.value
        place = Place(*stored["place"])
        content = yield from self._records.unpack(place.thread, entry.key, stored["content"])
        return CheckpointRecord(
            place, stored["parent"], stored["run_id"], content["checkpoint"], content["metadata"]
        )

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


def _chunks(items: Sequence[str], size: int) -> list[Sequence[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
