"""Deleting the entries that match a pattern, in steps of one transaction each."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import is_pattern, validate_pattern
from memx_server.domain import responses
from memx_server.domain.access import Caller, forbidden
from memx_server.domain.memory.commits import Committer, TransactionDraft, idempotency_of
from memx_server.domain.memory.listing import KeyListing
from memx_server.domain.requests import DELETED_AT_ONCE, DeleteRequest
from memx_server.storage.base import Committed, Compare, Conflicted, Delete, Idempotency
from memx_server.storage.encoding import revision_in

_RACES: Final = 5
"""How often a step may lose against other writers before it deletes whatever its keys hold by then."""

_encode_note = msgspec.json.Encoder().encode
_decode_note = msgspec.json.Decoder(str | None).decode


class PatternDeletes:
    """The operation ``delete`` with a pattern.

    A step lists some keys with their revisions, and commits their deletion with a compare of each. So it
    deletes what it has seen; where a key was written in between, it looks again.

    Args:
        listing: Finds the keys.
        commits: Commits their deletion.
    """

    def __init__(self, listing: KeyListing, commits: Committer) -> None:
        self._listing = listing
        self._commits = commits

    async def delete(self, caller: Caller, pattern: str, request: DeleteRequest) -> bytes:
        """Remove the next keys that match and that the caller may read and write.

        Returns:
            The answer: how many were removed, and the cursor of the next step.

        Raises:
            ProtocolError: ``forbidden`` where nothing may be read or nothing written; ``invalid_pattern``,
                ``invalid_cursor``, ``invalid_request``; else as a write may be refused.
        """
        _check(caller, validate_pattern(pattern), request)
        reason = self._commits.checked_reason(request.reason)
        idempotency = idempotency_of(caller, "delete", request)
        after = await self._listing.start(caller, request.cursor)
        found, behind = await self._listing.revisions(
            caller.principal,
            pattern,
            after,
            request.limit or DELETED_AT_ONCE,
            caller.principal.scopes.write,
        )
        # Sent again under its idempotency key, a step answers where the first one ended, although it now
        # finds other keys: the place is kept with the token.
        if idempotency is not None:
            idempotency = replace(idempotency, note=_encode_note(behind))
        committed = await self._commit(caller, dict(found), reason, idempotency)
        if committed.replayed_note is not None:
            behind = _decode_note(committed.replayed_note)
        place = None if behind is None else await self._listing.next(caller, behind)
        return responses.deleted_by_pattern(pattern, committed, place)

    async def _commit(
        self,
        caller: Caller,
        revisions: dict[str, int],
        reason: str | None,
        idempotency: Idempotency | None,
    ) -> Committed:
        """Delete the keys as one transaction; those that were written since they were listed, as they are now."""
        races = 0
        while True:
            # A delete needs no compare to be right, so a key that others write all the time keeps nobody here.
            compares = [Compare(*each) for each in revisions.items()] if races < _RACES else []
            deletes = [Delete(key, reason) for key in revisions]
            draft = TransactionDraft(caller, deletes, compares, idempotency)
            outcome = await self._commits.try_commit(draft)
            if not isinstance(outcome, Conflicted):
                return outcome
            races += 1
            if outcome.entry is None:
                del revisions[outcome.key]  # somebody else has deleted it, or it has expired
            else:
                revisions[outcome.key] = revision_in(outcome.entry)


def _check(caller: Caller, pattern: str, request: DeleteRequest) -> None:
    """Refuse what does not go together, and who may not read or may not write anything that is meant."""
    if request.key:
        raise ProtocolError("invalid_request", "name a key or a pattern, not both", field="pattern")
    if request.if_revision is not None:
        raise ProtocolError(
            "invalid_request",
            "if_revision is about one key, and a pattern stands for many; leave it out",
            field="if_revision",
        )
    principal = caller.principal
    if not is_pattern(pattern):
        principal.require_read_and_write(pattern)
        return
    principal.require_any_read(pattern)
    if not principal.scopes.write:
        raise forbidden("write", pattern)
