"""Setting, deleting and updating one entry."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec.structs import replace

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_key
from memx_server.domain import responses
from memx_server.domain.caller import Caller
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.memory.commits import (
    Committer,
    TransactionDraft,
    idempotency_of,
    milliseconds,
)
from memx_server.domain.memory.computing import looks
from memx_server.domain.memory.key_locks import KeyLock, KeyLocks
from memx_server.domain.memory.updates import operation_of
from memx_server.domain.requests import (
    Computed,
    DeleteRequest,
    SetRequest,
    TouchOperation,
    UpdateRequest,
)
from memx_server.domain.schema.cache import SchemaCache
from memx_server.settings import Settings
from memx_server.storage.base import (
    Committed,
    Compare,
    Delete,
    Idempotency,
    Put,
    Store,
    StoreUnavailable,
    Touch,
)
from memx_server.storage.encoding import decode_entry

_NOTE_BYTES = 16 * 1024
"""Up to this length a new value is kept with its idempotency token; else the log has to tell it."""


class EntryWrites(Committer):
    """The writing half of the memory, one key at a time."""

    def __init__(
        self, store: Store, schemas: SchemaCache, judge: Evaluator, settings: Settings
    ) -> None:
        super().__init__(store, schemas, judge, settings)
        self._queues = KeyLocks()

    async def set(self, caller: Caller, request: SetRequest) -> bytes:
        """Set an entry; without ``ttl`` it never expires."""
        return responses.written(request.key, await self._commit(self._setting(caller, request)))

    async def delete(self, caller: Caller, request: DeleteRequest) -> bytes:
        """Remove an entry."""
        return responses.deleted(request.key, await self._commit(self._removal(caller, request)))

    async def write_each(
        self, asked: Sequence[tuple[Caller, SetRequest | DeleteRequest]]
    ) -> list[bytes | ProtocolError]:
        """Do as so many calls of ``set`` and ``delete`` that need not wait for each other, in this order.

        They are of one space, and one with an idempotency key is the only one of its key. What one of them
        may not do is its own error.
        """
        found: dict[int, bytes | ProtocolError] = {}
        drafts: dict[int, TransactionDraft] = {}
        for at, (caller, request) in enumerate(asked):
            try:
                if isinstance(request, SetRequest):
                    drafts[at] = self._setting(caller, request)
                else:
                    drafts[at] = self._removal(caller, request)
            except ProtocolError as refusal:
                found[at] = refusal
        results = await self._commit_each(list(drafts.values())) if drafts else []
        for at, result in zip(drafts, results, strict=True):
            if isinstance(result, ProtocolError):
                found[at] = result
            else:
                request = asked[at][1]
                tell = responses.written if isinstance(request, SetRequest) else responses.deleted
                found[at] = tell(request.key, result)
        return [found[at] for at in range(len(asked))]

    def _setting(self, caller: Caller, request: SetRequest) -> TransactionDraft:
        key = validate_key(request.key)
        caller.principal.require("write", key)
        put = Put(
            key,
            bytes(request.value),
            ttl_ms=milliseconds(request.ttl),
            log_value=request.history,
            reason=self._checked_reason(request.reason),
        )
        return TransactionDraft(
            *(caller, (put,), condition(key, request.if_revision)),
            idempotency_of(caller, "set", request),
        )

    def _removal(self, caller: Caller, request: DeleteRequest) -> TransactionDraft:
        key = validate_key(request.key)
        caller.principal.require("write", key)
        delete = Delete(key, self._checked_reason(request.reason))
        return TransactionDraft(
            *(caller, (delete,), condition(key, request.if_revision)),
            idempotency_of(caller, "delete", request),
        )

    async def update(self, caller: Caller, request: UpdateRequest) -> bytes:
        """Change an entry by what it holds, however many others do the same."""
        key = validate_key(request.key)
        caller.principal.require("write", key)
        self._checked_reason(request.reason)
        operation = operation_of(request)
        if looks(operation):
            caller.principal.require("read", key)
        if isinstance(operation, TouchOperation):
            return await self._touch(caller, request, operation)
        try:
            async with self._queues.turn(caller.space, key, self._deadline) as turn:
                return await self._update(caller, request, operation, turn)
        except TimeoutError:
            raise StoreUnavailable("waited too long for the turn of a contended key") from None

    async def _update(
        self, caller: Caller, request: UpdateRequest, operation: Computed, turn: KeyLock
    ) -> bytes:
        idempotency = idempotency_of(caller, "update", request)
        give_up = time.monotonic() + self._deadline
        while time.monotonic() < give_up:
            if request.if_revision is not None or not turn.is_known:
                turn.read((await self._store.read(caller.space, (request.key,)))[0])
            value: bytes | None = None
            try:
                put, base = await self._planned(caller, request, operation, turn.entry)
                value = put.value
                outcome = await self._try_commit(
                    TransactionDraft(caller, (put,), (base,), _noted(idempotency, value))
                )
            except StoreUnavailable:
                raise
            except ProtocolError as refusal:
                if not turn.is_fresh:  # what the turn before left may be out of date
                    turn.forget()
                    continue
                if not caller.principal.may("read", request.key):
                    refusal = responses.unexplained(refusal, request.key)
                outcome = await self._earlier_answer(caller, idempotency, refusal)
            if isinstance(outcome, Committed):
                return await self._updated(caller, request.key, outcome, value, turn)
            turn.read(outcome.entry)
        raise StoreUnavailable("lost every race for a contended key")

    async def _planned(
        self, caller: Caller, request: UpdateRequest, operation: Computed, present: bytes | None
    ) -> tuple[Put, Compare]:
        """Compute the write, and the compare that ties it to what it was computed from."""
        entry = None if present is None else decode_entry(present)
        revision = 0 if entry is None else entry.revision
        if request.if_revision not in (None, revision):
            raise responses.conflict(caller, request.key, present)
        held = None if entry is None else bytes(entry.value)
        value = await self._judge.compute(operation, held, self._limits)
        return computed_put(operation, value, request.reason), Compare(request.key, revision)

    async def _updated(
        self, caller: Caller, key: str, committed: Committed, value: bytes | None, turn: KeyLock
    ) -> bytes:
        if committed.replayed_note is not None:
            value = committed.replayed_note or await self._logged_value(caller, key, committed)
            turn.forget()
        else:
            turn.left(responses.new_entry(caller, key, committed, value))
        shown = value if caller.principal.may("read", key) else None
        return responses.updated(caller, key, committed, shown)

    async def _logged_value(self, caller: Caller, key: str, committed: Committed) -> bytes | None:
        """What an update wrote when it was first sent, where the log still keeps it."""
        revision = committed.position.revision
        page = await self._store.history(caller.space, key, 1, until=revision)
        return responses.value_of(page.changes[0], revision) if page.changes else None

    async def _touch(
        self, caller: Caller, request: UpdateRequest, operation: TouchOperation
    ) -> bytes:
        key = request.key
        touch = Touch(key, milliseconds(operation.touch))
        idempotency = idempotency_of(caller, "update", request)
        committed = await self._commit(
            TransactionDraft(caller, (touch,), condition(key, request.if_revision), idempotency)
        )
        (entry,) = await self._store.read(caller.space, (key,))
        if entry is None or not committed.written[0].changed:
            raise ProtocolError(
                "not_found", f"there is no entry {key!r} whose expiry could be moved", key=key
            )
        return responses.touched(caller, key, entry, committed)


def condition(key: str, revision: int | None) -> tuple[Compare, ...]:
    """The compare that ``if_revision`` asks for."""
    return () if revision is None else (Compare(key, revision),)


def computed_put(operation: Computed, value: bytes, reason: str | None) -> Put:
    """The write of a computed value; without a ``ttl`` of its own it keeps the present expiry."""
    return Put(
        operation.key,
        value,
        ttl_ms=milliseconds(operation.ttl),
        keep_expiry=operation.ttl is None,
        log_value=operation.history,
        reason=reason,
    )


def _noted(idempotency: Idempotency | None, value: bytes) -> Idempotency | None:
    if idempotency is None or len(value) > _NOTE_BYTES:
        return idempotency
    return replace(idempotency, note=value)
