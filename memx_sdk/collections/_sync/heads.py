# Generated from memx_sdk/collections/_async/heads.py by tools/unasync.py; change that file, not this one.
"""The head of a collection: which generation its records are of, until when it lives, and the sweeping of old ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from memx_sdk._sync.client import memxContext
from memx_sdk.collections.foreign import ForeignValues
from memx_sdk.collections.layout import Layout
from memx_sdk.errors import ForbiddenError
from memx_sdk.models import Entry, TxnResult

MOST_OPERATIONS = 120
"""Of one transaction; memX's limit is 128."""

_KEPT_TWICE = 2
"""Records live twice as long as their head, so that renewing the head need not renew each of them every time."""


class HeadState(NamedTuple):
    """What is known of a head at one moment.

    Attributes:
        revision: Of the head's entry; 0 where there is none.
        generation: Of the present records; empty where there are none.
        members: What a log keeps in it.
        renewed: Until when, by the store's clock, the records are known to live at least, less twice the TTL.
    """

    revision: int = 0
    generation: str = ""
    members: Mapping[str, Any] = {}
    renewed: float = 0.0

    @property
    def own_revision(self) -> int:
        """The revision of a head of ours; 0 also where somebody else's value lies in its place."""
        return self.revision if self.generation else 0


ABSENT = HeadState()


