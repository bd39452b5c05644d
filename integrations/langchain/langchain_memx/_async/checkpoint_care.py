"""What is done to whole threads: deleting, pruning and copying them, and the history of a delta channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite

from langchain_memx._async.checkpoint_records import AsyncCheckpointRecord, AsyncCheckpointRecords
from langchain_memx._async.checkpoints import AsyncCheckpoints
from langchain_memx.keys import CHECKPOINTS, VALUES, WRITES, Place, namespace_part, writes_of
from langchain_memx.packing import has_content, pack
from memx_sdk.collections import Record

_DELTA_COUNTERS = "counters_since_delta_snapshot"
"""In a checkpoint's metadata LangGraph counts, per ``DeltaChannel``, the updates since its last snapshot."""

_FIRST_ANCESTORS = 32
_MOST_ANCESTORS = 512
_COPIED_TOGETHER = 200


class AsyncCheckpointCare:
    """Removes, copies and walks the checkpoints of threads.

    Args:
        records: The records.
        checkpoints: Reads and writes them.
    """

    def __init__(self, records: AsyncCheckpointRecords, checkpoints: AsyncCheckpoints) -> None:
        self._records = records
        self._checkpoints = checkpoints

    async def delete_thread(self, thread: str) -> None:
        """Delete all that belongs to a thread, in steps of the server's; its checkpoints go first."""
        await self._records.of(thread).clear()

    async def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs, in whatever thread."""
        runs = set(run_ids)
        if not runs:
            return
        # All checkpoints of a thread are needed, not only those of the runs: what the others refer to stays.
        found = await self._checkpoints.find(None)
        for thread in {record.place.thread for record in found if record.run_id in runs}:
            of_thread = [record for record in found if record.place.thread == thread]
            kept = [record for record in of_thread if record.run_id not in runs]
            gone = [record.place.name for record in of_thread if record.run_id in runs]
            await self._remove(thread, gone, kept)

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
            else:
                await self._keep_latest(thread)

    async def copy_thread(self, source: str, target: str) -> None:
        """Copy every checkpoint with its channel values and pending writes, each under its own id."""
        records = self._records.of(source)
        # Channel values and writes first: a checkpoint can be seen only once all of it can.
        for kind in (VALUES, WRITES, CHECKPOINTS):
            names = await records.names(kind)
            for start in range(0, len(names), _COPIED_TOGETHER):
                found = await records.get_many(names[start : start + _COPIED_TOGETHER])
                stored = {
                    name: copied
                    for name, record in found.items()
                    if record is not None
                    and (copied := await self._copied(source, target, record)) is not None
                }
                await self._records.write(target, stored)

    async def delta_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Collect what each channel was given since its last stored value, oldest first, and that value.

        See LangGraph's ``get_delta_channel_history``. The ancestors are found by reading many checkpoints at once,
        their writes by one list of names.
        """
        seeds: dict[str, AsyncCheckpointRecord] = {}
        place = Place.of(config["configurable"])
        path = await self._ancestors(place, set(channels), seeds)
        thread = place.thread
        writes = await self._checkpoints.writes(thread, [each.place for each in path])
        of_seeds = list({id(record): record for record in seeds.values()}.values())
        values = await self._checkpoints.values(thread, of_seeds) if of_seeds else []
        by_place = {record.place: held for record, held in zip(of_seeds, values, strict=True)}
        result: dict[str, DeltaChannelHistory] = {}
        for channel in channels:
            seed = seeds.get(channel)
            until = len(path) if seed is None else path.index(seed) + 1
            # The path is newest first; of each checkpoint the writes are in their order.
            given: list[PendingWrite] = [
                write
                for record in reversed(path[:until])
                for write in writes[record.place]
                if write[1] == channel
            ]
            history: DeltaChannelHistory = {"writes": given}
            if seed is not None and channel in by_place[seed.place]:
                history["seed"] = by_place[seed.place][channel]
            result[channel] = history
        return result

    async def _ancestors(
        self, place: Place, missing: set[str], seeds: dict[str, AsyncCheckpointRecord]
    ) -> list[AsyncCheckpointRecord]:
        """Walk from a checkpoint's parent back until every channel has a stored value."""
        target = await self._checkpoints.record(place)
        path: list[AsyncCheckpointRecord] = []
        known: dict[str, AsyncCheckpointRecord] = {}
        step = target.parent_place if target else None
        size = _FIRST_ANCESTORS
        while step is not None and missing:
            if step.name not in known:
                # Names are in the order of time, so the ancestors of one are mostly those that follow it.
                known |= await self._read_from(step, size)
                size = min(size * 4, _MOST_ANCESTORS)
            record = known.get(step.name)
            if record is None:
                break
            path.append(record)
            for channel in await self._held(record, missing):
                seeds[channel] = record
                missing.discard(channel)
            step = record.parent_place
        return path

    async def _read_from(self, place: Place, count: int) -> dict[str, AsyncCheckpointRecord]:
        records = self._records.of(place.thread)
        names = await records.names(place.name.rpartition(":")[0] + ":")
        if place.name not in names:
            return {}
        start = names.index(place.name)
        found = await records.get_many(names[start : start + count])
        return {each.place.name: each for each in await self._records.checkpoints(found.values())}

    async def _held(self, record: AsyncCheckpointRecord, channels: set[str]) -> set[str]:
        """Which of these channels have a stored value in a checkpoint."""
        versions = record.checkpoint["channel_versions"]
        if record.held is not None:
            return {name for name in channels & record.held if name in versions}
        # A record of an earlier version does not say: its values have to be looked for.
        (values,) = await self._checkpoints.values(record.place.thread, [record])
        return channels & values.keys()

    async def _keep_latest(self, thread: str) -> None:
        records = self._records.of(thread)
        names = await records.names(CHECKPOINTS)
        kept: dict[Place, AsyncCheckpointRecord] = {}
        done: set[str] = set()
        for name in names:
            if namespace_part(name) in done:
                continue
            # The first name of a namespace is that of its newest checkpoint, unless a foreign value lies there.
            newest = await self._records.checkpoint(await records.get(name))
            if newest is not None:
                done.add(namespace_part(name))
                kept |= await self._needed(newest)
        held = {record.place.name for record in kept.values()}
        gone = [name for name in names if name not in held and namespace_part(name) in done]
        await self._remove(thread, gone, list(kept.values()))

    async def _needed(self, record: AsyncCheckpointRecord) -> dict[Place, AsyncCheckpointRecord]:
        """Find what a checkpoint is rebuilt from: itself, and ancestors back to each delta channel's snapshot."""
        missing = set(record.metadata.get(_DELTA_COUNTERS) or ())
        missing -= await self._held(record, missing)
        # A delta channel's value is its last snapshot plus the writes since: an ancestor that holds a value of the
        # channel holds the snapshot, and ends the walk for it.
        path = await self._ancestors(record.place, missing, {}) if missing else []
        return {each.place: each for each in [record, *path]}

    async def _remove(
        self, thread: str, gone: Sequence[str], kept: Sequence[AsyncCheckpointRecord]
    ) -> None:
        """Delete checkpoints by their names, with the writes and values that nothing refers to any more."""
        if not gone:
            return
        records = self._records.of(thread)
        # The checkpoints first: none must be seen without its writes and values.
        await records.delete_many(gone)
        owners = {writes_of(name) for name in gone}
        left = [
            name
            for name in await records.names(WRITES)
            if f"{':'.join(name.split(':')[:3])}:" in owners
        ]
        # Then the values that no kept checkpoint refers to. A put that runs meanwhile has written its values with or
        # before its checkpoint, and they could be taken for unused: LangGraph runs one writer on a thread at a time,
        # and prune is not for threads that are running.
        used = {name for record in kept for name in record.values().values()}
        namespaces = {namespace_part(name) for name in gone}
        left += [
            name
            for name in await records.names(VALUES)
            if name not in used and namespace_part(name) in namespaces
        ]
        await records.delete_many(left)

    async def _copied(self, source: str, target: str, record: Record[Any]) -> dict[str, Any] | None:
        """What a record is in another thread; None for a foreign value."""
        if not has_content(record.value):
            return None
        data = await self._records.data(source, record)
        if data is None:
            return None
        value = {**record.value, "content": pack(record.value["content"]["type"], data)}
        if "place" in value:
            value["place"] = [target, *value["place"][1:]]
        return value
