"""What a transaction may look like, and when its compares hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import UNSET, UnsetType

from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_key
from memx_server.domain.caller import Caller
from memx_server.domain.judging import Judge
from memx_server.domain.request_forms import COMPARES
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
from memx_server.domain.updates import looks
from memx_server.settings import Limits
from memx_server.storage.encoding import decode_entry

_BLIND = SetOperation | DeleteOperation | TouchOperation
"""Operations that need not know what the key holds."""

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
        caller.principal.require("read", validate_key(compare.key))
    for branch, operations in (("then", request.then), ("else", request.else_)):
        _check_branch(caller, branch, operations)


def _check_compare(compare: CompareRequest) -> None:
    asked = [name for name in COMPARES if getattr(compare, name) is not UNSET]
    if len(asked) != 1:
        raise ProtocolError(
            "invalid_request",
            f"a compare takes exactly one of {', '.join(COMPARES)}; "
            f"this one of {compare.key!r} has {' and '.join(asked) or 'none'}",
            field="if",
        )


def _check_branch(caller: Caller, branch: str, operations: Sequence[AnyOperation]) -> None:
    for operation in operations:
        key = validate_key(operation.key)
        if not isinstance(operation, GetOperation):
            caller.principal.require("write", key)
        if isinstance(operation, GetOperation) or looks(operation):
            caller.principal.require("read", key)
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
    """The keys whose entries decide what the transaction does, each once."""
    keys = dict.fromkeys(compare.key for compare in request.if_)
    for operation in (*request.then, *request.else_):
        if not isinstance(operation, _BLIND):
            keys[operation.key] = None
    return list(keys)


def check_work(request: TxnRequest, present: Mapping[str, bytes | None], limits: Limits) -> None:
    """Refuse a transaction that compares or updates too much of what is ``present``, by length."""
    bound = _VALUES_OF_WORK * limits.value_bytes
    compared = (each for each in request.if_ if each.value is not UNSET)
    worked = 0
    for part in (*compared, *request.then, *request.else_):
        if isinstance(part, CompareRequest | ComputedOperation):
            worked += len(present[part.key] or b"")
            if worked > bound:
                raise ProtocolError(
                    "too_large",
                    "the compares of values and the updates of one transaction take apart "
                    f"{bound} bytes of what the keys hold at the most; make it several",
                    key=part.key,
                    limit="transaction_operations",
                )


async def holds(compare: CompareRequest, present: bytes | None, judge: Judge) -> bool:
    """Tell whether ``compare`` is true of the entry that is present (JSON text, or None)."""
    entry = None if present is None else decode_entry(present)
    if not isinstance(compare.revision, UnsetType):
        return compare.revision == (0 if entry is None else entry.revision)
    if not isinstance(compare.version, UnsetType):
        return compare.version == (0 if entry is None else entry.version)
    if not isinstance(compare.exists, UnsetType):
        return compare.exists == (entry is not None)
    assert not isinstance(compare.value, UnsetType)
    return entry is not None and await judge.same(
        compare.key, bytes(entry.value), bytes(compare.value)
    )