class Head:
    """The head record of one collection.

    A collection without a head is empty. Whoever writes the first record makes the head in the same transaction,
    with a generation that nobody has had; every write compares the head's revision, every read looks at the head and
    the records in one moment. So one conditional delete of the head is what deletes all records for everybody at
    once; what it leaves behind is named by a note, and swept.

    Args:
        context: Where the collection is.
        layout: Its keys.
        kind: ``records`` or ``log``.
        foreign: Notes a head that is none.
        ttl: Seconds after its last use after which the whole collection is gone.
        logged: Whether the log tells of the head.
    """

    def __init__(
        self,
        context: memxContext,
        layout: Layout,
        kind: str,
        foreign: ForeignValues,
        ttl: float | None,
        logged: bool,
    ) -> None:
        self._logged = logged
        self._context = context
        self._layout = layout
        self._kind = kind
        self._foreign = foreign
        self._ttl = ttl
        # What was last seen. It may be old: whoever uses it compares it in the same request.
        self.known: HeadState | None = None

    @property
    def record_ttl(self) -> float | None:
        """Seconds after which a record of the collection expires, unless it is renewed."""
        return None if self._ttl is None else self._ttl * _KEPT_TWICE

    def learn(self, entry: Entry | None) -> HeadState:
        """Read what the head's key holds."""
        self.known = ABSENT if entry is None else self._read(entry)
        return self.known

    def present(self) -> HeadState:
        """Return what is known, and ask where nothing is."""
        return self.known or self.learn(self._context.get(self._layout.head))

    def fresh(self) -> HeadState:
        """Ask what the head is now."""
        return self.learn(self._context.get(self._layout.head))

    def compare(self, state: HeadState) -> dict[str, Any]:
        """The compare that ties a transaction to a state."""
        return {"key": self._layout.head, "revision": state.revision}

    def read_again(self) -> dict[str, Any]:
        """The operation by which a transaction whose compare failed brings the present head."""
        return {"op": "get", "key": self._layout.head}

    def keep(self, state: HeadState, generation: str) -> list[dict[str, Any]]:
        """The operations by which a write makes the head or, where it is to expire, renews it."""
        if not state.generation:
            return [self.write(state, generation, {})]
        if self._ttl is not None:
            return [{"op": "touch", "key": self._layout.head, "touch": self._ttl}]
        return []

    def write(
        self, state: HeadState, generation: str, members: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The operation that writes the head."""
        value: dict[str, Any] = {"memx": self._kind, "generation": generation, **members}
        if self._ttl is not None and state.renewed and state.generation == generation:
            value["renewed"] = state.renewed
        write: dict[str, Any] = {"op": "set", "key": self._layout.head, "value": value}
        if not self._logged and not state.revision:
            write["logged"] = False
        return write if self._ttl is None else {**write, "ttl": self._ttl}

    def wrote(self, result: TxnResult, state: HeadState, value: Mapping[str, Any]) -> None:
        """Remember what a transaction of this process has made of the head."""
        renewed = state.renewed if state.generation == value["generation"] else result.ts
        self.known = HeadState(result.revision, value["generation"], value, renewed)

    def note(self, generation: str) -> dict[str, Any]:
        """The operation that notes that a generation is to be swept."""
        value = {"pattern": self._pattern(generation)}
        return {"op": "set", "key": self._layout.note(generation), "value": value, "logged": False}

    def delete(self, state: HeadState) -> bool:
        """Delete the collection for everybody at once, if the head is still as it was; what it leaves is not swept.

        Returns:
            Whether it was; else the new state is known.
        """
        key = self._layout.note(state.generation)
        delete = {"op": "delete", "key": self._layout.head}
        try:
            result = self._delete([delete, self.note(state.generation)], state)
        except ForbiddenError as refusal:
            if refusal.extra.get("key") not in (None, key):
                raise
            # An API key for this collection alone may not write among the notes of all: then nobody else finishes
            # what is left, should this process end before it has swept.
            result = self._delete([delete], state)
        if result.succeeded:
            self.known = ABSENT
        return result.succeeded

    def sweep(self, generation: str) -> None:
        """Delete what a generation that nobody reads any more left behind, then the note of it."""
        self._sweep(self._pattern(generation), self._layout.note(generation))

    def sweep_notes(self, limit: int = 4) -> int:
        """Finish what others under the same root left unswept, as after a crash.

        Returns:
            How many generations were swept.
        """
        try:
            notes = self._context.entries(self._layout.notes(), limit=limit)
        except ForbiddenError:
            return 0
        swept = 0
        for note in notes:
            pattern = note.value.get("pattern") if isinstance(note.value, dict) else None
            # A note is believed only as far as one could have been written: it names a generation below this root.
            if self._layout.is_generation(pattern):
                self._sweep(str(pattern), note.key)
                swept += 1
            else:
                self._foreign.note(note.key)
        return swept

    def renew(self, expires_at: float | None, state: HeadState) -> None:
        """Let the records live on where the head, renewed until ``expires_at``, would outlive one of them."""
        if self._ttl is None or self.record_ttl is None or expires_at is None:
            return
        if expires_at <= state.renewed + self.record_ttl:
            return
        self._touch_all(state.generation, self.record_ttl)
        # Conditional, since somebody may have cleared it or appended meanwhile; whoever did renews next time.
        members = {"renewed": expires_at - self._ttl}
        result = self._context.txn(
            if_=[self.compare(state)],
            then=[
                self.write(
                    state._replace(renewed=0.0), state.generation, {**state.members, **members}
                )
            ],
            else_=[],
        )
        self.known = (
            state._replace(revision=result.revision, renewed=members["renewed"])
            if result.succeeded
            else None
        )

    def use(self, state: HeadState) -> None:
        """Let the collection live for its TTL from now on, as it was read."""
        if self._ttl is None or not state.generation:
            return
        try:
            touched = self._context.txn(
                if_=[{"key": self._layout.head, "exists": True}],
                then=[{"op": "touch", "key": self._layout.head, "touch": self._ttl}],
            )
        except ForbiddenError:  # a reader without write keeps nothing alive
            return
        if touched.succeeded and touched.results:
            self.renew(touched.results[0].get("expires_at"), state)

    def _delete(self, operations: list[dict[str, Any]], state: HeadState) -> TxnResult:
        result = self._context.txn(
            if_=[self.compare(state)], then=operations, else_=[self.read_again()]
        )
        if not result.succeeded:
            self.learn(read_entry(result.results[0]))
        return result

    def _sweep(self, pattern: str, note: str) -> None:
        # In bounded steps of the server's: whatever ends this process, the note stays until the last key is gone.
        self._context.delete_pattern(pattern)
        try:
            self._context.delete(note)
        except ForbiddenError:  # then there is none either: see `delete`
            return

    def _touch_all(self, generation: str, ttl: float) -> None:
        keys = self._context.keys(self._pattern(generation))
        for start in range(0, len(keys), MOST_OPERATIONS):
            chunk = keys[start : start + MOST_OPERATIONS]
            self._context.txn(
                then=[{"op": "touch", "key": key, "touch": ttl} for key in chunk]
            )

    def _pattern(self, generation: str) -> str:
        return self._layout.everything(generation)

    def _read(self, entry: Entry) -> HeadState:
        value = entry.value
        value = value if isinstance(value, dict) else {}
        generation = str(value.get("generation"))
        if value.get("memx") != self._kind or not self._layout.is_generation(
            self._pattern(generation)
        ):
            # It counts as none, and the next write replaces it.
            self._foreign.note(entry.key)
            return HeadState(entry.revision)
        renewed = value.get("renewed")
        # Before anybody renewed, the records are as old as the head: whoever writes it a second time says so.
        return HeadState(
            entry.revision,
            generation,
            value,
            float(renewed) if isinstance(renewed, (int, float)) else entry.ts,
        )


def read_entry(result: Mapping[str, Any]) -> Entry | None:
    """Read what a transaction's ``get`` found."""
    entry = result.get("entry")
    return None if entry is None else Entry(entry)
