"""Setting and deleting entries."""

from __future__ import annotations

from collections.abc import Sequence

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_key
from memx_server.domain import responses
from memx_server.domain.access import Caller
from memx_server.domain.memory.commits import (
    Committer,
    TransactionDraft,
    idempotency_of,
    milliseconds,
)
from memx_server.domain.requests import DeleteRequest, SetRequest
from memx_server.storage.base import Compare, Conflicted, Delete, Put


class EntryWrites:
    """The operations that write one entry, whatever it holds.

    Args:
        commits: Commits them.
    """

    def __init__(self, commits: Committer) -> None:
        self._commits = commits

    async def set(self, caller: Caller, request: SetRequest) -> bytes:
        """Set an entry; without ``ttl`` it never expires."""
        committed = await self._commits.commit(self._draft(caller, request))
        return responses.written(caller, request.key, committed)

    async def delete(self, caller: Caller, request: DeleteRequest) -> bytes:
        """Remove an entry."""
        committed = await self._commits.commit(self._draft(caller, request))
        return responses.deleted(request.key, committed)

    async def write_each(
        self, writes: Sequence[tuple[Caller, SetRequest | DeleteRequest]]
    ) -> list[bytes | ProtocolError]:
        """Set and delete entries of one space, in this order, each for itself.

        Args:
            writes: Callers of one space with their requests. The key of one that has an idempotency
                key must not come twice: such a write may be sent again, and then passes the others.

        Returns:
            For each its answer (JSON text), or the error that refuses it and only it.
        """
        # A refused one leaves a gap: only the others are committed, in the order in which they came.
        answers: dict[int, bytes | ProtocolError] = {}
        drafts: dict[int, TransactionDraft] = {}
        for index, (caller, request) in enumerate(writes):
            try:
                drafts[index] = self._draft(caller, request)
            except ProtocolError as refusal:
                answers[index] = refusal
        results = await self._commits.commit_each(list(drafts.values())) if drafts else []
        for index, result in zip(drafts, results, strict=True):
            caller, request = writes[index]
            if isinstance(result, ProtocolError):
                answers[index] = result
            elif isinstance(result, Conflicted):
                answers[index] = responses.conflict(writes[index][0], result.key, result.entry)
            elif isinstance(request, SetRequest):
                answers[index] = responses.written(caller, request.key, result)
            else:
                answers[index] = responses.deleted(request.key, result)
        return [answers[index] for index in range(len(writes))]

    def _draft(self, caller: Caller, request: SetRequest | DeleteRequest) -> TransactionDraft:
        """Check who writes what, and make the transaction.

        Raises:
            ProtocolError: ``invalid_key``, ``forbidden``, or ``too_large`` for the reason.
        """
        if isinstance(request, DeleteRequest):
            _check_single(request)
        key = validate_key(request.key)
        caller.principal.require("write", key)
        reason = self._commits.checked_reason(request.reason)
        if isinstance(request, SetRequest):
            write: Put | Delete = Put(
                key,
                bytes(request.value),
                ttl_ms=milliseconds(request.ttl),
                log_value=request.history,
                reason=reason,
                logged=request.logged,
            )
            operation = "set"
        else:
            write = Delete(key, reason)
            operation = "delete"
        return TransactionDraft(
            caller,
            (write,),
            condition(key, request.if_revision),
            idempotency_of(caller, operation, request),
        )


def _check_single(request: DeleteRequest) -> None:
    """Refuse a deletion that names no key, or has members that go with a pattern alone."""
    if not request.key:
        raise ProtocolError(
            "invalid_key",
            "a key has 1 to 512 bytes; name the key to delete, or a pattern for several",
            field="key",
        )
    if request.limit is not None or request.cursor is not None:
        raise ProtocolError(
            "invalid_request",
            "limit and cursor go with a pattern; a key is deleted at once",
            field="limit" if request.cursor is None else "cursor",
        )


def condition(key: str, revision: int | None) -> tuple[Compare, ...]:
    """Make the compare that ``if_revision`` stands for; none where it is None."""
    return () if revision is None else (Compare(key, revision),)
