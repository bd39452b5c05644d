"""How a transaction gets into the store.

Its values are checked against the schemas, it is redone when they move, and it is applied once.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain import responses
from memx_server.domain.caller import Caller
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.schema.cache import SchemaCache, SchemaSet
from memx_server.domain.schema.schema import violation_error
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


class TransactionDraft(msgspec.Struct, frozen=True):
    """A transaction that is asked for, before its values are checked."""

    caller: Caller
    writes: Sequence[Write]
    compares: Sequence[Compare] = ()
    idempotency: Idempotency | None = None


class Committer:
    """The one way by which a transaction gets into the store.

    Args:
        store: Where it is committed.
        schemas: The schemas that its values are checked against.
        evaluator: Checks them.
        settings: The limits of values, and how long a commit may take.
    """

    def __init__(
        self, store: Store, schemas: SchemaCache, evaluator: Evaluator, settings: Settings
    ) -> None:
        self._store = store
        self._schemas = schemas
        self._evaluator = evaluator
        self._limits = settings.limits
        self._deadline = settings.write_deadline

    async def commit(self, draft: TransactionDraft) -> Committed:
        """Check the values and commit them.

        Raises:
            ProtocolError: ``conflict`` where a compare fails, and as ``try_commit``.
        """
        outcome = await self.try_commit(draft)
        if isinstance(outcome, Conflicted):
            raise responses.conflict(draft.caller, outcome.key, outcome.entry)
        return outcome

    async def try_commit(self, draft: TransactionDraft) -> Committed | Conflicted:
        """Check the values and commit them.

        Raises:
            ProtocolError: A value is too large or its schema refuses it, the idempotency key was
                used for another request, the space has no room for more keys, or the store does
                not answer within the deadline.
        """
        space = draft.caller.principal.space
        while True:
            schemas = await self._schemas.of(space)
            transaction, refusal = await self._checked(schemas, draft)
            outcome = await self._send(space, transaction)
            if isinstance(outcome, SchemaMoved):
                self._schemas.moved(space, outcome.revision)
                continue
            result = _result(outcome, refusal)
            if isinstance(result, ProtocolError):
                raise result
            return result

    async def commit_each(
        self, drafts: Sequence[TransactionDraft]
    ) -> list[Committed | ProtocolError]:
        """Do as so many calls of ``commit`` that need not wait for each other, in this order.

        They are of one space. One that is sent again since it has a token must be the only one of its
        key: it may pass others.
        """
        space = drafts[0].caller.principal.space
        results: list[Committed | ProtocolError | None] = [None] * len(drafts)
        give_up = time.monotonic() + self._deadline
        while waiting := [at for at, result in enumerate(results) if result is None]:
            try:
                schemas = await self._schemas.of(space)
            except StoreUnavailable as error:
                return [result or error for result in results]
            checked = [await self._checked(schemas, drafts[at]) for at in waiting]
            outcomes = await self._store.commit_each(space, [each[0] for each in checked])
            late = time.monotonic() + _PAUSE > give_up
            for at, (_, refusal), outcome in zip(waiting, checked, outcomes, strict=True):
                results[at] = self._result_of(drafts[at], outcome, refusal, late=late)
            if not late and any(isinstance(outcome, StoreUnavailable) for outcome in outcomes):
                await asyncio.sleep(_PAUSE)
        return [result for result in results if result is not None]

    def _result_of(
        self,
        draft: TransactionDraft,
        outcome: Outcome | StoreUnavailable,
        refusal: ProtocolError | None,
        *,
        late: bool,
    ) -> Committed | ProtocolError | None:
        """What came of one of several; None where it is to be sent again."""
        if isinstance(outcome, SchemaMoved):
            self._schemas.moved(draft.caller.space, outcome.revision)
            return None
        if isinstance(outcome, StoreUnavailable):
            return outcome if draft.idempotency is None or late else None
        result = _result(outcome, refusal)
        if isinstance(result, Conflicted):
            return responses.conflict(draft.caller, result.key, result.entry)
        return result

    async def earlier_answer(
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

    async def _checked(
        self, schemas: SchemaSet, draft: TransactionDraft
    ) -> tuple[Transaction, ProtocolError | None]:
        """The transaction to send, and why none of it may happen, if so."""
        refusal = await self._refusal(schemas, draft.writes)
        writes, compares = draft.writes, draft.compares
        if refusal is not None:
            # The store still has to say that these are the schemas and that it is no repetition.
            writes, compares = (), _IMPOSSIBLE
        writer, revision = draft.caller.writer, schemas.revision
        return Transaction(writer, writes, compares, revision, draft.idempotency), refusal

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
                violations = await self._evaluator.violations(write.key, schema, write.value)
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

    def checked_reason(self, reason: str | None) -> str | None:
        """Return the reason of a write.

        Raises:
            ProtocolError: ``too_large``.
        """
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


def _result(
    outcome: Committed | Conflicted | IdempotencyMismatch | SpaceFull,
    refusal: ProtocolError | None,
) -> Committed | Conflicted | ProtocolError:
    """What the caller is to hear, given why none of it may happen."""
    if isinstance(outcome, IdempotencyMismatch):
        return _mismatch()
    if isinstance(outcome, SpaceFull):
        return _space_full(outcome)
    if refusal is not None and isinstance(outcome, Conflicted):
        return refusal
    return outcome


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
