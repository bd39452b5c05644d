"""Transactions: compares of several keys, then one of two branches, all or nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from memx_sdk.protocol.cursors import encode_cursor
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_key
from memx_server.domain import responses
from memx_server.domain.access import Caller
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.memory.commits import (
    Committer,
    TransactionDraft,
    idempotency_of,
    milliseconds,
)
from memx_server.domain.memory.updates import computed_put
from memx_server.domain.request_schemas import COMPARES
from memx_server.domain.requests import (
    AnyOperation,
    CompareRequest,
    ComputedOperation,
    DeleteOperation,
    GetOperation,
    SetOperation,
    TouchOperation,
    TxnRequest,
)
from memx_server.settings import Limits, Settings
from memx_server.storage.base import (
    Committed,
    Compare,
    Delete,
    Idempotency,
    Put,
    Store,
    StoreUnavailable,
    TooMuch,
    Touch,
    Write,
    WriteOutcome,
)
from memx_server.storage.encoding import decode_entry, quote

_NOTE_BYTES = 64 * 1024
"""Up to this length a transaction's results are kept with its idempotency token."""

Present = dict[str, bytes | None]
"""Entries (JSON texts) of one moment."""


class _Note(msgspec.Struct):
    """The part of a transaction's results that cannot be made from its commit.

    It is kept with the idempotency token: when the transaction is sent again, its results are made
    from the note and the commit, as they were the first time.

    Attributes:
        branch: The branch that ran.
        values: For each operation, in a list of one, the value that it computed or the entry that
            it read; an empty list for the others (msgspec decodes no ``Raw | None``).
    """

    branch: Literal["then", "else"]
    values: list[list[msgspec.Raw]]


_encode_note = msgspec.json.Encoder().encode
_decode_note = msgspec.json.Decoder(_Note).decode


@dataclass(slots=True)
class _Plan:
    """The writes of the branch that is to run, and the note of its results."""

    writes: list[Write]
    note: _Note


class Transactions:
    """The operation ``txn``.

    Args:
        store: Where the keys are read.
        evaluator: Compares values and computes new ones.
        commits: Commits the branch that runs.
        settings: Limits and deadlines.
    """

    def __init__(
        self, store: Store, evaluator: Evaluator, commits: Committer, settings: Settings
    ) -> None:
        self._store = store
        self._evaluator = evaluator
        self._commits = commits
        self._limits = settings.limits
        self._deadline = settings.write_deadline

    async def txn(self, caller: Caller, request: TxnRequest) -> bytes:
        """Run ``then`` where all compares hold, ``else`` otherwise.

        What it reads is of the moment before its own writes.

        Raises:
            ProtocolError: ``conflict`` never: compares choose the branch. ``unavailable`` where the
                deadline passes while others write the same keys; else as a write may be refused.
        """
        check_txn(caller, request, self._limits)
        self._commits.checked_reason(request.reason)
        idempotency = idempotency_of(caller, "txn", request)
        keys = keys_read(request)
        give_up = time.monotonic() + self._deadline
        # Read, decide, commit with a compare of all that was read; where that fails, once more from
        # the start. Somebody else's commit has gone through then, so the space as a whole moves on.
        while time.monotonic() < give_up:
            committed = await self._run(caller, request, keys, idempotency)
            if committed is not None:
                return committed
        raise StoreUnavailable("lost every race for contended keys")

    async def _run(
        self,
        caller: Caller,
        request: TxnRequest,
        keys: Sequence[str],
        idempotency: Idempotency | None,
    ) -> bytes | None:
        """Read the entries of ``keys``, and commit what follows from them.

        The branch and the computed values are decided here and not in the store. That is safe, since
        the commit compares the revision of every key that was read: it happens only if all of them
        are as they were.

        Returns:
            The answer; None where a key has changed, and all is to be done again.
        """
        note = _Note("then", [])
        try:
            present = await self._read(caller.space, keys)
            check_work(request, present, self._limits)
            plan = await self._plan(caller.space, request, present)
            note = plan.note
            outcome = await self._commits.try_commit(
                TransactionDraft(caller, plan.writes, _compares(present), _noted(idempotency, note))
            )
        except StoreUnavailable:
            raise
        except ProtocolError as refusal:
            # The state may refuse now what it took when the transaction was first sent, by its own
            # effect too: a task that is claimed. Its token decides, not the present state.
            outcome = await self._commits.earlier_answer(caller, idempotency, refusal)
        if not isinstance(outcome, Committed):
            return None
        if outcome.replayed_note is not None:
            # It is a repetition: the branch that ran then may be another one than today's.
            note = _decode_note(outcome.replayed_note)
        return _answer(caller, request, note, outcome)

    async def _read(self, space: str, keys: Sequence[str]) -> Present:
        if not keys:
            return {}
        bound = self._limits.bound_for(len(keys))
        try:
            texts = await self._store.read(space, keys, most_bytes=bound)
        except TooMuch as much:
            raise responses.too_much(much, "then", self._limits.response_bytes) from None
        return dict(zip(keys, texts, strict=True))

    async def _plan(self, space: str, request: TxnRequest, present: Present) -> _Plan:
        branch: Literal["then", "else"] = "then"
        for compare in request.if_:
            # The first one that fails decides; the others are still compared by the commit, as their
            # keys were read.
            if not await holds(space, compare, present[compare.key], self._evaluator):
                branch = "else"
                break
        plan = _Plan([], _Note(branch, []))
        for index, operation in enumerate(_operations(request, branch)):
            try:
                await self._add(space, plan, operation, present, request.reason)
            except ProtocolError as refusal:
                # All or nothing: the first operation that is refused refuses the transaction.
                refusal.extra |= {"branch": branch, "operation": index, "key": operation.key}
                raise
        return plan

    async def _add(
        self,
        space: str,
        plan: _Plan,
        operation: AnyOperation,
        present: Present,
        reason: str | None,
    ) -> None:
        key = operation.key
        result: bytes | None = None
        match operation:
            case GetOperation():
                # No write of this transaction has happened yet, so all reads are of one moment.
                result = present[key]
            case SetOperation():
                put = Put(
                    key,
                    bytes(operation.value),
                    milliseconds(operation.ttl),
                    log_value=operation.history,
                    reason=reason,
                    logged=operation.logged,
                )
                plan.writes.append(put)
            case DeleteOperation():
                plan.writes.append(Delete(key, reason))
            case TouchOperation():
                plan.writes.append(Touch(key, milliseconds(operation.touch)))
            case _:
                entry = present[key]
                held = None if entry is None else bytes(decode_entry(entry).value)
                result = await self._evaluator.compute(space, operation, held)
                plan.writes.append(computed_put(operation, result, reason))
        plan.note.values.append([] if result is None else [msgspec.Raw(result)])


