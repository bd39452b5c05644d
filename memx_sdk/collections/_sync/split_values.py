# Generated from memx_sdk/collections/_async/split_values.py by tools/unasync.py; change that file, not this one.
"""Reading and writing values of any size, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memx_sdk._sync.client import memxContext
from memx_sdk.collections import envelope
from memx_sdk.collections.envelope import Pointer, Split, Stored
from memx_sdk.collections.foreign import ForeignValues
from memx_sdk.collections.models import BrokenRecordError
from memx_sdk.errors import TooLargeError
from memx_sdk.models import Entry

STAGED_SECONDS = 3600.0
"""How long parts wait for the write that refers to them; then they are gone."""

_FIRST_READ = 50
_MOST_PER_READ = 1000
_READ_BYTES = 6_000_000
_PARTS_PER_REQUEST = 6
"""Of 920 kB each: below memX's limit of 8 MiB for a request."""

_TRIES = 8


class SplitValues:
    """Values of one collection's keys, those in parts joined.

    Args:
        context: Where they are.
        foreign: Notes what is none of them.
        strict: A value of which a part is missing is an error, and does not count as not there.
    """

    def __init__(
        self, context: memxContext, foreign: ForeignValues, strict: bool = False
    ) -> None:
        self._context = context
        self._foreign = foreign
        self._strict = strict

    def read(
        self, keys: Sequence[str], *, parts: str, beside: str | None = None
    ) -> tuple[dict[str, Stored], Entry | None]:
        """Read the values of several keys; those that are not there are left out.

        Args:
            keys: The keys.
            parts: What the keys of their parts start with.
            beside: One more key, the collection's head.

        Returns:
            The values by key, and what ``beside`` holds: at the moment of the last request that read any keys.
        """
        found: dict[str, Stored] = {}
        head: Entry | None = None
        start, size = 0, _FIRST_READ
        while start < len(keys) or (start == 0 and beside):
            chunk = list(keys[start : start + size])
            entries = self._some([*chunk, beside] if beside else chunk)
            if entries is None:  # they are longer than one response may be
                size = max(1, len(chunk) // 3)
                continue
            start += max(len(chunk), 1)
            if beside:
                head = entries[beside]
            held = [entry for key in chunk if (entry := entries[key]) is not None]
            found |= self.join(held, parts)
            size = _next_size(held, size)
        return found, head

    def entries(self, keys: Sequence[str]) -> dict[str, Entry | None]:
        """Read entries as they are, of one moment where they fit into one response."""
        found = self._some(keys)
        if found is not None:
            return found
        middle = len(keys) // 2
        return {**self.entries(keys[:middle]), **self.entries(keys[middle:])}

    def join(self, entries: Iterable[Entry], parts: str) -> dict[str, Stored]:
        """Open envelopes and join what is in parts; by key, without those that cannot be read."""
        found: dict[str, Stored] = {}
        for entry in entries:
            stored = self._open(entry, parts)
            if stored is not None:
                found[entry.key] = stored
        return found

    def stage(self, split: Split, parts: str) -> tuple[str, ...]:
        """Write the parts of a value; they expire unless a transaction keeps them.

        Returns:
            Their keys.
        """
        keys = [envelope.part_key(parts, split.id, number) for number in range(len(split.texts))]
        for start in range(0, len(keys), _PARTS_PER_REQUEST):
            chunk = range(start, min(start + _PARTS_PER_REQUEST, len(keys)))
            self._context.txn(
                then=[
                    {
                        "op": "set",
                        "key": keys[number],
                        "value": split.texts[number],
                        "ttl": STAGED_SECONDS,
                        # Whoever watches sees the record that refers to them.
                        "logged": False,
                    }
                    for number in chunk
                ]
            )
        return tuple(keys)

    def _some(self, keys: Sequence[str]) -> dict[str, Entry | None] | None:
        """Read entries; None where several are longer than one response may be."""
        try:
            return self._context.mget(keys)
        except TooLargeError:
            # One value and the head of its collection always fit: the server bounds a value by less.
            if len(keys) <= 2:
                raise
            return None

    def _open(self, entry: Entry, parts: str) -> Stored | None:
        key = entry.key
        current: Entry | None = entry
        for _ in range(_TRIES):
            if current is None:
                return None
            try:
                pointer = envelope.read_pointer(current.value)
                if pointer is None:
                    return Stored(current, current.value)
                if not pointer.count:
                    return Stored(current, pointer.value, pointer.name)
                return self._joined(current, pointer, parts)
            except ValueError:
                self._foreign.note(key)
                return None
            except LookupError:
                # Somebody replaced or deleted the record between the two reads, and its parts went with it: the
                # record itself says which of the two.
                again = self._context.get(key)
                if again is not None and again.revision == current.revision:
                    break
                current = again
        if self._strict:
            raise BrokenRecordError(f"a part of {key!r} is missing")
        self._foreign.note(key)
        return None

    def _joined(self, entry: Entry, pointer: Pointer, parts: str) -> Stored:
        """Read the parts of a record.

        Raises:
            LookupError: One is missing.
            ValueError: They are not those that were written.
        """
        keys = pointer.keys(parts)
        texts: list[Any] = []
        for start in range(0, len(keys), _PARTS_PER_REQUEST):
            found = self._context.mget(keys[start : start + _PARTS_PER_REQUEST])
            for part in found.values():
                if part is None:
                    raise LookupError(entry.key)
                texts.append(part.value)
        return Stored(entry, envelope.join(pointer, texts), pointer.name, keys)


def _next_size(entries: Sequence[Entry], size: int) -> int:
    """Choose how many keys to read next: about as many as fit into one answer of a few megabytes."""
    if not entries:
        return _MOST_PER_READ
    # The length of the text that Python shows is near enough to that of the JSON, and only looked at for one in
    # every few values: this is an estimate, not a limit.
    sample = entries[:: max(1, len(entries) // 8)]
    each = sum(len(str(entry.value)) for entry in sample) / len(sample)
    return max(1, min(_MOST_PER_READ, size * 4, int(_READ_BYTES / (each + 200))))
