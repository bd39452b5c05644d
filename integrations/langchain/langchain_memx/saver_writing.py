"""Stores checkpoints and pending writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)

from langchain_memx.connection import Flow, do
from langchain_memx.saver_keys import Place, SaverKeys
from langchain_memx.saver_records import Records
from memx_sdk import ConflictError


class Writing:
    """The flows that store."""

    def __init__(self, keys: SaverKeys, records: Records) -> None:
        self._keys = keys
        self._records = records

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Flow[RunnableConfig]:
        """Store the channel values that are new, then the checkpoint that refers to them."""
        place = Place.of(config["configurable"], checkpoint["id"])
        values = checkpoint["channel_values"]
        for channel, version in new_versions.items():
            if channel in values:
                yield from self._put_value(place, channel, version, values[channel])
        owner = self._keys.checkpoint(place)
        bare = {name: part for name, part in checkpoint.items() if name != "channel_values"}
        about = get_checkpoint_metadata(config, metadata)
        record = {
            "place": list(place),
            "parent": config["configurable"].get("checkpoint_id"),
            "run_id": about.get("run_id"),
            "content": (
                yield from self._records.pack(
                    place.thread, owner, {"checkpoint": bare, "metadata": about}
                )
            ),
        }
        yield from do("set", owner, record, history=False)
        return cast("RunnableConfig", place.config())

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task: str, task_path: str
    ) -> Flow[None]:
        """Store writes one by one; a regular one that is there already stays, a special one is replaced."""
        place = Place.of(config["configurable"])
        for number, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, number)
            owner = self._keys.write(place, task, index)
            if index >= 0 and (yield from do("get", owner)) is not None:
                continue
            record = {
                "task": task,
                "path": task_path,
                "index": index,
                "channel": channel,
                "content": (yield from self._records.pack(place.thread, owner, value)),
            }
            once = {"if_revision": 0} if index >= 0 else {}
            try:
                yield from do("set", owner, record, history=False, **once)
            except ConflictError:
                continue

    def _put_value(
        self, place: Place, channel: str, version: str | int | float, value: Any
    ) -> Flow[None]:
        owner = self._keys.value(place, channel, version)
        content = yield from self._records.pack(place.thread, owner, value)
        record = {"channel": channel, "version": version, "content": content}
        yield from do("set", owner, record, history=False)
