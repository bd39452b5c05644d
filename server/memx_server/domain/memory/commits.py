"""The one way to commit: values are checked by the schemas, and a transaction is applied at most once."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec

from memx_sdk.protocol.durability import Durability
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.idempotency import RETRY_PREFIX, kept_seconds
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
    QuotaExceeded,
    SchemaMoved,
    Store,
    StoreUnavailable,
    Transaction,
    Write,
)

_PAUSE = 0.05
"""Seconds before a commit whose answer was lost is sent again."""

_IMPOSSIBLE = (Compare("-", 2**53 - 1),)
"""Holds never: no entry has this revision."""

CommitResult = Committed | Conflicted | ProtocolError
"""What came of one draft: it happened, a compare failed, or why else it did not happen."""

_encode = msgspec.json.Encoder().encode


class TransactionDraft(msgspec.Struct, frozen=True):
    """A transaction before its values are checked."""

    caller: Caller
    writes: Sequence[Write]
    compares: Sequence[Compare] = ()
    idempotency: Idempotency | None = None


class _CheckedDraft(NamedTuple):
    """A draft that has been checked.

    Attributes:
        transaction: What to send.
        refusal: Why none of it may happen, if so; then the transaction holds an impossible compare.
    """

    transaction: Transaction
    refusal: ProtocolError | None


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
        self._durability = settings.durability
        self._again: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

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
                used for another request, the space may hold no more, or the store does not answer
                within the deadline.
        """
        (result,) = await self.commit_each((draft,))
        if isinstance(result, ProtocolError):
            raise result
        return result

    async def commit_each(self, drafts: Sequence[TransactionDraft]) -> list[CommitResult]:
        """Check and commit drafts of one space, in this order; each stands for itself.

        A draft is sent again in two cases. Where a schema has changed since its values were checked, the
        store has refused it, and it is checked anew. Where the store did not answer, it may have applied
        the draft and lost only the reply; so only a draft with an idempotency token is sent again, until
        the deadline. What is sent again may pass drafts behind it, so a draft with a token must be the
        only one here that writes its keys.
        """
        results = await self._commit_until_known(drafts)
        if self._durability != "memory" or any(draft.caller.durability for draft in drafts):
            return await self._confirm(drafts, results)
        return results

    async def _commit_until_known(self, drafts: Sequence[TransactionDraft]) -> list[CommitResult]:
        """Send drafts, some of them again, until it is known what came of each."""
        space = drafts[0].caller.space
        results: list[CommitResult | None] = [None] * len(drafts)
        pending: Sequence[int] = range(len(drafts))
        give_up = time.monotonic() + self._deadline
        first = True
        sending: Awaitable[Sequence[Outcome | StoreUnavailable]]
        while pending:
            waiting = [drafts[at] for at in pending]
            try:
                if first:
                    checked = await self._check_each(space, waiting)
                    sending = self._store.commit(space, [each.transaction for each in checked])
                else:
                    # Calls that have to check anew began in the order of their socket, and keep it: checks may wait,
                    # each for another time, so one call at a time checks and begins to send.
                    async with self._order_again(space):
                        checked = await self._check_each(space, waiting)
                        transactions = [each.transaction for each in checked]
                        sending = asyncio.ensure_future(self._store.commit(space, transactions))
            except StoreUnavailable as error:
                # Those that were sent before keep their result; the rest were never sent, or lost.
                return [result or error.copy() for result in results]
            outcomes, first = await sending, False
            may_wait = time.monotonic() + _PAUSE <= give_up
            pause = False
            for at, sent, outcome in zip(pending, checked, outcomes, strict=True):
                if isinstance(outcome, SchemaMoved):
                    self._schemas.moved(space, outcome.revision)
                elif (
                    isinstance(outcome, StoreUnavailable)
                    and sent.transaction.idempotency is not None
                    and may_wait
                ):
                    pause = True
                else:
                    results[at] = _result(outcome, sent.refusal)
            pending = [at for at in pending if results[at] is None]
            if pause:
                await asyncio.sleep(_PAUSE)
        return [result for result in results if result is not None]

    async def _confirm(
        self, drafts: Sequence[TransactionDraft], results: Sequence[CommitResult]
    ) -> list[CommitResult]:
        """Wait until commits are as durable as was wanted, and note whether they are; also of repetitions."""
        confirmed: dict[Durability, bool] = {"memory": True}
        noted: list[CommitResult] = []
        for draft, result in zip(drafts, results, strict=True):
            durability = draft.caller.durability or self._durability
            if durability != "memory" and isinstance(result, Committed):
                # All of these commits are behind us, so one wait holds for all that want the same.
                if durability not in confirmed:
                    confirmed[durability] = await self._store.confirm(
                        draft.caller.space, durability
                    )
                result = msgspec.structs.replace(result, confirmed=confirmed[durability])
            noted.append(result)
        return noted

    async def earlier_answer(
        self, caller: Caller, idempotency: Idempotency | None, refusal: ProtocolError
    ) -> Committed:
        """Return what the request was answered when it was first sent, else raise ``refusal``.

        A repeated update meets another state than the first one did: a counter at its bound.
        """
        if idempotency is None:
            raise refusal
        # The store looks for the token first, and then refuses: it never applies this.
        probe = TransactionDraft(caller, (), _IMPOSSIBLE, idempotency)
        outcome = await self.try_commit(probe)
        if isinstance(outcome, Committed):
            return outcome
        raise refusal

    def _order_again(self, space: str) -> asyncio.Lock:
        """The lock of those calls of a space that have to check drafts anew; it lasts as long as one of them."""
        lock = self._again.get(space)
        if lock is None:
            lock = self._again[space] = asyncio.Lock()
        return lock

    async def _check_each(
        self, space: str, drafts: Sequence[TransactionDraft]
    ) -> list[_CheckedDraft]:
        """Make the transactions of drafts, by the schemas of the moment."""
        schemas = await self._schemas.of(space)
        return [await self._check(schemas, draft) for draft in drafts]

    async def _check(self, schemas: SchemaSet, draft: TransactionDraft) -> _CheckedDraft:
        """Make the transaction of a draft, by these schemas."""
        refusal = await self._refusal(schemas, draft.caller.space, draft.writes)
        writes, compares = draft.writes, draft.compares
        if refusal is not None:
            # The store still has to say that these are the schemas and that it is no repetition.
            writes, compares = (), _IMPOSSIBLE
        writer, revision = draft.caller.writer, schemas.revision
        transaction = Transaction(writer, writes, compares, revision, draft.idempotency)
        return _CheckedDraft(transaction, refusal)

    async def _refusal(
        self, schemas: SchemaSet, space: str, writes: Sequence[Write]
    ) -> ProtocolError | None:
        """Why one of the values cannot be written; None where all can."""
        for write in writes:
            if not isinstance(write, Put):
                continue
            try:
                check_value(write.value, self._limits)
                if schemas.is_costly:
                    await asyncio.sleep(
                        0
                    )  # a transaction looks for as many schemas as it has writes
                schema = schemas.winner(write.key)
                if schema is None:
                    continue
                violations = await self._evaluator.violations(space, write.key, schema, write.value)
            except ProtocolError as refusal:
                return refusal
            if violations:
                return violation_error(write.key, schema.pattern, violations)
        return None

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
    # The token belongs to the API key and not to the agent's name, which several keys may share. It is
    # a digest, so that a kept result takes the same room however long the caller's key is.
    key = caller.idempotency_key
    owner = f"{caller.principal.credential}\n{key}".encode()
    token = hashlib.blake2b(owner, digest_size=16).hexdigest()
    return Idempotency(token, content.hexdigest(), note, 1000 * kept_seconds(key))


