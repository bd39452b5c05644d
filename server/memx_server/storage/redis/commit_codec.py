"""The codec of commits: a transaction as arguments of the script, its reply as an outcome, its records as changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from memx_sdk.protocol.cursors import Position
from memx_server.storage.base import (
    Change,
    Committed,
    Conflicted,
    Delete,
    DeleteSchema,
    IdempotencyMismatch,
    LoggedOtherwise,
    Outcome,
    Put,
    PutSchema,
    Record,
    SchemaMoved,
    SpaceQuotas,
    StoreUnavailable,
    Touch,
    Transaction,
    Write,
    WriteOutcome,
    result_size,
)
from memx_server.storage.encoding import quote
from memx_server.storage.redis.keyspace import Keyspace
from memx_server.storage.redis.network.faults import SlotMoving

_TTL_MAX_MS = 2**52
_WRITES_MAX = 1000
"""Lua's stack takes a few thousand values at once; the domain's own limit is far below."""

_LOGGED = {
    (None, True): b"1",
    (None, False): b"",
    (True, True): b"1+",
    (True, False): b"+",
    (False, True): b"n",
    (False, False): b"n",
}
"""What a write says of the log: 1 for the value too, + where the key must be logged, n where it must not."""

Argument = bytes | str | int


def encode(
    space: Keyspace, transaction: Transaction, keys: list[bytes], arguments: list[Argument]
) -> None:
    """Append the keys and arguments of ``transaction`` for the commit script.

    Raises:
        ValueError: It has more writes and compares than a script can take, or a time to live that is
            out of range.
    """
    writes, compares = transaction.writes, transaction.compares
    if len(writes) + len(compares) > _WRITES_MAX:
        raise ValueError(f"a transaction has at most {_WRITES_MAX} writes and compares")
    texts = [_write_arguments(write) for write in writes]
    idempotency, schemas = transaction.idempotency, transaction.schema_revision
    digest = note = b""
    kept_ms = size = 0
    if idempotency is not None:
        digest, note = quote(idempotency.digest), idempotency.note
        kept_ms, size = idempotency.kept_ms, result_size(transaction)
        keys.append(space.answer(idempotency.token))
    arguments += (
        quote(transaction.writer),
        b"" if schemas is None else schemas,
        digest,
        note,
        kept_ms,
        size,
        len(compares),
        len(writes),
    )
    for compare in compares:
        keys.append(space.entry(compare.key))
        arguments += (compare.key, compare.revision)
    for write, text in zip(writes, texts, strict=True):
        keys.append(space.entry(write.key))
        arguments += text


def decode(
    reply: Sequence[Any], transaction: Transaction, quotas: SpaceQuotas
) -> Outcome | StoreUnavailable:
    """Make the outcome of ``transaction`` from what the commit script returned for it."""
    outcome = reply[0]
    if outcome == b"committed":
        return _committed(reply[1:], None)
    if outcome == b"repeated":
        words, _, note = reply[1].partition(b"\n")
        lineage, *numbers = words.split(b" ")
        return _committed([lineage, *map(int, numbers)], note)
    if outcome == b"conflict":
        key = transaction.compares[reply[1]].key
        return Conflicted(key, reply[2] if len(reply) > 2 else None)
    if outcome == b"schemas":
        return SchemaMoved(reply[1])
    if outcome == b"logged":
        return LoggedOtherwise(transaction.writes[reply[1]].key, bool(reply[2]))
    if outcome == b"full":
        return quotas.exceeded(reply[1].decode())
    if outcome == b"moving":
        return SlotMoving("the slot is moving")
    return IdempotencyMismatch()


def _committed(reply: Sequence[Any], note: bytes | None) -> Committed:
    """Read lineage, revision, ts, and for each write: changed (2: unlogged), version, expiry or -1."""
    written = [
        WriteOutcome(
            reply[i] > 0,
            reply[i + 1],
            None if reply[i + 2] < 0 else reply[i + 2] / 1000,
            logged=reply[i] != 2,
        )
        for i in range(3, len(reply), 3)
    ]
    return Committed(Position(reply[0].decode(), reply[1]), reply[2] / 1_000_000, written, note)


def _write_arguments(write: Write) -> Sequence[Argument]:
    """Kind, key, key as JSON, reason as a member of the change, expiry, whether logged, value."""
    key, quoted = write.key, quote(write.key)
    match write:
        case Put():
            ttl = b"keep" if write.keep_expiry else _ttl(write.ttl_ms)
            logged = _LOGGED[write.logged, write.log_value]
            return (b"put", key, quoted, _reason(write.reason), ttl, logged, write.value)
        case Delete():
            return (b"delete", key, quoted, _reason(write.reason), b"", b"1", b"")
        case Touch():
            return (b"touch", key, quoted, b"", _ttl(write.ttl_ms), b"1", b"")
        case PutSchema():
            return (b"put_schema", key, quoted, _reason(write.reason), b"", b"1", write.schema)
        case DeleteSchema():
            return (b"delete_schema", key, quoted, _reason(write.reason), b"", b"1", b"null")


def _ttl(ttl_ms: int | None) -> Argument:
    if ttl_ms is None:
        return b""
    if not 0 < ttl_ms < _TTL_MAX_MS:
        raise ValueError(f"a time to live is above 0 and below 2^52 ms: {ttl_ms}")
    return ttl_ms


def _reason(reason: str | None) -> bytes:
    return b"" if reason is None else b',"reason":' + quote(reason)


class _Head(msgspec.Struct):
    action: str
    key: str


_decode_head = msgspec.json.Decoder(_Head).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def change_of(text: bytes) -> Change:
    """Make a change of its JSON text."""
    head = _decode_head(text)
    return Change(head.key, head.action, text)


def record_in_log(lineage: str, row: tuple[bytes, list[bytes]]) -> Record:
    """Make a record of an entry of the stream."""
    id, fields = row
    changes = []
    for field, text in zip(fields[2::2], fields[3::2], strict=True):
        action, _, key = field.decode().split(":", 2)
        changes.append(Change(key, action, text))
    return Record(Position(lineage, int(id.partition(b"-")[0])), int(fields[1]), changes)


def record_in_notice(notice: bytes) -> Record:
    """Make a record of a notice: lineage, revision, previous revision; a list of changes, if small."""
    head, _, body = notice.partition(b"\n")
    lineage, revision, previous = head.split()
    changes = [change_of(bytes(text)) for text in _split(body)] if body else None
    return Record(Position(lineage.decode(), int(revision)), int(previous), changes)
