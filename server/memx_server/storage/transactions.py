"""What a commit takes and what it answers: writes, compares, transactions and their outcomes.

Structs, since every request makes a handful: a frozen dataclass takes five times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.idempotency import NAMED_KEPT_SECONDS


class Put(msgspec.Struct, frozen=True):
    """Set ``key`` to ``value``.

    Attributes:
        ttl_ms: Milliseconds until it expires, by the store's clock; None for no expiry.
        keep_expiry: Leave the present expiry as it is; goes without ``ttl_ms``.
        log_value: Whether the log keeps the value (``history: false`` makes this False).
        logged: Whether the key is logged, which its first write settles until it is deleted; None for what
            holds already, and logged where there is no entry.
    """

    key: str
    value: bytes
    ttl_ms: int | None = None
    keep_expiry: bool = False
    log_value: bool = True
    reason: str | None = None
    logged: bool | None = None


class Delete(msgspec.Struct, frozen=True):
    """Remove ``key``; a missing key makes no change."""

    key: str
    reason: str | None = None


class Touch(msgspec.Struct, frozen=True):
    """Move only the expiry of ``key`` (None: never expires): no revision, no change.

    A missing key stays missing.
    """

    key: str
    ttl_ms: int | None


class PutSchema(msgspec.Struct, frozen=True):
    """Register ``schema`` (JSON text) for an exact key or a pattern."""

    key: str
    schema: bytes
    reason: str | None = None


class DeleteSchema(msgspec.Struct, frozen=True):
    """Remove the schema of exactly this key or pattern; a missing one makes no change."""

    key: str
    reason: str | None = None


Write = Put | Delete | Touch | PutSchema | DeleteSchema


class Compare(msgspec.Struct, frozen=True):
    """Holds when the entry of ``key`` has ``revision``; 0 stands for 'does not exist'."""

    key: str
    revision: int


class Idempotency(msgspec.Struct, frozen=True):
    """What makes a repeated transaction answer as the first time.

    Attributes:
        token: Names the request: the principal and its ``Idempotency-Key``.
        digest: A digest of the request's content; another one under the same token is a mismatch.
        note: Bytes that a repetition gets back, for the domain to answer from.
        kept_ms: Milliseconds for which the result is kept.
    """

    token: str
    digest: str
    note: bytes = b""
    kept_ms: int = NAMED_KEPT_SECONDS * 1000


class Transaction(msgspec.Struct, frozen=True):
    """Writes on distinct keys that happen all or not at all, if every compare holds.

    Attributes:
        schema_revision: The schema revision that the values were checked against; None skips
            the check.
    """

    writer: str
    writes: Sequence[Write]
    compares: Sequence[Compare] = ()
    schema_revision: int | None = None
    idempotency: Idempotency | None = None


class WriteOutcome(msgspec.Struct, frozen=True):
    """What became of one write.

    Attributes:
        changed: False where there was nothing to delete or touch.
        version: The entry's version afterwards; 0 when it is gone or was never there.
        expires_at: Unix seconds, or None.
        logged: Whether the key is logged; True where nothing changed.
    """

    changed: bool
    version: int = 0
    expires_at: float | None = None
    logged: bool = True


class Committed(msgspec.Struct, frozen=True):
    """The transaction happened, now or (``replayed_note`` is not None) when it was first sent.

    A repetition gets the other fields as they were the first time.

    Attributes:
        position: Its place in the order of the space, from which the log resumes although it holds no record of what
            changed unlogged keys alone; the newest one where it changed nothing.
        ts: Unix seconds by the store's clock.
        written: One for each write, in order.
        confirmed: Whether it is known to be as durable as was wanted; None where memory was enough.
    """

    position: Position
    ts: float
    written: Sequence[WriteOutcome]
    replayed_note: bytes | None = None
    confirmed: bool | None = None


class Conflicted(msgspec.Struct, frozen=True):
    """A compare failed; nothing happened. ``entry`` is what ``key`` holds (JSON text), or None."""

    key: str
    entry: bytes | None


class SchemaMoved(msgspec.Struct, frozen=True):
    """The values were checked against another schema revision than this one; nothing happened."""

    revision: int


class LoggedOtherwise(msgspec.Struct, frozen=True):
    """A write says of a key whether it is logged, and the key was made otherwise; nothing happened.

    Attributes:
        key: The key.
        logged: Whether it is logged.
    """

    key: str
    logged: bool


class IdempotencyMismatch(msgspec.Struct, frozen=True):
    """The token was used before for a request with another digest; nothing happened."""


QuotaName = Literal["keys", "result_bytes", "schema_bytes"]


class SpaceQuotas(msgspec.Struct, frozen=True):
    """The most that a space may hold of each; 0 for no bound.

    Attributes:
        keys: Keys.
        result_bytes: Bytes of results that are kept for idempotency tokens, as ``result_size`` counts.
        schema_bytes: Bytes of schemas, as ``schema_size`` counts.
    """

    keys: int = 0
    result_bytes: int = 0
    schema_bytes: int = 0

    def exceeded(self, quota: QuotaName) -> QuotaExceeded:
        """Make the outcome of a transaction that goes above one of them."""
        bounds = {
            "keys": self.keys,
            "result_bytes": self.result_bytes,
            "schema_bytes": self.schema_bytes,
        }
        return QuotaExceeded(quota, bounds[quota])


NO_QUOTAS = SpaceQuotas()


def result_size(transaction: Transaction) -> int:
    """Return the bytes that the kept result of a transaction is charged with, in every store.

    It is above what Redis takes for a string of its own with an expiry (key, value and its tables), and
    what SQLite takes for a row in two indexes; a test compares. What a transaction without writes
    returns is not kept.
    """
    if transaction.idempotency is None or not transaction.writes:
        return 0
    return 320 + len(transaction.idempotency.note) + 40 * len(transaction.writes)


SCHEMA_OVERHEAD = 128
"""Bytes that a schema is charged with beside its pattern and its text."""


def schema_size(pattern: str, schema: bytes) -> int:
    """Return the bytes that a schema is charged with, in every store."""
    return SCHEMA_OVERHEAD + len(pattern.encode()) + len(schema)


class QuotaExceeded(msgspec.Struct, frozen=True):
    """It would have left the space with more than it may hold; nothing happened.

    Attributes:
        quota: The field of ``SpaceQuotas``.
        bound: Its value.
    """

    quota: QuotaName
    bound: int


Outcome = (
    Committed | Conflicted | SchemaMoved | IdempotencyMismatch | QuotaExceeded | LoggedOtherwise
)
