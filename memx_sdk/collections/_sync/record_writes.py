# Generated from memx_sdk/collections/_async/record_writes.py by tools/unasync.py; change that file, not this one.
"""Writing and deleting records, tied to the head of their collection."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from memx_sdk._sync._concurrency import sleep
from memx_sdk._sync.client import memxContext
from memx_sdk.collections import envelope
from memx_sdk.collections._sync.heads import MOST_OPERATIONS, Head, HeadState, read_entry
from memx_sdk.collections._sync.split_values import SplitValues
from memx_sdk.collections.envelope import Split
from memx_sdk.collections.layout import Layout
from memx_sdk.core.retry import CONTENTION
from memx_sdk.errors import ConflictError, MemxTimeout, TooLargeError
from memx_sdk.models import Entry

_AT_ONCE = 30
"""Records of one transaction: a compare, a write and a read of each."""

_READ_BACK = 6
"""Records that a transaction brings where its compares fail: as many values of 1 MiB as fit into a response."""

_BYTES_AT_ONCE = 4_000_000
_GIVE_UP = 30.0

_NOTHING = HeadState()


class Seen(NamedTuple):
    """What is known of a record's key before it is written.

    Attributes:
        revision: Of its entry; 0 where there is none.
        parts: The keys of the parts that it refers to.
        entry: The entry.
    """

    revision: int = 0
    parts: tuple[str, ...] = ()
    entry: Entry | None = None


Present = Mapping[str, Seen]
_NOT_THERE = Seen()


class RecordWrites:
    """The writes of one collection.

    A put first assumes that there is no such record, since then one request does it. Where there is one, the same
    request brings it, and the second one replaces exactly what was seen, and deletes its parts with it.

    Args:
        context: Where the records are.
        layout: Their keys.
        head: The collection's head.
        split: Writes what is too large for one entry.
        logged: Whether the log keeps their values.
    """

    def __init__(
        self,
        context: memxContext,
        layout: Layout,
        head: Head,
        split: SplitValues,
        logged: bool,
    ) -> None:
        self._context = context
        self._layout = layout
        self._head = head
        self._split = split
        self._logged = logged

    def put(
        self,
        dumped: Mapping[str, Any],
        conditions: Mapping[str, int],
        ttl: float | None,
        seen: Present,
    ) -> int:
        """Write records; what fits into one transaction at once.

        Args:
            dumped: Their values by name, as JSON.
            conditions: The revisions that some of them must have.
            ttl: Seconds until they expire.
            seen: What is known of them already.

        Returns:
            The revision of the last transaction.
        """
        texts = {name: self._write(name, value) for name, value in dumped.items()}
        revision = 0
        for chunk in _chunks(texts):
            revision = self._put_some(chunk, conditions, ttl, seen)
        return revision

    def delete(self, names: Sequence[str], conditions: Mapping[str, int]) -> int:
        """Delete records with their parts; tells how many there were."""
        deleted = 0
        for start in range(0, len(names), _AT_ONCE):
            deleted += self._delete_some(names[start : start + _AT_ONCE], conditions)
        return deleted

    def delete_keys(self, names: Sequence[str]) -> int:
        """Delete records that have no parts, without reading them; tells how many there were."""
        deleted, start = 0, 0
        attempt, give_up = 0, time.monotonic() + _GIVE_UP
        while start < len(names):
            state = self._state()
            chunk = names[start : start + MOST_OPERATIONS - 2]
            keys = [self._layout.record(state.generation, name) for name in chunk]
            result = self._context.txn(
                if_=[] if self._layout.plain else [self._head.compare(state)],
                then=[{"op": "delete", "key": key} for key in keys],
                else_=[] if self._layout.plain else [self._head.read_again()],
            )
            if result.succeeded:
                deleted += sum(bool(each.get("deleted")) for each in result.results)
                start += len(chunk)
                continue
            self._head.learn(read_entry(result.results[0]))
            attempt += 1
            _pause(attempt, give_up, self._layout.base)
        return deleted

    def touch(self, keys: Sequence[str], ttl: float | None) -> None:
        """Move the expiry of keys."""
        for start in range(0, len(keys), MOST_OPERATIONS):
            chunk = keys[start : start + MOST_OPERATIONS]
            touches = [{"op": "touch", "key": key, "touch": ttl} for key in chunk]
            self._context.txn(then=touches)

    def delete_all(self) -> None:
        """Delete whatever lies under the prefix, in steps."""
        self._context.delete_pattern(self._layout.everything(""))

    def _write(self, name: str, value: Any) -> msgspec.Raw | Split:
        # A key that is too long for its name holds a digest in its place, and the envelope holds the name.
        is_whole = self._layout.holds_name("", self._layout.record("", name))
        return envelope.write(value, None if is_whole else name)

    def _put_some(
        self,
        texts: Mapping[str, msgspec.Raw | Split],
        conditions: Mapping[str, int],
        ttl: float | None,
        seen: Present,
    ) -> int:
        try:
            return self._put(texts, conditions, ttl, seen)
        except TooLargeError:
            # What the records hold now is longer than the server compares in one transaction.
            if len(texts) == 1:
                raise
        revision = 0
        for half in _halves(list(texts)):
            part = {name: texts[name] for name in half}
            revision = self._put_some(part, conditions, ttl, {})
        return revision

    def _delete_some(self, names: Sequence[str], conditions: Mapping[str, int]) -> int:
        try:
            return self._delete(names, conditions)
        except TooLargeError:  # as for a put
            if len(names) == 1:
                raise
        return sum([self._delete_some(half, conditions) for half in _halves(names)])

    def _put(
        self,
        texts: Mapping[str, msgspec.Raw | Split],
        conditions: Mapping[str, int],
        ttl: float | None,
        seen: Present,
    ) -> int:
        state = self._state()
        generation = state.generation or self._new_generation()
        present = seen
        if any(_must_look(conditions.get(name), seen.get(name)) for name in texts):
            # A condition on what is there: it must be read first, to know the parts that it leaves behind, and
            # what it holds now where it has changed.
            state, generation, present = self._look(texts)
        staged: dict[str, tuple[str, ...]] = {}
        attempt, give_up = 0, time.monotonic() + _GIVE_UP
        while True:
            self._check(texts, conditions, present, generation)
            for name, text in texts.items():
                if isinstance(text, Split) and name not in staged:
                    staged[name] = self._split.stage(text, self._layout.parts(generation))
            then = self._head_writes(state, generation)
            then += self._sets(texts, staged, present, generation, ttl)
            left_behind = [key for name in texts for key in present.get(name, _NOT_THERE).parts]
            room = MOST_OPERATIONS - len(then) - 2 * len(texts)
            then += [{"op": "delete", "key": key} for key in left_behind[:room]]
            result = self._context.txn(
                if_=self._compares(state, texts, present, generation),
                then=then,
                else_=self._reads(texts, generation),
            )
            if result.succeeded:
                self._written(state, generation, result.revision, result.results)
                self._drop(left_behind[room:])
                return int(result.revision)
            state, present = self._learn(result.results, texts, generation)
            if state.generation != generation or len(present) < len(texts):
                # Never the generation that was meant before: if the collection was cleared meanwhile, then that
                # one is being swept. What was staged lies under it, and the records of the present one are unread.
                before = generation
                state, generation, present = self._look(texts)
                staged = staged if generation == before else {}
            attempt += 1
            _pause(attempt, give_up, self._layout.base)

    def _delete(self, names: Sequence[str], conditions: Mapping[str, int]) -> int:
        attempt, give_up = 0, time.monotonic() + _GIVE_UP
        while True:
            state, generation, present = self._look(names)
            self._check(names, conditions, present, generation)
            there = [name for name in names if present[name].revision]
            if not there:
                return 0
            then = [
                {"op": "delete", "key": self._layout.record(generation, name)} for name in there
            ]
            left_behind = [key for name in there for key in present[name].parts]
            room = MOST_OPERATIONS - len(then) - 2 * len(there)
            then += [{"op": "delete", "key": key} for key in left_behind[:room]]
            result = self._context.txn(
                if_=self._compares(state, there, present, generation), then=then
            )
            if result.succeeded:
                self._drop(left_behind[room:])
                return len(there)
            attempt += 1
            _pause(attempt, give_up, self._layout.base)

    def _state(self) -> HeadState:
        return _NOTHING if self._layout.plain else self._head.present()

    def _new_generation(self) -> str:
        return "" if self._layout.plain else self._layout.new_generation()

    def _look(
        self, names: Sequence[str] | Mapping[str, Any]
    ) -> tuple[HeadState, str, Present]:
        """Read the head and what the records' keys hold, of one moment."""
        while True:
            state = self._state()
            keys = {name: self._layout.record(state.generation, name) for name in names}
            if self._layout.plain:
                entries = self._split.entries(list(keys.values()))
                break
            entries = self._split.entries([*keys.values(), self._layout.head])
            if self._head.learn(entries[self._layout.head]).generation == state.generation:
                state = self._head.present()
                break
        present = {name: self._seen(entries[key], state.generation) for name, key in keys.items()}
        return state, state.generation or self._new_generation(), present

    def _learn(
        self, results: Sequence[Mapping[str, Any]], names: Mapping[str, Any], generation: str
    ) -> tuple[HeadState, Present]:
        """Take from a transaction whose compares failed what it found in place of what was assumed."""
        found = [read_entry(each) for each in results]
        state = _NOTHING if self._layout.plain else self._head.learn(found.pop(0))
        seen = (self._seen(entry, generation) for entry in found)
        # Of many records it brought the head alone.
        return state, dict(zip(names, seen, strict=False))

    def _head_writes(self, state: HeadState, generation: str) -> list[dict[str, Any]]:
        return [] if self._layout.plain else self._head.keep(state, generation)

    def _compares(
        self,
        state: HeadState,
        names: Sequence[str] | Mapping[str, Any],
        present: Present,
        generation: str,
    ) -> list[dict[str, Any]]:
        compares = [] if self._layout.plain else [self._head.compare(state)]
        for name in names:
            revision = present.get(name, _NOT_THERE).revision
            compares.append({"key": self._layout.record(generation, name), "revision": revision})
        return compares

    def _reads(self, names: Mapping[str, Any], generation: str) -> list[dict[str, Any]]:
        reads = [] if self._layout.plain else [self._head.read_again()]
        if len(names) > _READ_BACK:
            return reads
        keys = (self._layout.record(generation, name) for name in names)
        return reads + [{"op": "get", "key": key} for key in keys]

    def _sets(
        self,
        texts: Mapping[str, msgspec.Raw | Split],
        staged: Mapping[str, tuple[str, ...]],
        present: Present,
        generation: str,
        ttl: float | None,
    ) -> list[dict[str, Any]]:
        lives = self._head.record_ttl if ttl is None else ttl
        operations: list[dict[str, Any]] = []
        for name, text in texts.items():
            value = text.pointer() if isinstance(text, Split) else text
            key = self._layout.record(generation, name)
            write: dict[str, Any] = {"op": "set", "key": key, "value": value}
            if lives is not None:
                write["ttl"] = lives
            if not self._logged:
                # A key is made as an unlogged one or never: the one that is there stays what it is.
                is_new = not present.get(name, _NOT_THERE).revision
                write |= {"logged": False} if is_new else {"history": False}
            operations.append(write)
            # Until this transaction the parts were about to expire.
            operations += [
                {"op": "touch", "key": key, "touch": lives} for key in staged.get(name, ())
            ]
        return operations

    def _check(
        self,
        names: Sequence[str] | Mapping[str, Any],
        conditions: Mapping[str, int],
        present: Present,
        generation: str,
    ) -> None:
        """Refuse a write whose record has another revision than its caller expects.

        Raises:
            ConflictError: One has.
        """
        for name in names:
            seen = present.get(name, _NOT_THERE)
            wanted = conditions.get(name)
            if wanted is None or wanted == seen.revision:
                continue
            raise ConflictError(
                "conflict",
                f"the record {name!r} has revision {seen.revision}, not {wanted}",
                {"key": self._layout.record(generation, name), "entry": seen.entry},
            )

    def _seen(self, entry: Entry | None, generation: str) -> Seen:
        if entry is None:
            return _NOT_THERE
        try:
            pointer = envelope.read_pointer(entry.value)
        except ValueError:
            pointer = None  # somebody else's value: it has no parts of ours
        parts = pointer.keys(self._layout.parts(generation)) if pointer else ()
        return Seen(entry.revision, parts, entry)

    def _drop(self, keys: Sequence[str]) -> None:
        # Those for which the transaction had no room: many large records that were replaced together.
        for start in range(0, len(keys), MOST_OPERATIONS):
            chunk = keys[start : start + MOST_OPERATIONS]
            self._context.txn(then=[{"op": "delete", "key": key} for key in chunk])

    def _written(
        self,
        state: HeadState,
        generation: str,
        revision: int,
        results: Sequence[Mapping[str, Any]],
    ) -> None:
        if self._layout.plain:
            return
        if not state.generation:
            # This transaction made the head, so its revision is known without asking. What a crash under this root
            # left behind is finished by whoever makes a collection next.
            self._head.known = HeadState(revision, generation, {})
            self._head.sweep_notes(limit=1)
        elif self._head.record_ttl is not None:
            self._head.renew(results[0].get("expires_at"), state)


