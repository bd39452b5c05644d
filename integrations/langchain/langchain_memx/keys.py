"""The keys of the records of LangGraph's checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from memx_sdk.collections import segment

_COMPARED_BYTES = 40


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


class CheckpointKeys:
    """The keys of checkpoints, ``prefix:thread:kind:namespace:...``.

    The kinds are ``c`` (checkpoints), ``v`` (channel values), ``w`` (pending writes) and ``p`` (parts of what
    is larger than a value may be). Thread and namespace are segments, so that a pattern for one thread
    matches no key of another.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def all_checkpoints(self) -> str:
        """The pattern of the checkpoints of all threads; ``is_checkpoint`` sorts out what else it matches."""
        return f"{self._prefix}:*:c:*"

    def is_checkpoint(self, key: str) -> bool:
        """Whether a key under the prefix has the form of a checkpoint's."""
        return key[len(self._prefix) + 1 :].split(":")[1:2] == ["c"]

    def thread(self, thread: str) -> str:
        """The pattern of all that belongs to a thread."""
        return f"{self._prefix}:{segment(thread)}:*"

    def checkpoints(self, thread: str, namespace: str | None = None) -> str:
        """The pattern of a thread's checkpoints, in one namespace or in all."""
        start = f"{self._prefix}:{segment(thread)}:c:"
        return f"{start}*" if namespace is None else f"{start}{segment(namespace)}:*"

    def checkpoint(self, place: Place) -> str:
        """The key of a checkpoint; newer ones sort before older ones."""
        return self._key(place, "c", _newest_first(place.checkpoint))

    def writes(self, place: Place) -> str:
        """The pattern of a checkpoint's pending writes."""
        return f"{self._key(place, 'w', _newest_first(place.checkpoint))}:*"

    def write(self, place: Place, task: str, index: int) -> str:
        """The key of one pending write."""
        checkpoint = _newest_first(place.checkpoint)
        return f"{self._key(place, 'w', checkpoint)}:{segment(task)}:{index}"

    def values(self, thread: str, namespace: str) -> str:
        """The pattern of the channel values of a namespace."""
        return f"{self._prefix}:{segment(thread)}:v:{segment(namespace)}:*"

    def value(self, place: Place, channel: str, version: object) -> str:
        """The key of a channel's value at a version."""
        return f"{self._key(place, 'v', segment(channel))}:{segment(str(version))}"

    def part(self, thread: str, owner: str, number: int) -> str:
        """The key of a part of what is too large for the key ``owner``."""
        digest = hashlib.sha256(owner.encode()).hexdigest()
        return f"{self._prefix}:{segment(thread)}:p:{digest}:{number:06d}"

    def parts(self, thread: str, owner: str) -> str:
        """The pattern of all parts of ``owner``."""
        return self.part(thread, owner, 0)[:-6] + "*"

    def _key(self, place: Place, kind: str, last: str) -> str:
        thread, namespace = segment(place.thread), segment(place.namespace)
        return f"{self._prefix}:{thread}:{kind}:{namespace}:{last}"


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
