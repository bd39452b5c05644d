"""How a transaction gets into the store.

Its values are checked against the schemas, it is redone when they move, and it is applied once.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain import answers
from memx_server.domain.caller import Caller
from memx_server.domain.judging import Judge
from memx_server.domain.schema_rules import violation_error
from memx_server.domain.schemas import SchemaCache, SchemaSet
from memx_server.domain.values import check_value
from memx_server.settings import Settings
from memx_server.storage.base import (
    Committed,
    Compare,
    Conflicted,
    Idempotency,
    IdempotencyMismatch,
    Outcome,
    Put,
    SchemaMoved,
    SpaceFull,
    Store,
    StoreUnavailable,
    Transaction,
    Write,
)

_PAUSE = 0.05
"""Seconds before a commit whose answer was lost is sent again."""

_IMPOSSIBLE = (Compare("-", 2**53 - 1),)
"""Holds never: no entry has this revision."""

_encode = msgspec.json.Encoder().encode


class Commits:
    """Base of all that reads and writes a store: what they share, and the one way to commit."""

    def __init__(
        self, store: Store, schemas: SchemaCache, judge: Judge, settings: Settings
    ) -> None:
        self._store = store
        self._schemas = schemas
        self._judge = judge
        self._limits = settings.limits
        self._deadline = settings.write_deadline

    async def _commit(
        self,
        caller: Caller,
        writes: Sequence[Write],
        compares: Sequence[Compare] = (),
        idempotency: Idempotency | None = None,
    ) -> Committed:
        """Check the values of ``writes`` and commit them.

        Raises:
            ProtocolError: ``conflict`` where a compare fails, and as ``_try_commit``.
        """
        outcome = await self._try_commit(caller, writes, compares, idempotency)
        if isinstance(outcome, Conflicted):
            raise answers.conflict(caller, outcome.key, outcome.entry)
        return outcome

    async def _try_commit(
        self,
        caller: Caller,
        writes: Sequence[Write],
        compares: Sequence[Compare] = (),
        idempotency: Idempotency | None = None,
    ) -> Committed | Conflicted:
        """Check the values of ``writes`` and commit them.

        Raises:
            ProtocolError: A value is too large or its schema refuses it, the idempotency key was
                used for another request, the space has no room for more keys, or the store does
                not answer within the deadline.
        """
        space = caller.principal.space
        while True:
            schemas = self._schemas.cached(space) or await self._schemas.of(space)
            transaction = Transaction(
                caller.writer, writes, compares, schemas.revision, idempotency
            )
            refusal = await self._refusal(schemas, writes)
            if refusal is not None:
                # The store still has to say that these are the schemas and that it is no repetition.
                transaction = replace(transaction, writes=(), compares=_IMPOSSIBLE)
            outcome = await self._send(space, transaction)
            if isinstance(outcome, SchemaMoved):
                self._schemas.moved(space, outcome.revision)
            elif isinstance(outcome, IdempotencyMismatch):
                raise _mismatch()
            elif isinstance(outcome, SpaceFull):
                raise _space_full(outcome)
            elif refusal is not None and isinstance(outcome, Conflicted):
                raise refusal
            else:
                return outcome

    async def _earlier_answer(
        self, caller: Caller, idempotency: Idempotency | None, refusal: ProtocolError
    ) -> Committed:
        """Return what the request was answered when it was first sent, else raise ``refusal``.

        A repeated update meets another state than the first one did: a counter at its bound.
        """
        if idempotency is None:
            raise refusal
        probe = Transaction(caller.writer, (), _IMPOSSIBLE, None, idempotency)
        outcome = await self._send(caller.space, probe)
        if isinstance(outcome, Committed):
            return outcome
        raise _mismatch() if isinstance(outcome, IdempotencyMismatch) else refusal

    async def _refusal(self, schemas: SchemaSet, writes: Sequence[Write]) -> ProtocolError | None:
        """Why one of the values cannot be written; None where all can."""
        for write in writes:
            if not isinstance(write, Put):
                continue
            try:
                check_value(write.value, self._limits)
                schema = schemas.winner(write.key)
                if schema is None:
                    continue
                violations = await self._judge.violations(write.key, schema, write.value)
            except ProtocolError as refusal:
                return refusal
            if violations:
                return violation_error(write.key, schema.pattern, violations)
        return None

    async def _send(self, space: str, transaction: Transaction) -> Outcome:
        """Commit; where the store does not answer, again while the deadline allows.

        Only a transaction with an idempotency token is sent again: the store may have applied the
        first one and lost only the reply.
        """
        if transaction.idempotency is None:
            return await self._store.commit(space, transaction)
        give_up = time.monotonic() + self._deadline
        while True:
            try:
                return await self._store.commit(space, transaction)
            except StoreUnavailable:
                if time.monotonic() + _PAUSE > give_up:
                    raise
            await asyncio.sleep(_PAUSE)

    def _checked_reason(self, reason: str | None) -> str | None:
        if reason is not None and len(reason.encode()) > self._limits.reason_bytes:
            raise ProtocolError(
                "too_large",
                f"the reason is longer than {self._limits.reason_bytes} bytes",
                field="reason",
                limit="reason_bytes",
            )
        return reason


def milliseconds(seconds: float | None) -> int | None:
    """Turn a wire duration into what stores count in; at least one."""
    return None if seconds is None else max(1, round(seconds * 1000))


def idempotency_of(
    caller: Caller, operation: str, request: msgspec.Struct, note: bytes = b""
) -> Idempotency | None:
    """Make the token under which a write is applied once; None when the caller named none."""
    if caller.idempotency_key is None:
        return None
    content = hashlib.blake2b(_encode(request), digest_size=16, person=operation.encode()[:16])
    return Idempotency(
        f"{caller.principal.name}\n{caller.idempotency_key}", content.hexdigest(), note
    )


def _mismatch() -> ProtocolError:
    return ProtocolError(
        "idempotency_mismatch",
        "this Idempotency-Key was used before for another request; use a new key for a new request",
        field="idempotency_key",
    )


def _space_full(outcome: SpaceFull) -> ProtocolError:
    return ProtocolError(
        "quota_exceeded",
        f"this space may hold {outcome.max_keys} keys, and this write would leave it with more; nothing "
        "was written. Delete keys that are no longer needed, or give passing ones a ttl; keys that "
        "exist can still be overwritten",
        limit="space_keys",
    )
