# Generated from integrations/langchain/langchain_memx/_async/checkpoint_records.py by tools/unasync.py; change that file, not this one.
"""The records of checkpoints: found, read, written and restored, thread by thread."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from langgraph.checkpoint.serde.base import SerializerProtocol

from langchain_memx.keys import CHECKPOINTS, Place, earlier_part, thread_key
from langchain_memx.known_types import RefusedTypeError
from langchain_memx.packing import has_content, pack, unpack
from memx_sdk import memxContext, ForbiddenError
from memx_sdk.collections import Records, ForeignValues, Record, segment

MISSING: Final = object()
"""In place of a value that is not there; None is a value."""

_foreign = ForeignValues(logging.getLogger(__name__), "record of a checkpoint")

_TOUCHES = 4
"""A thread in use is renewed this many times in its TTL, and lives that much longer than it."""


class CheckpointRecord(NamedTuple):
    """A stored checkpoint without its channel values and pending writes.

    Attributes:
        place: Where it is.
        parent: The id of its parent.
        run_id: Of the run that made it.
        held: The channels that had a value; None in records of earlier versions.
        checkpoint: LangGraph's checkpoint.
        metadata: LangGraph's metadata of it.
    """

    place: Place
    parent: str | None
    run_id: str | None
    held: frozenset[str] | None
    checkpoint: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def parent_place(self) -> Place | None:
        """Where its parent is."""
        return None if self.parent is None else self.place._replace(checkpoint=self.parent)

    def values(self) -> dict[str, str]:
        """The names of the records of its channel values, by channel."""
        versions = self.checkpoint["channel_versions"]
        return {
            channel: self.place.value(channel, version) for channel, version in versions.items()
        }


class CheckpointRecords:
    """The records of all threads under a prefix; what is none of ours counts as not there.

    Args:
        context: Where the records are.
        prefix: What their keys start with.
        serde: LangGraph's serialiser.
        ttl: Seconds after its last write after which a thread is gone.
        refresh: Reading counts as well.
    """

    def __init__(
        self,
        context: memxContext,
        prefix: str,
        serde: SerializerProtocol,
        ttl: float | None = None,
        refresh: bool = False,
    ) -> None:
        self._refresh = refresh
        self._context = context
        self._prefix = prefix
        self._serde = serde
        self._ttl = ttl
        self._renewed: dict[str, float] = {}

    def of(self, thread: str) -> Records[Any]:
        """The records of a thread."""
        return Records(
            self._context,
            self._prefix,
            thread,
            plain=True,
            encoded=True,
            strict=True,
            logged=False,
            noun="record of a checkpoint",
        )

    def threads(self) -> list[tuple[str, list[str]]]:
        """List all threads that have checkpoints, each with the names of these."""
        by_thread: dict[str, list[str]] = {}
        for key in self._context.keys(f"{self._prefix}:*:{CHECKPOINTS}*"):
            written = thread_key(self._prefix, key)
            if written is not None:
                name = key[len(self._prefix) + len(written) + 2 :]
                by_thread.setdefault(written, []).append(name)
        found: list[tuple[str, list[str]]] = []
        for written, names in by_thread.items():
            thread = self._thread(written, names[0])
            if thread is not None:
                found.append((thread, names))
        return found

    def write(
        self, thread: str, stored: Mapping[str, Any], conditions: Mapping[str, int] | None = None
    ) -> None:
        """Write records of a thread, in this order.

        Args:
            thread: The thread.
            stored: The records by name: what `pack` made of their content, and their other members.
            conditions: As ``if_revisions`` of `Records.put_many`.
        """
        lives = None if self._ttl is None else self._ttl + self._ttl / _TOUCHES
        self.of(thread).put_many(stored, if_revisions=conditions, ttl=lives)
        self.renew(thread)

    def use(self, thread: str) -> None:
        """Let a thread that was read live on, where its saver says that reading counts."""
        if self._refresh:
            with suppress(ForbiddenError):  # a reader without write keeps nothing alive
                self.renew(thread)

    def renew(self, thread: str) -> None:
        """Let all records of a thread live on, unless that was done a moment ago."""
        if self._ttl is None:
            return
        now = time.monotonic()
        if now - self._renewed.get(thread, -self._ttl) < self._ttl / _TOUCHES:
            return
        self._renewed[thread] = now
        self.of(thread).touch_all(self._ttl + self._ttl / _TOUCHES)

    def pack(self, thread: str, name: str, value: Any) -> dict[str, Any]:
        """Serialise a value for the record ``name``.

        Raises:
            RefusedTypeError: It would not be restored.
        """
        try:
            return pack(*self._serde.dumps_typed(value))
        except RefusedTypeError as error:
            key = f"{self._prefix}:{segment(thread)}:{name}"
            raise RefusedTypeError(f"{key!r} cannot be stored: {error}") from None

    def unpack(self, thread: str, record: Record[Any]) -> Any:
        """Read back what `pack` made; ``MISSING`` for a foreign value.

        Raises:
            RefusedTypeError: It names a type that may not be restored.
            LookupError: A part of it is missing.
        """
        data = self.data(thread, record) if has_content(record.value) else None
        if data is None:
            _foreign.note(record.key)
            return MISSING
        try:
            return self._serde.loads_typed((record.value["content"]["type"], data))
        except RefusedTypeError as error:
            raise RefusedTypeError(f"{record.key!r} cannot be restored: {error}") from None
        except (NotImplementedError, ValueError):  # no msgpack
            _foreign.note(record.key)
            return MISSING

    def checkpoint(self, record: Record[Any] | None) -> CheckpointRecord | None:
        """Read a checkpoint's record; None where there is none, or a foreign value."""
        if record is None or not self._is_checkpoint(record):
            return None
        stored = record.value
        place = Place(*stored["place"])
        content = self.unpack(place.thread, record)
        if not (isinstance(content, dict) and content.keys() >= {"checkpoint", "metadata"}):
            _foreign.note(record.key)
            return None
        held = stored.get("held")
        return CheckpointRecord(
            place,
            stored["parent"],
            stored["run_id"],
            frozenset(held) if _are_texts(held) else None,
            content["checkpoint"],
            content["metadata"],
        )

    def checkpoints(
        self, records: Iterable[Record[Any] | None]
    ) -> list[CheckpointRecord]:
        """Read the checkpoints among some records."""
        found = [self.checkpoint(record) for record in records]
        return [each for each in found if each is not None]

    def is_write(self, record: Record[Any]) -> bool:
        """Whether a record is one of a pending write."""
        stored = record.value
        good = (
            has_content(stored)
            and all(isinstance(stored.get(name), str) for name in ("task", "path", "channel"))
            and isinstance(stored.get("index"), int)
        )
        if not good:
            _foreign.note(record.key)
        return good

    def data(self, thread: str, record: Record[Any]) -> bytes | None:
        """Read the serialised bytes of a record; None where they are none.

        Raises:
            LookupError: A part is missing.
        """
        content = record.value["content"]
        try:
            if "parts" in content:
                return self._earlier_parts(thread, record.name, content["parts"])
            return unpack(content)
        except (AttributeError, TypeError, ValueError):
            return None

    def _earlier_parts(self, thread: str, name: str, count: int) -> bytes:
        """Join what versions before the collections wrote in parts."""
        names = [earlier_part(self._prefix, thread, name, number) for number in range(count)]
        parts = self.of(thread).get_many(names)
        for part in names:
            # A state with a hole in it must not be taken for a whole one.
            if parts[part] is None:
                raise LookupError(f"{part!r}, a part of a checkpoint, is missing")
        found = (parts[part] for part in names)
        return b"".join(base64.b64decode(part.value, validate=True) for part in found if part)

    def _is_checkpoint(self, record: Record[Any]) -> bool:
        """Whether it is a checkpoint's record at its own key: none can claim another's place."""
        stored = record.value
        good = (
            has_content(stored)
            and _is_place(stored.get("place"))
            and isinstance(stored.get("parent", 0), str | None)
            and isinstance(stored.get("run_id", 0), str | None)
            and self._key(Place(*stored["place"])) == record.key
        )
        if not good:
            _foreign.note(record.key)
        return good

    def _key(self, place: Place) -> str:
        return f"{self._prefix}:{segment(place.thread)}:{place.name}"

    def _thread(self, written: str, name: str) -> str | None:
        """Read a thread's id from a part of a key, or from a record of it where the key holds only a digest."""
        if not written.startswith("^"):
            return _decoded(written)
        record = self._context.get(f"{self._prefix}:{written}:{name}")
        place: Any = (
            record.value.get("place") if record and isinstance(record.value, dict) else None
        )
        return str(place[0]) if _is_place(place) else None


def _decoded(written: str) -> str | None:
    thread = "" if written == "~" else unquote(written, errors="surrogatepass")
    return thread if segment(thread) == written else None


def _is_place(value: Any) -> bool:
    return isinstance(value, list) and len(value) == len(Place._fields) and _are_texts(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(part, str) for part in value)
