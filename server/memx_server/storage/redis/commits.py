"""A transaction as arguments of the commit script, and the script's answer as an outcome."""

from __future__ import annotations

import random
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
    """

    def __init__(self, servers: Servers, limits: LogLimits) -> None:
        self._servers = servers
        self._limits = limits
        self._script = Script("space", "log", "writes", "commit")

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
        return _decode(reply, transaction)

    def _encode(
        self, space: Keyspace, transaction: Transaction
    ) -> tuple[list[bytes], list[Argument]]:
        idempotency, schemas = transaction.idempotency, transaction.schema_revision
        keys = [
            *(space.meta, space.log, space.names, space.expiries, space.newest, space.schemas),
            space.answer(idempotency.token) if idempotency else space.meta,
            *[space.entry(part.key) for part in (*transaction.compares, *transaction.writes)],
        ]
        arguments: list[Argument] = [
            f"{random.getrandbits(96):024x}",  # names the lineage, should this commit open one
            quote(transaction.writer),
            "" if schemas is None else schemas,
            quote(idempotency.digest) if idempotency else "",
            idempotency.note if idempotency else "",
            IDEMPOTENCY_KEPT_MS,
            "SPUBLISH" if self._servers.sharded else "PUBLISH",
            self._limits.records,
            self._limits.bytes,
            NOTICE_MAX_BYTES,
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
            ttl = "keep" if write.keep_expiry else _ttl(write.ttl_ms)
            reason, logged = _reason(write.reason), int(write.log_value)
            return ("put", key, quoted, reason, ttl, logged, write.value)
        case Delete():
            return ("delete", key, quoted, _reason(write.reason), "", 1, "")
        case Touch():
            return ("touch", key, quoted, b"", _ttl(write.ttl_ms), 1, "")
        case PutSchema():
            return ("put_schema", key, quoted, _reason(write.reason), "", 1, write.schema)
        case DeleteSchema():
            return ("delete_schema", key, quoted, _reason(write.reason), "", 1, b"null")


def _ttl(ttl_ms: int | None) -> Argument:
    if ttl_ms is None:
        return ""
    if not 0 < ttl_ms < _TTL_MAX_MS:
        raise ValueError(f"a time to live is above 0 and below 2^52 ms: {ttl_ms}")
    return ttl_ms


def _reason(reason: str | None) -> bytes:
    return b"" if reason is None else b',"reason":' + quote(reason)


def _decode(reply: Sequence[Any], transaction: Transaction) -> tuple[Outcome, bool]:
    match reply:
        case [b"committed", lineage, revision, ts, more, *written]:
            position = Position(lineage.decode(), revision)
            return Committed(position, ts / 1_000_000, _written(written)), bool(more)
        case [b"repeated", answer]:
            return _repeated(answer), False
        case [b"conflict", which, *entry]:
            key = transaction.compares[which].key
            return Conflicted(key, entry[0] if entry else None), False
        case [b"schemas", revision]:
            return SchemaMoved(revision), False
        case _:
            return IdempotencyMismatch(), False


def _repeated(answer: bytes) -> Committed:
    words, _, note = answer.partition(b"\n")
    lineage, *numbers = words.split(b" ")
    revision, ts, _, *written = map(int, numbers)
    position = Position(lineage.decode(), revision)
    return Committed(position, ts / 1_000_000, _written(written), replayed_note=note)


def _written(numbers: Sequence[int]) -> list[Written]:
    """Read triples of: changed, version, expiry in milliseconds or -1."""
    triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    return [
        Written(bool(changed), version, None if expires < 0 else expires / 1000)
        for changed, version, expires in triples
    ]
