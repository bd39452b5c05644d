"""The names of the records of LangGraph's checkpoints; each thread's records are a collection."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from memx_sdk.collections import segment

_COMPARED_BYTES = 40

CHECKPOINTS = "c:"
WRITES = "w:"
VALUES = "v:"


class Place(NamedTuple):
    """The place of a checkpoint: its thread, its namespace and its id."""

    thread: str
    namespace: str
    checkpoint: str

    @classmethod
    def of(cls, configurable: Mapping[str, Any], checkpoint: str | None = None) -> Place:
        """Read a place from a config; ``checkpoint`` stands for an id that the config does not name."""
        return cls(
            str(configurable["thread_id"]),
            str(configurable.get("checkpoint_ns") or ""),
            checkpoint or str(configurable.get("checkpoint_id") or ""),
        )

    def config(self) -> dict[str, Any]:
        """Write the config that names this place."""
        return {
            "configurable": {
                "thread_id": self.thread,
                "checkpoint_ns": self.namespace,
                "checkpoint_id": self.checkpoint,
            }
        }

    @property
    def name(self) -> str:
        """The name of the checkpoint's record; newer ones sort before older ones."""
        return f"{checkpoints_in(self.namespace)}{_newest_first(self.checkpoint)}"

    @property
    def writes(self) -> str:
        """What the names of the checkpoint's pending writes start with."""
        return f"{writes_in(self.namespace)}{_newest_first(self.checkpoint)}:"

    def write(self, task: str, index: int) -> str:
        """The name of one pending write."""
        return f"{self.writes}{segment(task)}:{index}"

    def value(self, channel: str, version: object) -> str:
        """The name of a channel's value at a version."""
        return f"{values_in(self.namespace)}{segment(channel)}:{segment(str(version))}"


def checkpoints_in(namespace: str) -> str:
    """What the names of a namespace's checkpoints start with."""
    return f"{CHECKPOINTS}{segment(namespace)}:"


def writes_in(namespace: str) -> str:
    """What the names of a namespace's pending writes start with."""
    return f"{WRITES}{segment(namespace)}:"


def values_in(namespace: str) -> str:
    """What the names of a namespace's channel values start with."""
    return f"{VALUES}{segment(namespace)}:"


def namespace_part(name: str) -> str:
    """The part of a record's name that stands for its namespace."""
    return name.split(":", 2)[1]


def writes_of(checkpoint_name: str) -> str:
    """What the names of the pending writes start with that belong to a checkpoint's name."""
    return f"{WRITES}{checkpoint_name.removeprefix(CHECKPOINTS)}:"


def earlier_part(prefix: str, thread: str, name: str, number: int) -> str:
    """The name of a part of a large record, as versions before the collections split them."""
    owner = f"{prefix}:{segment(thread)}:{name}"
    return f"p:{hashlib.sha256(owner.encode()).hexdigest()}:{number:06d}"


def thread_key(prefix: str, key: str) -> str | None:
    """The part of a checkpoint's key that stands for its thread; None where the key is none of a checkpoint."""
    parts = key[len(prefix) + 1 :].split(":")
    return parts[0] if parts[1:2] == ["c"] else None


def _newest_first(checkpoint: str) -> str:
    """Write an id so that the greater one sorts first: LangGraph's ids grow with time, and keys list upwards.

    Each byte is inverted, and ``g``, which no hex digit reaches, closes the text: so an id sorts behind those
    that it is the beginning of. Ids that agree in the first 40 bytes are kept apart by a digest, in no order.
    """
    data = checkpoint.encode(errors="surrogatepass")
    inverted = bytes(255 - byte for byte in data[:_COMPARED_BYTES]).hex() + "g"
    if len(data) <= _COMPARED_BYTES:
        return inverted
    return f"{inverted}^{hashlib.sha256(data).hexdigest()}"
