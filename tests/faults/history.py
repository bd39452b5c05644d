"""The record of a run under faults: what clients asked, what subscribers saw, what the store holds at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["ok", "refused", "unknown"]
"""``ok``: acknowledged. ``refused``: surely not applied (a 4xx). ``unknown``: no answer, or a 503."""

WRITES = frozenset({"set", "set_if", "increment", "append", "delete", "pair", "set_schema"})


@dataclass(slots=True)
class Operation:
    """One request of one client.

    Attributes:
        client: Who asked.
        kind: ``get``, ``pair_read``, or one of ``WRITES``.
        keys: The keys that it names.
        token: A text that is its own alone; writes carry it as their reason.
        arguments: ``value``, ``if_revision``, ``by``, ``item``, ``ttl``, ``schema``, as far as the kind has them.
        start: When it was sent, by the clock of the observing process, in seconds.
        end: When its answer came, or when the client gave up.
        outcome: What became of it.
        revision: The revision that a write or the entry of a read has; 0 for a missing entry.
        cursor: The cursor that a write's answer brought.
        seen: What a read saw: for each key its entry, or None.
    """

    client: str
    kind: str
    keys: tuple[str, ...]
    token: str
    arguments: dict[str, Any] = field(default_factory=dict)
    start: float = 0.0
    end: float = 0.0
    outcome: Outcome = "unknown"
    revision: int | None = None
    cursor: str | None = None
    seen: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        """Whether it changes something when it is applied."""
        return self.kind in WRITES


@dataclass(slots=True)
class Segment:
    """What a subscriber saw between two resets.

    Attributes:
        events: Value and schema events in the order in which they came, without those of a snapshot.
        snapshot: The entries that a snapshot brought before the segment went live.
        begins_after: The revision of the cursor from which the segment goes on; None where it is not known.
        reached: The newest revision that an event, a mark or a cursor named.
        reset: The reason of the reset that ended the segment; None for the last one.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    snapshot: list[dict[str, Any]] = field(default_factory=list)
    begins_after: int | None = None
    reached: int = 0
    reset: str | None = None


@dataclass(slots=True)
class Observation:
    """One subscriber's whole story.

    Attributes:
        name: Which subscriber.
        road: ``poll``, ``sse``, ``ws``, ``subscribe`` or ``durable``.
        pattern: What it asked for.
        conflate: Whether it wanted the newest value of each key only.
        segments: What it saw; at least one.
        faults: What the client itself found wrong with a message, in words.
    """

    name: str
    road: str
    pattern: str
    conflate: bool = False
    segments: list[Segment] = field(default_factory=lambda: [Segment()])
    faults: list[str] = field(default_factory=list)

    @property
    def segment(self) -> Segment:
        """The segment that goes on."""
        return self.segments[-1]

    def reset(self, reason: str) -> None:
        """Note that the subscriber was told that its past cannot be resumed."""
        self.segment.reset = reason
        self.segments.append(Segment())


@dataclass(slots=True)
class FinalState:
    """What the store holds when everything works again and nobody writes.

    Attributes:
        log: Every change that the log keeps, oldest first.
        entries: Every entry, by key.
        trimmed: Whether the log has lost its oldest changes, so that folding it proves nothing.
        diverged: For each cursor that was asked about: whether the server calls it diverged.
    """

    log: list[dict[str, Any]]
    entries: dict[str, dict[str, Any]]
    trimmed: bool = False
    diverged: dict[str, bool] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    """A whole run.

    Attributes:
        operations: What clients asked.
        observations: What subscribers saw.
        final: What the store holds at the end.
        faults: The faults that were made, and the proof of each.
        replicated: Whether replicas may be promoted while the primary that they followed still serves.
    """

    operations: list[Operation]
    observations: list[Observation]
    final: FinalState
    faults: list[dict[str, Any]] = field(default_factory=list)
    replicated: bool = False


@dataclass(slots=True, frozen=True)
class Violation:
    """A promise that a run broke.

    Attributes:
        promise: Which one, in a word or two.
        detail: What was seen.
    """

    promise: str
    detail: str