def _halves(names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    middle = len(names) // 2
    return names[:middle], names[middle:]


def _must_look(condition: int | None, seen: Seen | None) -> bool:
    """Whether a record is to be read before it is written under a condition."""
    if condition is None:
        return False
    return bool(condition) if seen is None else seen.revision != condition


def _chunks(
    texts: Mapping[str, msgspec.Raw | Split],
) -> Iterator[dict[str, msgspec.Raw | Split]]:
    """Divide records into what one transaction takes: a few small ones, or a large one alone."""
    chunk: dict[str, msgspec.Raw | Split] = {}
    size = 0
    for name, text in texts.items():
        if isinstance(text, Split):
            yield {name: text}
            continue
        length = len(bytes(text))
        if chunk and (len(chunk) == _AT_ONCE or size + length > _BYTES_AT_ONCE):
            yield chunk
            chunk, size = {}, 0
        chunk[name] = text
        size += length
    if chunk:
        yield chunk


def _pause(attempt: int, give_up: float, what: str) -> None:
    """Wait a moment before the next attempt; the first repetition comes at once, since it knows what it lacked.

    Raises:
        MemxTimeout: Others were always faster.
    """
    if attempt == 1:
        return
    delay = CONTENTION.jitter(attempt - 1)
    if time.monotonic() + delay > give_up:
        raise MemxTimeout("timeout", f"{what!r} was contended for {_GIVE_UP:g} s; gave up")
    sleep(delay)