def _compares(present: Present) -> list[Compare]:
    """Make the compares that tie the commit to all that was read for it."""
    return [
        Compare(key, 0 if text is None else decode_entry(text).revision)
        for key, text in present.items()
    ]


def _operations(request: TxnRequest, branch: str) -> Sequence[AnyOperation]:
    return request.then if branch == "then" else request.else_


def _noted(idempotency: Idempotency | None, note: _Note) -> Idempotency | None:
    if idempotency is None:
        return None
    text = _encode_note(note)
    if len(text) > _NOTE_BYTES:
        # Sent again, it answers the same branch and revision, but without these values.
        text = _encode_note(_Note(note.branch, [[] for _ in note.values]))
    return replace(idempotency, note=text)


def _answer(caller: Caller, request: TxnRequest, note: _Note, committed: Committed) -> bytes:
    # The commit's outcomes are in the order of its writes, which skips the gets.
    written = iter(committed.written)
    results = [
        _result(caller, operation, value[0] if value else None, committed, written)
        for operation, value in zip(_operations(request, note.branch), note.values, strict=True)
    ]
    return b'{"ok":true,"branch":"%b","revision":%d,"ts":%a,"cursor":"%b"%b,"results":%b}' % (
        note.branch.encode(),
        committed.position.revision,
        committed.ts,
        encode_cursor(committed.position).encode(),
        responses.confirmed(committed),
        responses.array(results),
    )


def _result(
    caller: Caller,
    operation: AnyOperation,
    noted: msgspec.Raw | None,
    committed: Committed,
    written: Iterator[WriteOutcome],
) -> bytes:
    """Make the result of one operation.

    Args:
        caller: The caller, who may not be permitted to read what it wrote.
        operation: The operation.
        noted: The entry that it read or the value that it computed, if any.
        committed: The commit.
        written: The outcomes of the commit's writes; every operation but a get takes the next one.
    """
    head = b'"op":%b,"key":%b' % (quote(operation.__struct_config__.tag), quote(operation.key))
    if isinstance(operation, GetOperation):
        return b'{%b,"entry":%b}' % (head, responses.NULL if noted is None else bytes(noted))
    outcome = next(written)
    if isinstance(operation, DeleteOperation):
        return b'{%b,"deleted":%b}' % (head, responses.boolean(outcome.changed))
    expiry = b"" if outcome.expires_at is None else b',"expires_at":%a' % outcome.expires_at
    if isinstance(operation, TouchOperation):
        return b'{%b,"touched":%b%b}' % (head, responses.boolean(outcome.changed), expiry)
    value = b""
    if noted is not None:
        value = b',"value":%b' % bytes(noted)
    # As in the answer to a single set: a version counts the writes of others too.
    may_read = caller.principal.may("read", operation.key)
    version = b',"version":%d' % outcome.version if may_read else b""
    return b'{%b,"revision":%d%b%b%b}' % (
        head,
        committed.position.revision,
        version,
        expiry,
        value,
    )