def _result(
    outcome: Committed | Conflicted | IdempotencyMismatch | QuotaExceeded | StoreUnavailable,
    refusal: ProtocolError | None,
) -> CommitResult:
    """What came of a draft, given why none of it may happen."""
    if isinstance(outcome, IdempotencyMismatch):
        return _mismatch()
    if isinstance(outcome, QuotaExceeded):
        return _quota_exceeded(outcome)
    if refusal is not None and isinstance(outcome, Conflicted):
        return refusal  # the compare that failed was the impossible one
    return outcome


def _mismatch() -> ProtocolError:
    return ProtocolError(
        "idempotency_mismatch",
        "this Idempotency-Key was used before for another request; use a new key for a new request",
        field="idempotency_key",
    )


_QUOTA_LIMITS = {
    "keys": "space_keys",
    "result_bytes": "space_result_bytes",
    "schema_bytes": "space_schema_bytes",
}
"""The limit in the settings that sets each quota."""

_QUOTA_DETAILS = {
    "keys": """\
this space may hold {} keys, and this write would leave it with more; nothing was written. Delete keys \
that are no longer needed, or give passing ones a ttl; keys that exist can still be overwritten""",
    "result_bytes": f"""\
the results that are kept for this space's Idempotency-Keys may take {{}} bytes, and this one would take \
them above that; nothing was written. Send the write without an Idempotency-Key, or wait: a result is \
dropped after 24 hours, one whose key begins with {RETRY_PREFIX} after ten minutes""",
    "schema_bytes": """\
the schemas of this space may take {} bytes, and this one would take them above that; nothing was \
written. Delete schemas that are no longer needed, or use one pattern for several keys""",
}


def _quota_exceeded(outcome: QuotaExceeded) -> ProtocolError:
    detail = _QUOTA_DETAILS[outcome.quota].format(outcome.bound)
    return ProtocolError("quota_exceeded", detail, limit=_QUOTA_LIMITS[outcome.quota])
