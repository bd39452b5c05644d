"""Deletes, copies and prunes threads."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_memx.connection import Flow, do
from langchain_memx.saver_keys import Place, SaverKeys
from langchain_memx.saver_reading import CheckpointRecord, Reading
from langchain_memx.saver_records import Records

_DELTA_COUNTERS = "counters_since_delta_snapshot"
"""In a checkpoint's metadata LangGraph counts, per ``DeltaChannel``, the updates since its last snapshot."""


class Cleaning:
    """The flows that remove or copy."""

    def __init__(self, keys: SaverKeys, records: Records, reading: Reading) -> None:
        self._keys = keys
        self._records = records
        self._reading = reading

    def delete_thread(self, thread: str) -> Flow[None]:
        """Delete all that belongs to a thread."""
        for key in (yield from do("keys", self._keys.thread(thread))):
            yield from do("delete", key)

    def delete_for_runs(self, run_ids: Sequence[str]) -> Flow[None]:
        """Delete the checkpoints of runs, wherever they are."""
        runs = set(run_ids)
        if not runs:
            return
        records = yield from self._reading.records(None)
        for thread in {record.place.thread for record in records if record.run_id in runs}:
            of_thread = [record for record in records if record.place.thread == thread]
            yield from self._keep(of_thread, {r.place for r in of_thread if r.run_id not in runs})

    def prune(self, threads: Sequence[str], strategy: str) -> Flow[None]:
        """Keep the newest checkpoint of each namespace and what it needs, or nothing."""
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy {strategy!r}: use keep_latest or delete")
        for thread in threads:
            if strategy == "delete":
                yield from self.delete_thread(thread)
                continue
            records = yield from self._reading.records({"configurable": {"thread_id": thread}})
            newest: dict[str, CheckpointRecord] = {}
            for record in records:
                newest.setdefault(record.place.namespace, record)
            kept: set[Place] = set()
            for record in newest.values():
                kept |= yield from self._needed(record)
            yield from self._keep(records, kept)

    def copy_thread(self, source: str, target: str) -> Flow[None]:
        """Copy every checkpoint with its channel values and pending writes, each under its own id."""
        start = len(self._keys.thread(source)) - 1
        moved = self._keys.thread(target)[:-1]
        copies: list[tuple[str, str]] = []
        for key in (yield from do("keys", self._keys.thread(source))):
            rest = key[start:]
            if not rest.startswith("p:"):
                copies.append((key, moved + rest))
        # Channel values and writes first: a checkpoint can be seen only once all of it can.
        for key, copy in sorted(copies, key=lambda pair: self._keys.is_checkpoint(pair[0])):
            entry = yield from do("get", key)
            if entry is None:
                continue
            value = dict(entry.value)
            if "place" in value:
                value["place"] = [target, *value["place"][1:]]
            for number in range(value["content"].get("parts", 0)):
                part = yield from do("get", self._keys.part(source, key, number))
                name = self._keys.part(target, copy, number)
                yield from do("set", name, part.value, history=False)
            yield from do("set", copy, value, history=False)

    def _needed(self, record: CheckpointRecord) -> Flow[set[Place]]:
        """Find what a checkpoint is rebuilt from: itself, and ancestors back to each delta channel's snapshot."""
        kept = {record.place}
        complete = yield from self._reading.complete(record)
        missing = set(record.metadata.get(_DELTA_COUNTERS) or ())
        missing -= set(complete.checkpoint["channel_values"])
        parent = record.parent_place
        while missing and parent is not None:
            ancestor = yield from self._reading.record(parent)
            if ancestor is None:
                break
            kept.add(ancestor.place)
            complete = yield from self._reading.complete(ancestor)
            missing -= set(complete.checkpoint["channel_values"])
            parent = ancestor.parent_place
        return kept

    def _keep(self, records: Sequence[CheckpointRecord], kept: set[Place]) -> Flow[None]:
        """Delete all of these records but some, with the writes and values that nothing refers to any more."""
        for record in records:
            if record.place in kept:
                continue
            yield from self._records.remove(
                record.place.thread, self._keys.checkpoint(record.place)
            )
            for key in (yield from do("keys", self._keys.writes(record.place))):
                yield from self._records.remove(record.place.thread, key)
        used = {
            self._keys.value(record.place, channel, version)
            for record in records
            if record.place in kept
            for channel, version in record.checkpoint["channel_versions"].items()
        }
        for thread, namespace in {(r.place.thread, r.place.namespace) for r in records}:
            for key in (yield from do("keys", self._keys.values(thread, namespace))):
                if key not in used:
                    yield from self._records.remove(thread, key)