_BLIND = SetOperation | DeleteOperation | TouchOperation
"""Operations that do the same whatever the key holds."""

_VALUES_OF_WORK = 4
"""How many values of the largest size one transaction may compare or update."""


def check_txn(caller: Caller, request: TxnRequest, limits: Limits) -> None:
    """Refuse a transaction that is too long, writes a key twice or asks for what is forbidden."""
    length = len(request.if_) + len(request.then) + len(request.else_)
    if length > limits.transaction_operations:
        raise ProtocolError(
            "too_large",
            f"the transaction has {length} compares and operations; "
            f"the limit is {limits.transaction_operations}",
            field="then",
            limit="transaction_operations",
        )
    for compare in request.if_:
        _check_compare(compare)
        caller.principal.require_read_and_write(validate_key(compare.key))
    for branch, operations in (("then", request.then), ("else", request.else_)):
        _check_branch(caller, branch, operations)


def _check_compare(compare: CompareRequest) -> None:
    given = [name for name in COMPARES if getattr(compare, name) is not UNSET]
    if len(given) != 1:
        raise ProtocolError(
            "invalid_request",
            f"a compare takes exactly one of {', '.join(COMPARES)}; "
            f"this one of {compare.key!r} has {' and '.join(given) or 'none'}",
            field="if",
        )


def _check_branch(caller: Caller, branch: str, operations: Sequence[AnyOperation]) -> None:
    for operation in operations:
        key = validate_key(operation.key)
        if isinstance(operation, GetOperation):
            caller.principal.require("read", key)
        elif isinstance(operation, SetOperation | DeleteOperation):
            caller.principal.require("write", key)
        else:
            caller.principal.require_read_and_write(key)
    writes = Counter(each.key for each in operations if not isinstance(each, GetOperation))
    for key, count in writes.items():
        if count > 1:
            raise ProtocolError(
                "invalid_request",
                f"{branch} writes {key!r} {count} times; a transaction writes a key at most once",
                field=branch,
                key=key,
            )


def keys_read(request: TxnRequest) -> list[str]:
    """List the keys whose entries decide what the transaction does, each once."""
    keys = dict.fromkeys(compare.key for compare in request.if_)
    for operation in (*request.then, *request.else_):
        if not isinstance(operation, _BLIND):
            keys[operation.key] = None
    return list(keys)


def check_work(request: TxnRequest, present: Mapping[str, bytes | None], limits: Limits) -> None:
    """Refuse a transaction whose compares and updates would take apart too many bytes.

    Each of them alone is within its limits; 128 of them, each on a value of a mebibyte, would hold
    the store's keys contended and the evaluating processes busy for minutes.
    """
    bound = _VALUES_OF_WORK * limits.value_bytes
    compared = (each for each in request.if_ if each.value is not UNSET)
    size = 0
    for part in (*compared, *request.then, *request.else_):
        if isinstance(part, CompareRequest | ComputedOperation):
            size += len(present[part.key] or b"")
            if size > bound:
                raise ProtocolError(
                    "too_large",
                    "the compares of values and the updates of one transaction take apart "
                    f"{bound} bytes of what the keys hold at the most; make it several",
                    key=part.key,
                    limit="transaction_operations",
                )


async def holds(
    space: str, compare: CompareRequest, present: bytes | None, evaluator: Evaluator
) -> bool:
    """Tell whether ``compare`` is true of the entry that is present (JSON text, or None)."""
    entry = None if present is None else decode_entry(present)
    if not isinstance(compare.revision, UnsetType):
        return compare.revision == (0 if entry is None else entry.revision)
    if not isinstance(compare.version, UnsetType):
        return compare.version == (0 if entry is None else entry.version)
    if not isinstance(compare.exists, UnsetType):
        return compare.exists == (entry is not None)
    assert not isinstance(compare.value, UnsetType)
    return entry is not None and await evaluator.same(
        space, compare.key, bytes(entry.value), bytes(compare.value)
    )
