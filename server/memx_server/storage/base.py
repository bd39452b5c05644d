"""The Store protocol: what the domain asks of Redis and of SQLite.

A store keeps opaque value bytes (JSON text that the domain has checked). Entries and changes come
back as ready JSON texts in one fixed form (``encoding.py``), so that an answer can pass them on
unread. What a commit takes and answers is in ``transactions.py`` and can be imported from here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.durability import Durability
from memx_sdk.protocol.errors import ProtocolError
from memx_server.storage.transactions import (
    NO_QUOTAS,
    SCHEMA_OVERHEAD,
    Committed,
    Compare,
    Conflicted,
    Delete,
    DeleteSchema,
    Idempotency,
    IdempotencyMismatch,
    LoggedOtherwise,
    Outcome,
    Put,
    PutSchema,
    QuotaExceeded,
    SchemaMoved,
    SpaceQuotas,
    Touch,
    Transaction,
    Write,
    WriteOutcome,
    result_size,
    schema_size,
)

__all__ = [
    "HISTORY_KEPT",
    "NO_QUOTAS",
    "SCHEMA_OVERHEAD",
    "Change",
    "Committed",
    "Compacted",
    "Compare",
    "Conflicted",
    "Delete",
    "DeleteSchema",
    "Diverged",
    "GroupFull",
    "HistoryPage",
    "Idempotency",
    "IdempotencyMismatch",
    "KeyPage",
    "LogPage",
    "LoggedOtherwise",
    "Outcome",
    "Put",
    "PutSchema",
    "QuotaExceeded",
    "Record",
    "RevisionPage",
    "SchemaMoved",
    "SpaceQuotas",
    "SpaceSchemas",
    "StateStore",
    "Store",
    "StoreFull",
    "StoreUnavailable",
    "TailListener",
    "TooMuch",
    "Touch",
    "Transaction",
    "Write",
    "WriteOutcome",
    "result_size",
    "schema_size",
]

HISTORY_KEPT = 100
"""How many revisions of a key stay indexed."""


class StoreUnavailable(ProtocolError):  # noqa: N818 - names what happened, and the wire calls it so
    """The store cannot be reached or did not answer in time; nothing is known to have been lost.

    What it is raised with (a driver's message) is for the log; a client is told ``DETAIL`` and no more.
    """

    DETAIL = "the store behind memX does not answer at the moment; send the request again"

    def __init__(self, *args: object) -> None:
        super().__init__("unavailable", self.DETAIL, retry_after=1)
        self.args = args

    def copy(self) -> StoreUnavailable:
        """An error of its own for each of several callers: whoever raises one adds to its traceback."""
        return type(self)(*self.args)


class StoreFull(StoreUnavailable):
    """The store has no room for the write. Nothing happened. What only deletes goes through."""

    DETAIL = (
        "the store behind memX is full, so that it takes no write but deletes; delete keys that are no "
        "longer needed, or let its operator give it more room"
    )


class Compacted(Exception):  # noqa: N818 - names what happened, and the wire calls it so
    """The log no longer reaches back to the position asked for."""


class Diverged(Exception):  # noqa: N818 - names what happened, and the wire calls it so
    """The position belongs to a history that was lost, or to another space."""


class TooMuch(Exception):  # noqa: N818 - names what happened
    """The entries hold more bytes than the caller allows.

    Args:
        fits: How many of them, from the first on, fit; 1 at the least.
    """

    def __init__(self, fits: int) -> None:
        super().__init__(fits)
        self.fits = max(1, fits)


class GroupFull(Exception):  # noqa: N818 - names what happened
    """The group holds as many records as the caller allows, and this would be one more."""


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
        previous: The revision of the record before it, 0 when there was none. A reader of all records that
            stands elsewhere has missed something. Revisions in between changed unlogged keys alone.
        changes: Its changes, in the order of the transaction's writes; None in a notice that was
            too large to carry them.
    """

    position: Position
    previous: int
    changes: Sequence[Change] | None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Records after a position, oldest first; fewer than asked for where they are big.

    Attributes:
        position: Where a reader stands after ``records``; where there are none, the head, or where the reader
            stood already if that is above it.
        head: The newest revision that the log has a record of.
    """

    records: Sequence[Record]
    position: Position
    head: int


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Value changes of one key (none of a schema under the same name), newest first.

    Attributes:
        more: Whether older ones may follow than those that were read.
        complete: True when surely nothing of this key has been dropped, whatever the limit left
            out. False wherever the store no longer knows: a key made after the log was first
            trimmed may have lived before.
    """

    changes: Sequence[Change]
    complete: bool
    more: bool = False


@dataclass(frozen=True, slots=True)
class SpaceSchemas:
    """All schemas of a space by key or pattern.

    Attributes:
        revision: That of the last write to any of them, 0 when there was none yet.
    """

    revision: int
    by_pattern: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Keys in code-point order with their entries (JSON texts), all of one moment.

    Fewer than asked for where they are big.

    Attributes:
        after: Pass it to get the next page; None at the end.
    """

    entries: Sequence[tuple[str, bytes]]
    after: str | None


@dataclass(frozen=True, slots=True)
class RevisionPage:
    """Keys in code-point order with the revisions of their entries, all of one moment.

    Attributes:
        after: Pass it to get the next page; None at the end.
    """

    revisions: Sequence[tuple[str, int]]
    after: str | None


class TailListener(Protocol):
    """What a store calls, on the event loop, for a tailed space; it must not block or raise."""

    def on_record(self, record: Record) -> None:
        """A transaction was committed, here or elsewhere; may come twice or out of order."""

    def on_gap(self) -> None:
        """Notices may have been lost (the connection to the store broke); read the log."""


class StateStore(Protocol):
    """Small records that expire, beside the log: no revision, no subscriber is woken.

    A record is named by ``(group, name)``. Groups are listed whole, so they are kept small: where a
    method takes ``most``, it makes no new record in a group that holds that many live ones, and raises
    ``GroupFull``. A record that exists can always be set.
    """

    async def put(
        self, group: str, name: str, value: bytes, ttl_ms: int, *, most: int | None = None
    ) -> None:
        """Set a record, replacing what it held."""

    async def get(self, group: str, name: str) -> bytes | None:
        """Read a record."""

    async def take(self, group: str, name: str) -> bytes | None:
        """Read and remove a record; of several takers one gets it."""

    async def take_tokens(
        self, group: str, name: str, count: int, *, interval_us: int, burst: int
    ) -> tuple[int, int]:
        """Take tokens out of a bucket, by the store's clock; the bucket is no record of the group.

        A bucket holds ``burst`` tokens at first and at the most, and gets a new one every
        ``interval_us``. Within any time it so gives out a burst and what comes in during that time, and
        never more: there are no windows at whose edges two bursts meet.

        Args:
            group: Where the bucket is.
            name: Its name.
            count: How many are wanted.
            interval_us: Microseconds between two new tokens.
            burst: Tokens that a full bucket holds.

        Returns:
            How many were taken, fewer where there are not so many; then the microseconds until there
            is one more, 0 otherwise.
        """

    async def compare_and_put(
        self,
        group: str,
        name: str,
        expected: bytes | None,
        value: bytes,
        ttl_ms: int,
        *,
        most: int | None = None,
    ) -> bool:
        """Set a record if it holds ``expected`` (None: if there is none); tell whether it did."""

    async def remove(self, group: str, name: str) -> None:
        """Remove a record."""

    async def list(self, group: str) -> dict[str, bytes]:
        """Read every live record of a group."""


class Store(Protocol):
    """Spaces: their entries and their logs.

    Every method raises ``StoreUnavailable`` when the store cannot be reached in time.
    """

    state: StateStore

    async def open(self) -> None:
        """Connect, load scripts, start the expiry sweep."""

    async def close(self) -> None:
        """Stop background work and release every connection or file."""

    async def ping(self) -> None:
        """Return when the store answers."""

    async def advice(self) -> Sequence[str]:
        """Say, in sentences, what in the store's own setup could lose memory and should be changed."""

    async def read(
        self, space: str, keys: Sequence[str], *, most_bytes: int | None = None
    ) -> Sequence[bytes | None]:
        """Read entries (JSON texts) of one moment; None for each key that does not exist.

        Args:
            space: Their space.
            keys: Their keys.
            most_bytes: The most that several of them may hold together; None for any number. A single one is read
                whatever it holds.

        Raises:
            TooMuch: They hold more. No more of them than that has been in memory.
        """

    async def list(
        self, space: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> KeyPage:
        """Read the live entries whose keys start with ``prefix`` and sort behind ``after``."""

    async def revisions(
        self, space: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> RevisionPage:
        """Read the keys that ``list`` finds with their entries' revisions, whatever the size of the values."""

    async def commit(
        self, space: str, transactions: Sequence[Transaction]
    ) -> Sequence[Outcome | StoreUnavailable]:
        """Apply each of ``transactions``, in this order, in the total order of the space.

        Each is all or nothing by itself, and what became of one is nothing to the next. Transactions
        of other callers may come in between.

        A key is logged or unlogged from the write that makes it until it is deleted or expires. Changes of
        unlogged keys take a revision like all others, and leave no record, nor does their expiry; nobody is
        told of them.

        A key whose time has come is gone here too: its expiry is logged first, as a record of its
        own. Checks come in this order: idempotency, schema revision, compares, the quota of results, whether
        keys are logged, the other quotas. What changes
        nothing (only touches, deletes of missing keys) takes no revision and leaves no record, but
        its result is kept under its idempotency token. A transaction without writes keeps no result:
        sent again, it is applied again.

        In a store with quotas (``SpaceQuotas``) a transaction is refused where it would leave the
        space with more than one of them allows and adds to it: where it creates more keys than it
        deletes (what has expired does not count), where its result would be kept, where it makes the
        schemas longer. A result that is kept is never dropped before its time; one whose time has come
        is counted for a minute more at the most.

        Returns:
            The outcome of each. It is ``StoreUnavailable``, returned and not raised, where the store
            does not answer for that one: then it may or may not have happened.
        """

    async def confirm(self, space: str, durability: Durability) -> bool:
        """Wait until all that has been committed to ``space`` by now is as durable as that.

        Returns:
            Whether it is known to be. False is no failure: it may be all the same, or become so.
        """

    async def head(self, space: str) -> Position:
        """The position after the newest change of the log; revision 0 where it never held one.

        That position at 0 stays good for ``log``: it stands before all that is written later.
        """

    async def log(self, space: str, since: Position | None, limit: int) -> LogPage:
        """Read the log after ``since`` (None: from the oldest record kept).

        The log is kept up to a number of records and of bytes (``len(change.data)`` over all
        changes); the newest record always stays.

        Raises:
            Compacted: The log has been trimmed past ``since``.
            Diverged: ``since`` is above the head or names a history that was lost or never was.
        """

    async def history(
        self, space: str, key: str, limit: int, *, until: int | None = None
    ) -> HistoryPage:
        """Read the changes of ``key``, newest first, from revision ``until`` (None: head) down.

        Fewer than asked for where they are big, but one at the least.
        """

    async def schemas(self, space: str) -> SpaceSchemas:
        """Read all schemas of the space."""

    async def tail(self, space: str, listener: TailListener) -> Callable[[], Awaitable[None]]:
        """Tell ``listener`` of every commit from now on; await what is returned to stop."""
