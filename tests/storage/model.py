"""A space as it should behave, small enough to be seen to be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from memx_server.storage.base import (
    Delete,
    DeleteSchema,
    Put,
    PutSchema,
    Touch,
    Transaction,
    Write,
)


@dataclass
class ModelEntry:
    """What a key holds; ``expires_at`` in milliseconds of the model's time."""

    revision: int
    version: int
    value: bytes
    writer: str
    expires_at: int | None


@dataclass(frozen=True)
class ModelChange:
    """What the log says of one key; ``text`` is the value or schema, None where it says none."""

    action: str
    key: str
    version: int
    text: bytes | None
    writer: str


@dataclass
class Answer:
    """What a transaction should come to: ``kind`` names the class of the outcome."""

    kind: str
    key: str = ""
    written: list[tuple[bool, int]] = field(default_factory=list)
    replayed: bool = False
    note: bytes = b""


class Model:
    """Entries, schemas and the log of one space, with revisions counted from 1."""

    def __init__(self, log_max_records: int, max_keys: int) -> None:
        self.now = 0
        self.head = 0
        self.floor = 0
        self.schema_revision = 0
        self.entries: dict[str, ModelEntry] = {}
        self.schemas: dict[str, bytes] = {}
        self.records: dict[int, list[ModelChange]] = {}
        self.answers: dict[str, tuple[str, int, Answer]] = {}
        self._log_max_records = log_max_records
        self._max_keys = max_keys

    def commit(self, transaction: Transaction) -> Answer:
        """Apply a transaction as DESIGN.md says."""
        self.expire()
        token = transaction.idempotency
        if token is not None and token.token in self.answers:
            digest, until, answer = self.answers[token.token]
            if self.now < until:
                return answer if digest == token.digest else Answer("IdempotencyMismatch")
        if transaction.schema_revision not in (None, self.schema_revision):
            return Answer("SchemaMoved")
        for compare in transaction.compares:
            if self.revision(compare.key) != compare.revision:
                return Answer("Conflicted", compare.key)
        if not self._has_room(transaction.writes):
            return Answer("QuotaExceeded")
        changes: list[ModelChange] = []
        written = [self._apply(write, transaction.writer, changes) for write in transaction.writes]
        self._log(changes)
        if token is not None and transaction.writes:
            repeated = Answer("Committed", "", written, replayed=True, note=token.note)
            until = self.now + token.kept_ms
            self.answers[token.token] = token.digest, until, repeated
        return Answer("Committed", "", written)

    def expire(self) -> None:
        """Log every expiry whose time has come, each as a record of its own."""
        due = [
            (entry.expires_at, key)
            for key, entry in self.entries.items()
            if entry.expires_at is not None and entry.expires_at <= self.now
        ]
        for _, key in sorted(due):
            del self.entries[key]
            self._log([ModelChange("expire", key, 0, b"null", "")])

    def revision(self, key: str) -> int:
        """The revision of a key, 0 where there is none."""
        entry = self.entries.get(key)
        return 0 if entry is None else entry.revision

    def log(self, since: int) -> list[tuple[int, list[ModelChange]]]:
        """Records after a revision that is not below the floor."""
        return [(at, changes) for at, changes in sorted(self.records.items()) if at > since]

    def history(self, key: str) -> list[tuple[int, ModelChange]]:
        """Changes of a key that the log still has, newest first."""
        return [
            (at, change)
            for at, changes in sorted(self.records.items(), reverse=True)
            for change in changes
            if change.key == key and change.action != "schema"
        ]

    def _has_room(self, writes: Sequence[Write]) -> bool:
        after = set(self.entries)
        after |= {write.key for write in writes if isinstance(write, Put)}
        after -= {write.key for write in writes if isinstance(write, Delete)}
        return len(after) <= max(self._max_keys, len(self.entries))

    def _apply(self, write: Write, writer: str, changes: list[ModelChange]) -> tuple[bool, int]:
        before = self.entries.get(write.key)
        following = self.head + 1
        match write:
            case Put():
                expires_at = None if write.ttl_ms is None else self.now + write.ttl_ms
                if write.keep_expiry and before is not None:
                    expires_at = before.expires_at
                version = 1 if before is None else before.version + 1
                self.entries[write.key] = ModelEntry(
                    following, version, write.value, writer, expires_at
                )
                text = write.value if write.log_value else None
                changes.append(ModelChange("set", write.key, version, text, writer))
                return True, version
            case Delete():
                if before is None:
                    return False, 0
                del self.entries[write.key]
                changes.append(ModelChange("delete", write.key, 0, b"null", writer))
                return True, 0
            case Touch():
                if before is None:
                    return False, 0
                before.expires_at = None if write.ttl_ms is None else self.now + write.ttl_ms
                return True, before.version
            case PutSchema():
                self.schemas[write.key] = write.schema
            case DeleteSchema():
                if self.schemas.pop(write.key, None) is None:
                    return False, 0
        schema = self.schemas.get(write.key, b"null")
        self.schema_revision = following
        changes.append(ModelChange("schema", write.key, 0, schema, writer))
        return True, 0

    def _log(self, changes: list[ModelChange]) -> None:
        if not changes:
            return
        self.head += 1
        self.records[self.head] = changes
        while len(self.records) > self._log_max_records:
            self.floor = min(self.records)
            del self.records[self.floor]
