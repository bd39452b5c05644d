# Generated from integrations/langchain/langchain_memx/_async/checkpoints.py by tools/unasync.py; change that file, not this one.
"""Checkpoints, channel values and pending writes as records of memX."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

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
from langchain_memx.known_types import RefusedTypeError
from memx_sdk import memxContext, ConflictError, Entry
from memx_sdk.collections import ForeignValues

_ONE_READ = 50

_foreign = ForeignValues(logging.getLogger(__name__), "record of a checkpoint")

_PART_BYTES = 600_000
"""As base64 800,000 characters: below memX's limit of 1 MiB for a value."""

_MOST_PARTS = 10_000
"""More than anybody stores: a record that claims more is none of ours, and would make its reader ask for each."""

_MISSING: Final = object()
"""In place of a value that is not there; None is a value."""

_DELTA_COUNTERS = "counters_since_delta_snapshot"
"""In a checkpoint's metadata LangGraph counts, per ``DeltaChannel``, the updates since its last snapshot."""


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


class Checkpoints:
    """Reads, writes and removes the records of checkpoints.

    A checkpoint is one record; each channel value that it refers to, and each pending write, is another. What is
    referred to is written before what refers to it, and removed after it, so that whoever finds a checkpoint
    finds all of it. What is no record of ours, by whomever it was put there, counts as not there.

    Args:
        context: Where the records are.
        keys: Their keys.
        serde: LangGraph's serialiser.
    """

    def __init__(
        self, context: memxContext, keys: CheckpointKeys, serde: SerializerProtocol
    ) -> None:
        self._context = context
        self._keys = keys
        self._serde = serde

    def get(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read the checkpoint that a config names, or the newest of its thread and namespace."""
        place = Place.of(config["configurable"])
        if place.checkpoint:
            record = self._record_at(place)
        else:
            record = self._newest(place)
        return None if record is None else self.complete(record)

    def find(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> list[CheckpointRecord]:
        """Find records, newest first.

        Args:
            config: The thread, and if it names them the namespace and the checkpoint; None for all threads.
            filter: Members that the metadata must have.
            before: A config whose checkpoint is newer than those that are found.
            limit: How many at the most.
        """
        entries = [
            entry
            for entry in self._context.entries(self._pattern(config))
            if self._is_checkpoint(entry)
        ]
        only = get_checkpoint_id(config) if config else None
        bound = get_checkpoint_id(before) if before else None
        found: list[CheckpointRecord] = []
        for entry in sorted(entries, key=_checkpoint_id, reverse=True):
            if limit is not None and len(found) >= limit:
                break
            checkpoint = _checkpoint_id(entry)
            if (only and checkpoint != only) or (bound and checkpoint >= bound):
                continue
            record = self._record(entry)
            if record is None:
                continue
            if all(record.metadata.get(name) == value for name, value in (filter or {}).items()):
                found.append(record)
        return found

    def complete(self, record: CheckpointRecord) -> CheckpointTuple:
        """Add the channel values and pending writes to a record."""
        place = record.place
        values = self._channel_values(place, record.checkpoint["channel_versions"])
        writes = self._pending_writes(place)
        parent = record.parent_place
        return CheckpointTuple(
            config=cast("RunnableConfig", place.config()),
            checkpoint=cast("Checkpoint", {**record.checkpoint, "channel_values": values}),
            metadata=cast("CheckpointMetadata", record.metadata),
            parent_config=None if parent is None else cast("RunnableConfig", parent.config()),
            pending_writes=writes,
        )

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
        # The values first: a checkpoint that can be seen refers to nothing that is missing.
        for channel, version in new_versions.items():
            if channel in values:
                self._put_value(place, channel, version, values[channel])
        owner = self._keys.checkpoint(place)
        bare = {name: part for name, part in checkpoint.items() if name != "channel_values"}
        about = get_checkpoint_metadata(config, metadata)
        content = self._pack(place.thread, owner, {"checkpoint": bare, "metadata": about})
        record = {
            "place": list(place),
            "parent": config["configurable"].get("checkpoint_id"),
            "run_id": about.get("run_id"),
            "content": content,
        }
        self._context.set(owner, record, history=False)
        return cast("RunnableConfig", place.config())

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task: str, task_path: str
    ) -> None:
        """Store what a task wrote: a regular write that is there already stays, a special one is replaced."""
        place = Place.of(config["configurable"])
        for number, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, number)
            owner = self._keys.write(place, task, index)
            # LangGraph repeats a task's writes after a retry: the first ones count. This read only saves the
            # packing of what is there already; two that come here at once are settled by if_revision below.
            if index >= 0 and self._context.get(owner) is not None:
                continue
            record = {
                "task": task,
                "path": task_path,
                "index": index,
                "channel": channel,
                "content": self._pack(place.thread, owner, value),
            }
            try:
                self._context.set(
                    owner, record, if_revision=0 if index >= 0 else None, history=False
                )
            except ConflictError:
                continue

    def delete_thread(self, thread: str) -> None:
        """Delete all that belongs to a thread."""
        for key in self._context.keys(self._keys.thread(thread)):
            self._context.delete(key)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs, in whatever thread."""
        runs = set(run_ids)
        if not runs:
            return
        # All checkpoints of a thread are needed, not only those of the runs: what the others refer to stays.
        records = self.find(None)
        for thread in {record.place.thread for record in records if record.run_id in runs}:
            of_thread = [record for record in records if record.place.thread == thread]
            self._keep(of_thread, {r.place for r in of_thread if r.run_id not in runs})

    def prune(self, threads: Sequence[str], strategy: str) -> None:
        """Keep the newest checkpoint of each namespace and what it needs, or nothing.

        Raises:
            ValueError: The strategy is neither ``keep_latest`` nor ``delete``.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy {strategy!r}: use keep_latest or delete")
        for thread in threads:
            if strategy == "delete":
                self.delete_thread(thread)
                continue
            records = self.find({"configurable": {"thread_id": thread}})
            newest: dict[str, CheckpointRecord] = {}
            for record in records:
                newest.setdefault(record.place.namespace, record)
            kept: set[Place] = set()
            for record in newest.values():
                kept |= self._needed(record)
            self._keep(records, kept)

    def copy_thread(self, source: str, target: str) -> None:
        """Copy every checkpoint with its channel values and pending writes, each under its own id."""
        start = len(self._keys.thread(source)) - 1
        moved = self._keys.thread(target)[:-1]
        copies: list[tuple[str, str]] = []
        for key in self._context.keys(self._keys.thread(source)):
            rest = key[start:]
            # Parts are named by a digest of their owner's key, so they are copied with their owner.
            if not rest.startswith("p:"):
                copies.append((key, moved + rest))
        # Channel values and writes first: a checkpoint can be seen only once all of it can.
        for key, copy in sorted(copies, key=lambda pair: self._keys.is_checkpoint(pair[0])):
            entry = self._context.get(key)
            if entry is None or not _has_content(entry):
                continue
            value = dict(entry.value)
            if "place" in value:
                value["place"] = [target, *value["place"][1:]]
            for number in range(value["content"].get("parts", 0)):
                part = self._context.get(self._keys.part(source, key, number))
                if part is not None:
                    name = self._keys.part(target, copy, number)
                    self._context.set(name, part.value, history=False)
            self._context.set(copy, value, history=False)

    def _record_at(self, place: Place) -> CheckpointRecord | None:
        entry = self._context.get(self._keys.checkpoint(place))
        return None if entry is None else self._record(entry)

    def _newest(self, place: Place) -> CheckpointRecord | None:
        """Read the newest checkpoint of a namespace: the first key, since keys of newer ones sort first."""
        pattern = self._keys.checkpoints(place.thread, place.namespace)
        after: str | None = None
        limit = 1
        while True:
            page = self._context.entry_page(pattern, limit=limit, after=after)
            for entry in page.items:
                record = self._record(entry)
                if record is not None:
                    return record
            # Only foreign values so far, which is rare: go on in pages.
            after, limit = page.next, _ONE_READ
            if after is None:
                return None

    def _record(self, entry: Entry) -> CheckpointRecord | None:
        """Read a checkpoint's record; None for a foreign value."""
        if not self._is_checkpoint(entry):
            return None
        stored = entry.value
        place = Place(*stored["place"])
        content = self._unpack(place.thread, entry)
        if not (isinstance(content, dict) and content.keys() >= {"checkpoint", "metadata"}):
            _foreign.note(entry.key)
            return None
        return CheckpointRecord(
            place, stored["parent"], stored["run_id"], content["checkpoint"], content["metadata"]
        )

    def _is_checkpoint(self, entry: Entry) -> bool:
        """Whether an entry is a checkpoint's record at its own key: none can claim another's place."""
        if not self._keys.is_checkpoint(entry.key):
            return False  # the pattern of all threads matches other records, too
        stored = entry.value
        good = (
            _has_content(entry)
            and _is_place(stored.get("place"))
            and isinstance(stored.get("parent", 0), str | None)
            and isinstance(stored.get("run_id", 0), str | None)
            and self._keys.checkpoint(Place(*stored["place"])) == entry.key
        )
        if not good:
            _foreign.note(entry.key)
        return good

    def _pending_writes(self, place: Place) -> list[PendingWrite]:
        """Read a checkpoint's pending writes in LangGraph's order."""
        # Writes may be added while they are read: LangGraph reads them again before it repeats a task.
        found = self._context.entries(self._keys.writes(place))
        writes: list[PendingWrite] = []
        for entry in sorted(filter(_is_write, found), key=_write_order):
            stored = entry.value
            value = self._unpack(place.thread, entry)
            if value is not _MISSING:
                writes.append((stored["task"], stored["channel"], value))
        return writes

    def _channel_values(self, place: Place, versions: ChannelVersions) -> dict[str, Any]:
        channels = {self._keys.value(place, c, version): c for c, version in versions.items()}
        keys = list(channels)
        values: dict[str, Any] = {}
        for start in range(0, len(keys), _ONE_READ):
            entries = self._context.mget(keys[start : start + _ONE_READ])
            for key, entry in entries.items():
                # A channel without a value at this version is empty: LangGraph counts its version all the same.
                if entry is not None:
                    value = self._unpack(place.thread, entry)
                    if value is not _MISSING:
                        values[channels[key]] = value
        return values

    def _put_value(
        self, place: Place, channel: str, version: str | int | float, value: Any
    ) -> None:
        owner = self._keys.value(place, channel, version)
        content = self._pack(place.thread, owner, value)
        record = {"channel": channel, "version": version, "content": content}
        self._context.set(owner, record, history=False)

    def _pack(self, thread: str, owner: str, value: Any) -> dict[str, Any]:
        """Serialise ``value`` for the entry ``owner``; what is too large for it is written first, in parts.

        Raises:
            RefusedTypeError: It would not be restored.
        """
        try:
            kind, data = self._serde.dumps_typed(value)
        except RefusedTypeError as error:
            raise RefusedTypeError(f"{owner!r} cannot be stored: {error}") from None
        # Parts are written before the record that counts them, and a reader that finds the record finds them.
        if len(data) <= _PART_BYTES:
            return {"type": kind, "data": base64.b64encode(data).decode()}
        parts = [data[start : start + _PART_BYTES] for start in range(0, len(data), _PART_BYTES)]
        for number, part in enumerate(parts):
            text = base64.b64encode(part).decode()
            self._context.set(self._keys.part(thread, owner, number), text, history=False)
        return {"type": kind, "parts": len(parts)}

    def _unpack(self, thread: str, entry: Entry) -> Any:
        """Read back what ``_pack`` made; ``_MISSING`` for a foreign value.

        Raises:
            RefusedTypeError: It names a type that may not be restored.
            LookupError: A part of it is missing.
        """
        data = self._data(thread, entry) if _has_content(entry) else None
        if data is None:
            _foreign.note(entry.key)
            return _MISSING
        try:
            return self._serde.loads_typed((entry.value["content"]["type"], data))
        except RefusedTypeError as error:
            raise RefusedTypeError(f"{entry.key!r} cannot be restored: {error}") from None
        except (NotImplementedError, ValueError):  # no msgpack
            _foreign.note(entry.key)
            return _MISSING

    def _data(self, thread: str, entry: Entry) -> bytes | None:
        """Read the serialised bytes of a record; None where they are none.

        Raises:
            LookupError: A part is missing.
        """
        content = entry.value["content"]
        texts = [content.get("data")]
        if "parts" in content:
            names = [
                self._keys.part(thread, entry.key, number) for number in range(content["parts"])
            ]
            texts = [self._part(name) for name in names]
        try:
            return b"".join(base64.b64decode(text, validate=True) for text in texts)
        except (TypeError, ValueError):
            return None

    def _part(self, name: str) -> Any:
        part = self._context.get(name)
        if part is None:  # a state with a hole in it must not be taken for a whole one
            raise LookupError(f"{name!r}, a part of a checkpoint, is missing")
        return part.value

    def _remove(self, thread: str, owner: str) -> None:
        """Delete an entry, then its parts: whoever finds the entry finds its parts."""
        self._context.delete(owner)
        for key in self._context.keys(self._keys.parts(thread, owner)):
            self._context.delete(key)

    def _needed(self, record: CheckpointRecord) -> set[Place]:
        """Find what a checkpoint is rebuilt from: itself, and ancestors back to each delta channel's snapshot."""
        kept = {record.place}
        complete = self.complete(record)
        missing = set(record.metadata.get(_DELTA_COUNTERS) or ())
        missing -= set(complete.checkpoint["channel_values"])
        parent = record.parent_place
        # A delta channel's value is its last snapshot plus the writes since: an ancestor that holds a value
        # of the channel holds the snapshot, and ends the walk for it.
        while missing and parent is not None:
            ancestor = self._record_at(parent)
            if ancestor is None:
                break
            kept.add(ancestor.place)
            complete = self.complete(ancestor)
            missing -= set(complete.checkpoint["channel_values"])
            parent = ancestor.parent_place
        return kept

    def _keep(self, records: Sequence[CheckpointRecord], kept: set[Place]) -> None:
        """Delete all of these records but some, with the writes and values that nothing refers to any more."""
        for record in records:
            if record.place in kept:
                continue
            # The checkpoint first: it must not be seen without its writes and values.
            self._remove(record.place.thread, self._keys.checkpoint(record.place))
            for key in self._context.keys(self._keys.writes(record.place)):
                self._remove(record.place.thread, key)
        # Then the values that no kept checkpoint refers to. A put that runs meanwhile has written its values before
        # its checkpoint, and they could be taken for unused: LangGraph runs one writer on a thread at a time, and
        # prune is not for threads that are running.
        used = {
            self._keys.value(record.place, channel, version)
            for record in records
            if record.place in kept
            for channel, version in record.checkpoint["channel_versions"].items()
        }
        for thread, namespace in {(r.place.thread, r.place.namespace) for r in records}:
            for key in self._context.keys(self._keys.values(thread, namespace)):
                if key not in used:
                    self._remove(thread, key)

    def _pattern(self, config: RunnableConfig | None) -> str:
        if config is None:
            return self._keys.all_checkpoints()
        configurable = config["configurable"]
        return self._keys.checkpoints(
            str(configurable["thread_id"]), configurable.get("checkpoint_ns")
        )


def _checkpoint_id(entry: Entry) -> str:
    """Read the id of a checkpoint's record."""
    return str(entry.value["place"][2])


def _is_place(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 3 and all(isinstance(part, str) for part in value)
    )


def _has_content(entry: Entry) -> bool:
    """Whether an entry has the form of one of our records; what is in it is not restored here."""
    content = entry.value.get("content") if isinstance(entry.value, dict) else None
    if not (isinstance(content, dict) and isinstance(content.get("type"), str)):
        return False
    parts = content.get("parts", 0)
    return isinstance(parts, int) and 0 <= parts <= _MOST_PARTS


def _is_write(entry: Entry) -> bool:
    """Whether an entry is the record of a pending write."""
    stored = entry.value
    good = (
        _has_content(entry)
        and all(isinstance(stored.get(name), str) for name in ("task", "path", "channel"))
        and isinstance(stored.get("index"), int)
    )
    if not good:
        _foreign.note(entry.key)
    return good


def _write_order(entry: Entry) -> tuple[str, str, int]:
    stored = entry.value
    return writes_sort_key(stored["path"], stored["task"], stored["index"])
