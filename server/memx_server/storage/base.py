"""The Store protocol: what the domain asks of Redis and of SQLite.

A store keeps opaque value bytes (JSON text that the domain has checked). Entries and changes come back
as ready JSON texts in one fixed form (``encoding.py``), so that an answer can pass them on unread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from memx_sdk.protocol.cursors import Position

HISTORY_KEPT = 100
"""How many revisions of a key stay indexed."""


class StoreUnavailable(Exception):
    """The store cannot be reached or did not answer in time; nothing is known to have been lost."""


class Compacted(Exception):
    """The log no longer reaches back to the position asked for."""


class Diverged(Exception):
    """The position belongs to a history that was lost, or to another space."""


@dataclass(frozen=True, slots=True)
class Put:
    """Set ``key`` to ``value``.

    Attributes:
        ttl_ms: Milliseconds until it expires, by the store's clock; None for no expiry.
        keep_expiry: Leave the present expiry as it is; goes without ``ttl_ms``.
        log_value: Whether the log keeps the value (``history: false`` makes this False).
    """

    key: str
    value: bytes
    ttl_ms: int | None = None
    keep_expiry: bool = False
    log_value: bool = True
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove ``key``; a missing key makes no change."""

    key: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Touch:
    """Move only the expiry of ``key`` (None: never expires): no revision, no change; a missing key stays missing."""

    key: str
    ttl_ms: int | None


@dataclass(frozen=True, slots=True)
class PutSchema:
    """Register ``schema`` (JSON text) for an exact key or a pattern."""

    key: str
    schema: bytes
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteSchema:
    """Remove the schema registered for exactly this key or pattern; a missing one makes no change."""

    key: str
    reason: str | None = None


Write = Put | Delete | Touch | PutSchema | DeleteSchema


@dataclass(frozen=True, slots=True)
class Compare:
    """Holds when the entry of ``key`` has ``revision``; 0 stands for 'does not exist'."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Idempotency:
    """What makes a repeated transaction answer as the first time.

    Attributes:
        token: Names the request: the principal and its ``Idempotency-Key``.
        digest: A digest of the request's content; another one under the same token is a mismatch.
        note: Bytes that a repetition gets back, for the domain to answer from.
    """

    token: str
    digest: str
    note: bytes = b""


@dataclass(frozen=True, slots=True)
class Transaction:
    """Writes on distinct keys that happen all or not at all, if every compare holds.

    Attributes:
        schema_revision: The schema revision that the values were checked against; None skips the check.
    """

    writer: str
    writes: Sequence[Write]
    compares: Sequence[Compare] = ()
    schema_revision: int | None = None
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one write.

    Attributes:
        changed: False where there was nothing to delete or touch.
        version: The entry's version afterwards; 0 when it is gone or was never there.
        expires_at: Unix seconds, or None.
    """

    changed: bool
    version: int = 0
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction happened, now or (``replayed_note`` is not None) when it was first sent.

    Attributes:
        position: Its place in the log; the head as it was when it changed nothing.
        ts: Unix seconds by the store's clock.
        written: One for each write, in order.
    """

    position: Position
    ts: float
    written: Sequence[Written]
    replayed_note: bytes | None = None


@dataclass(frozen=True, slots=True)
class Conflicted:
    """A compare failed; nothing happened. ``entry`` is what ``key`` holds (JSON text), or None."""

    key: str
    entry: bytes | None


@dataclass(frozen=True, slots=True)
class SchemaMoved:
    """The space's schemas have another revision than the values were checked against; nothing happened."""

    revision: int


@dataclass(frozen=True, slots=True)
class IdempotencyMismatch:
    """The token was used before for a request with another digest; nothing happened."""


Outcome = Committed | Conflicted | SchemaMoved | IdempotencyMismatch


