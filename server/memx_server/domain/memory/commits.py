"""The one way to commit: values are checked by the schemas, and a transaction is applied at most once."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec

from memx_sdk.protocol.durability import Durability
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.idempotency import RETRY_PREFIX, kept_seconds
from memx_server.domain import responses
from memx_server.domain.access import Caller
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
    LoggedOtherwise,
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


class _CheckedDrafts(NamedTuple):
    """Drafts that have been checked.

    Attributes:
        transactions: What to send, in the order of the drafts.
        refusals: Why none of a draft may happen, by its place; then its transaction holds an impossible compare.
    """

    transactions: list[Transaction]
    refusals: dict[int, ProtocolError]


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
        (result,) = await self.commit_each((draft,))
        if isinstance(result, Committed):
            return result
        if isinstance(result, Conflicted):
            raise responses.conflict(draft.caller, result.key, result.entry)
        raise result

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
        space = drafts[0].caller.principal.space
        give_up = time.monotonic() + self._deadline
        try:
            checked = await self._check_each(space, drafts)
        except StoreUnavailable as error:  # nothing was sent
            return [error.copy() for _ in drafts]
        outcomes = await self._store.commit(space, checked.transactions)
        results: list[CommitResult | None] = [None] * len(drafts)
        again, pause = self._note(space, range(len(drafts)), checked, outcomes, results, give_up)
        if again:
            await self._send_again(drafts, again, results, give_up, pause=pause)
        known = [result for result in results if result is not None]
        for draft in drafts:
            if (draft.caller.durability or self._durability) != "memory":
                return await self._confirm(drafts, known)
        return known

    def _note(
        self,
        space: str,
        pending: Sequence[int],
        checked: _CheckedDrafts,
        outcomes: Sequence[Outcome | StoreUnavailable],
        results: list[CommitResult | None],
        give_up: float,
    ) -> tuple[list[int], bool]:
        """Note what came of the drafts at the places ``pending``.

        Returns:
            The places of those that are to be sent again, and whether to pause before that.
        """
        again: list[int] = []
        pause = False
        for index, (at, outcome) in enumerate(zip(pending, outcomes, strict=True)):
            if isinstance(outcome, Committed):
                results[at] = outcome
            elif isinstance(outcome, SchemaMoved):
                self._schemas.moved(space, outcome.revision)
                again.append(at)
            elif (
                isinstance(outcome, StoreUnavailable)
                and checked.transactions[index].idempotency is not None
                and time.monotonic() + _PAUSE <= give_up
            ):
                pause = True
                again.append(at)
            else:
                results[at] = _result(outcome, checked.refusals.get(index))
        return again, pause

    async def _send_again(
        self,
        drafts: Sequence[TransactionDraft],
        again: Sequence[int],
        results: list[CommitResult | None],
        give_up: float,
        *,
        pause: bool,
    ) -> None:
        """Send the drafts at the places ``again`` until it is known what came of each."""
        space = drafts[0].caller.principal.space
        while again:
            if pause:
                await asyncio.sleep(_PAUSE)
            try:
                # Calls that have to check anew began in the order of their socket, and keep it: checks may wait,
                # each for another time, so one call at a time checks and begins to send.
                async with self._order_again(space):
                    checked = await self._check_each(space, [drafts[at] for at in again])
                    sending = asyncio.ensure_future(self._store.commit(space, checked.transactions))
            except StoreUnavailable as error:
                # Those that were sent before keep their result; the rest were refused, or lost.
                for at in again:
                    results[at] = error.copy()
                return
            again, pause = self._note(space, again, checked, await sending, results, give_up)

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

    async def _check_each(self, space: str, drafts: Sequence[TransactionDraft]) -> _CheckedDrafts:
        """Make the transactions of drafts, by the schemas of the moment."""
        # A coroutine costs more than the question, and most often the schemas are at hand.
        schemas = self._schemas.at_hand(space) or await self._schemas.of(space)
        checked = _CheckedDrafts([], {})
        for draft in drafts:
            caller, writes, compares = draft.caller, draft.writes, draft.compares
            if schemas.by_pattern:
                refusal = await self._refusal(schemas, space, writes)
            else:
                refusal = self._bounds_refusal(writes)
            if refusal is not None:
                # The store still has to say that these are the schemas and that it is no repetition.
                checked.refusals[len(checked.transactions)] = refusal
                writes, compares = (), _IMPOSSIBLE
            checked.transactions.append(
                Transaction(caller.writer, writes, compares, schemas.revision, draft.idempotency)
            )
        return checked

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

    def _bounds_refusal(self, writes: Sequence[Write]) -> ProtocolError | None:
        """Why one of the values is too large or too deep, in a space without schemas; None where none is."""
        try:
            for write in writes:
                if isinstance(write, Put):
                    check_value(write.value, self._limits)
        except ProtocolError as refusal:
            return refusal
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
    outcome: Committed
    | Conflicted
    | IdempotencyMismatch
    | QuotaExceeded
    | LoggedOtherwise
    | StoreUnavailable,
    refusal: ProtocolError | None,
) -> CommitResult:
    """What came of a draft, given why none of it may happen."""
    if isinstance(outcome, IdempotencyMismatch):
        return _mismatch()
    if isinstance(outcome, QuotaExceeded):
        return _quota_exceeded(outcome)
    if isinstance(outcome, LoggedOtherwise):
        return _logged_otherwise(outcome)
    if refusal is not None and isinstance(outcome, Conflicted):
        return refusal  # the compare that failed was the impossible one
    return outcome


def _logged_otherwise(outcome: LoggedOtherwise) -> ProtocolError:
    word = "logged" if outcome.logged else "unlogged"
    return ProtocolError(
        "invalid_update",
        f"{outcome.key!r} is {word} since the write that made it, and stays so until it is deleted; "
        "leave `logged` out, or delete the key first",
        field="logged",
        key=outcome.key,
    )


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
