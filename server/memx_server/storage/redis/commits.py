"""A transaction as arguments of the commit script, and the script's answer as an outcome."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memx_sdk.protocol.cursors import Position
from memx_server.storage.base import (
    IDEMPOTENCY_KEPT_MS,
    Committed,
    Conflicted,
    Delete,
    DeleteSchema,
    IdempotencyMismatch,
    Outcome,
    Put,
    PutSchema,
    SchemaMoved,
    SpaceFull,
    Touch,
    Transaction,
    Write,
    Written,
)
from memx_server.storage.encoding import quote
from memx_server.storage.redis.keyspace import Keyspace
from memx_server.storage.redis.scripts import Script
from memx_server.storage.redis.servers import Servers

NOTICE_MAX_BYTES = 64 * 1024
"""The most change text that a notice carries: Redis cuts off clients whose notices pile up."""

_TTL_MAX_MS = 2**52
_WRITES_MAX = 1000
"""Lua's stack takes a few thousand values at once; the domain's own limit is far below."""

Argument = bytes | str | int


@dataclass(frozen=True)
class LogLimits:
    """How much log a space keeps: records, and bytes of change texts."""

    records: int
    bytes: int


class Commits:
    """Runs the commit script.

    Args:
        servers: Where the spaces are.
        limits: How much log to keep.
        max_keys: Keys that a space may hold; 0 for no cap.
    """

    def __init__(self, servers: Servers, limits: LogLimits, max_keys: int) -> None:
        self._servers = servers
        self._max_keys = max_keys
        self._lineages = secrets.token_hex(9).encode()
        self._commits = itertools.count()
        self._script = Script(
            *("space", "checks", "plan", "write"),
            MAX_RECORDS=limits.records,
            MAX_BYTES=limits.bytes,
            MAX_KEYS=max_keys,
            NOTICE_MAX=NOTICE_MAX_BYTES,
            ANSWER_MS=IDEMPOTENCY_KEPT_MS,
        )

    async def run(self, space: Keyspace, transaction: Transaction) -> tuple[Outcome, bool]:
        """Commit.

        Returns:
            What came of it, and whether work is left for an empty transaction to go on with:
            expiries to log or records to trim.
        """
        if len(transaction.writes) + len(transaction.compares) > _WRITES_MAX:
            raise ValueError(f"a transaction has at most {_WRITES_MAX} writes and compares")
        keys, arguments = self._encode(space, transaction)
        reply = await self._script.run(self._servers, space.slot, keys, arguments)
        if reply[0] == b"full":
            return SpaceFull(self._max_keys), False
        return _decode(reply, transaction)

    def _encode(
        self, space: Keyspace, transaction: Transaction
    ) -> tuple[list[bytes], list[Argument]]:
        idempotency, schemas = transaction.idempotency, transaction.schema_revision
        keys = [
            *space.shared,
            space.answer(idempotency.token) if idempotency else space.meta,
            *[space.entry(part.key) for part in (*transaction.compares, *transaction.writes)],
        ]
        arguments: list[Argument] = [
            b"%b%x" % (self._lineages, next(self._commits)),  # the lineage, should this open one
            quote(transaction.writer),
            b"" if schemas is None else schemas,
            quote(idempotency.digest) if idempotency else b"",
            idempotency.note if idempotency else b"",
            b"SPUBLISH" if self._servers.sharded else b"PUBLISH",
            len(transaction.compares),
        ]
        for compare in transaction.compares:
            arguments += (compare.key, compare.revision)
        for write in transaction.writes:
            arguments += _write_arguments(write)
        return keys, arguments


def _write_arguments(write: Write) -> Sequence[Argument]:
    """Kind, key, key as JSON, reason as a member of the change, expiry, whether logged, value."""
    key, quoted = write.key, quote(write.key)
    match write:
        case Put():
            ttl = b"keep" if write.keep_expiry else _ttl(write.ttl_ms)
            logged = b"1" if write.log_value else b""
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


def _decode(reply: Sequence[Any], transaction: Transaction) -> tuple[Outcome, bool]:
    outcome = reply[0]
    if outcome == b"committed":
        return _committed(reply[1:], None), bool(reply[4])
    if outcome == b"repeated":
        words, _, note = reply[1].partition(b"\n")
        lineage, *numbers = words.split(b" ")
        return _committed([lineage, *map(int, numbers)], note), False
    if outcome == b"conflict":
        key = transaction.compares[reply[1]].key
        return Conflicted(key, reply[2] if len(reply) > 2 else None), False
    if outcome == b"schemas":
        return SchemaMoved(reply[1]), False
    return IdempotencyMismatch(), False


def _committed(reply: Sequence[Any], note: bytes | None) -> Committed:
    """Read lineage, revision, ts, a flag, and for each write: changed, version, expiry or -1."""
    written = [
        Written(reply[i] == 1, reply[i + 1], None if reply[i + 2] < 0 else reply[i + 2] / 1000)
        for i in range(4, len(reply), 3)
    ]
    return Committed(Position(reply[0].decode(), reply[1]), reply[2] / 1_000_000, written, note)