@dataclass(frozen=True, slots=True)
class Change:
    """One key's part of a transaction; ``data`` is its JSON text (``encoding.py``)."""

    key: str
    action: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One committed transaction in the log.

    Attributes:
        position: Where a reader stands after it. The lineage is the one current when it was read.
        previous: The revision of the record before it, 0 when there was none. A reader that stands elsewhere
            has missed something.
        changes: Its changes, in the order of the transaction's writes; None in a notice that was too large to carry them.
    """

    position: Position
    previous: int
    changes: Sequence[Change] | None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Records after a position, oldest first.

    Attributes:
        position: Where a reader stands after ``records``; where there are none, the head.
        head: The newest revision of the space.
    """

    records: Sequence[Record]
    position: Position
    head: int


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Changes of one key, newest first.

    Attributes:
        complete: True when nothing older of this key has been dropped.
    """

    changes: Sequence[Change]
    complete: bool


@dataclass(frozen=True, slots=True)
class Schemas:
    """All schemas of a space by key or pattern, and the revision of the last write to any of them (0: none yet)."""

    revision: int
    by_pattern: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Keys in code-point order with their entries (JSON texts), all of one moment.

    Attributes:
        after: Pass it to get the next page; None at the end.
    """

    entries: Sequence[tuple[str, bytes]]
    after: str | None


class TailListener(Protocol):
    """What a store calls, on the event loop, for a space that is tailed. It must not block or raise."""

    def on_record(self, record: Record) -> None:
        """A transaction was committed, by this process or another; may come twice or out of order."""

    def on_gap(self) -> None:
        """Notices may have been lost (the connection to the store broke); read the log."""


class StateStore(Protocol):
    """Small records that expire, beside the log: no revision, no subscriber is woken.

    A record is named by ``(group, name)``. Groups are listed whole, so they are kept small.
    """

    async def put(self, group: str, name: str, value: bytes, ttl_ms: int) -> None:
        """Set a record, replacing what it held."""

    async def get(self, group: str, name: str) -> bytes | None:
        """Read a record."""

    async def take(self, group: str, name: str) -> bytes | None:
        """Read and remove a record; of several takers one gets it."""

    async def increment(self, group: str, name: str, ttl_ms: int, by: int = 1) -> int:
        """Add to a counter and return it; ``ttl_ms`` counts from its first increment."""

    async def compare_and_put(
        self, group: str, name: str, expected: bytes | None, value: bytes, ttl_ms: int
    ) -> bool:
        """Set a record if it holds ``expected`` (None: if there is none); tell whether it did."""

    async def remove(self, group: str, name: str) -> None:
        """Remove a record."""

    async def list(self, group: str) -> dict[str, bytes]:
        """Read every live record of a group."""


class Store(Protocol):
    """Every method raises ``StoreUnavailable`` when the store cannot be reached in time."""

    state: StateStore

    async def open(self) -> None:
        """Connect, load scripts, start the expiry sweep."""

    async def close(self) -> None:
        """Stop background work and release every connection or file."""

    async def ping(self) -> None:
        """Return when the store answers."""

    async def read(self, space: str, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Read entries (JSON texts) of one moment; None for each key that does not exist."""

    async def list(
        self, space: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> KeyPage:
        """Read the live entries whose keys start with ``prefix`` and sort behind ``after``."""

    async def commit(self, space: str, transaction: Transaction) -> Outcome:
        """Apply ``transaction`` atomically, in the total order of the space."""

    async def head(self, space: str) -> Position:
        """The position after the newest change; revision 0 in a space that never held anything."""

    async def log(self, space: str, since: Position, limit: int) -> LogPage:
        """Read the log after ``since``.

        Raises:
            Compacted: The log has been trimmed past ``since``.
            Diverged: ``since`` is above the head or names a history that was lost or never was.
        """

    async def history(
        self, space: str, key: str, limit: int, *, until: int | None = None
    ) -> HistoryPage:
        """Read the changes of ``key``, newest first, from revision ``until`` (None: the newest) down."""

    async def schemas(self, space: str) -> Schemas:
        """Read all schemas of the space."""

    async def tail(self, space: str, listener: TailListener) -> Callable[[], Awaitable[None]]:
        """Tell ``listener`` of every commit from now on; await what is returned to stop."""
