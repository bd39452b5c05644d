"""Every store, step by step against the model, in whatever order hypothesis thinks of."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from memx_server.storage.base import (
    Change,
    Committed,
    Compacted,
    Compare,
    Conflicted,
    Delete,
    DeleteSchema,
    Idempotency,
    Put,
    PutSchema,
    SchemaMoved,
    SpaceQuotas,
    Store,
    Touch,
    Transaction,
    Write,
)
from memx_server.storage.encoding import decode_entry
from msgspec.structs import replace

from memx_sdk.protocol.cursors import Position
from tests.storage.backends import Backend, SqliteBackend
from tests.storage.helpers import commit_one, seen
from tests.storage.model import Answer, Model, ModelChange

T = TypeVar("T")

KEYS = ["a", "a:1", "a:2", "b", "ß"]
LOG_MAX_RECORDS = 8
MAX_KEYS = len(KEYS) - 1
HOUR_MS = 3_600_000

keys = st.sampled_from(KEYS)
texts = st.sampled_from([b"null", b"[]", b"{}", b"1.10", b'"\\u0000 %s"', b"12345678901234567890"])
ttls = st.none() | st.integers(HOUR_MS, 30 * HOUR_MS)
writes = st.one_of(
    st.builds(Put, keys, texts, ttl_ms=ttls, log_value=st.booleans()),
    st.builds(Put, keys, texts, keep_expiry=st.just(value=True)),
    st.builds(Delete, keys),
    st.builds(Touch, keys, ttl_ms=ttls),
    st.builds(PutSchema, keys, texts),
    st.builds(DeleteSchema, keys),
)
tokens = st.none() | st.builds(
    Idempotency, st.sampled_from("TU"), st.sampled_from("de"), st.sampled_from([b"", b"note"])
)


class Clock:
    """The store's clock where a test can turn it; the model's time 0 is where it starts."""

    def __init__(self) -> None:
        self.start = self.now = time.time_ns() // 1_000_000 * 1000

    def __call__(self) -> int:
        return self.now


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to the model, and compares what can be seen."""

    runner: asyncio.Runner
    store: Store
    clock: Clock | None
    spaces = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.space = f"space {next(self.spaces)}"
        self.model = Model(LOG_MAX_RECORDS, MAX_KEYS)
        self.base = 0
        self.expiries: set[int] = set()
        if self.clock is not None:
            self.clock.now = self.clock.start

    @rule(
        wanted=st.lists(writes, max_size=4, unique_by=lambda write: write.key),
        compared=st.lists(st.tuples(keys, st.sampled_from([0, 0, 0, 1, -1])), max_size=2),
        schema_offset=st.sampled_from([None, None, 0, 0, -1]),
        token=tokens,
        writer=st.sampled_from(["w/1", 'w/"2"']),
    )
    def commit(
        self,
        wanted: list[Write],
        compared: list[tuple[str, int]],
        schema_offset: int | None,
        token: Idempotency | None,
        writer: str,
    ) -> None:
        transaction = Transaction(
            writer,
            [self._with_own_expiry(write) for write in wanted],
            [Compare(key, max(self.model.revision(key) + off, 0)) for key, off in compared],
            None if schema_offset is None else max(self.model.schema_revision + schema_offset, 0),
            token,
        )
        outcome = self._run(commit_one(self.store, self.space, self._as_stored(transaction)))
        head_before = self.model.head
        expected = self.model.commit(transaction)

        assert type(outcome).__name__ == expected.kind
        if isinstance(outcome, Committed):
            if head_before == 0 and self.model.head:
                self.base = outcome.position.revision - self.model.head
            self._check_committed(outcome, expected, token)
        elif isinstance(outcome, Conflicted):
            assert outcome.key == expected.key
            assert [outcome.entry] == list(self._run(self.store.read(self.space, [outcome.key])))
        elif isinstance(outcome, SchemaMoved):
            assert outcome.revision == self._real(self.model.schema_revision)

    @precondition(lambda self: self.clock is not None)
    @rule(milliseconds=st.integers(0, 3 * HOUR_MS) | st.just(25 * HOUR_MS))
    def let_time_pass(self, milliseconds: int) -> None:
        assert self.clock is not None
        self.clock.now += milliseconds * 1000
        self.model.now += milliseconds
        self._check_entries(alive_at=self.model.now)
        self._run(commit_one(self.store, self.space, Transaction("w", [])))
        self.model.expire()

    @rule(since=st.integers(0, LOG_MAX_RECORDS + 3), limit=st.integers(1, 10))
    def read_the_log(self, since: int, limit: int) -> None:
        head = self._run(self.store.head(self.space))
        start = max(self.model.head - since, 0)
        position = head._replace(revision=self._real(start))
        if start == 0 and head.revision:
            position = Position("0", 0)
        if start < self.model.floor:
            with pytest.raises(Compacted):
                self._run(self.store.log(self.space, position, limit))
            return
        page = self._run(self.store.log(self.space, position, limit))
        expected = self.model.log(start)[:limit]
        assert page.head == head.revision
        assert [record.position.revision for record in page.records] == [
            self._real(revision) for revision, _ in expected
        ]
        for record, (revision, changes) in zip(page.records, expected, strict=True):
            assert record.previous == self._real(revision - 1)
            assert record.changes is not None
            self._check_changes(record.changes, changes, revision)

    @rule(key=keys, limit=st.integers(1, 12), back=st.none() | st.integers(0, 10))
    def read_a_history(self, key: str, limit: int, back: int | None) -> None:
        until = None if back is None else self.model.head - back
        page = self._run(
            self.store.history(
                self.space, key, limit, until=None if until is None else self._real(until)
            )
        )
        expected = [
            (revision, change)
            for revision, change in self.model.history(key)
            if until is None or revision <= until
        ][:limit]
        for change, (revision, expected_change) in zip(page.changes, expected, strict=True):
            self._check_changes([change], [expected_change], revision)
        assert page.complete or self.model.floor > 0

    @rule(prefix=st.sampled_from(["", "a", "a:", "ß", "x"]), limit=st.integers(1, 6))
    def list_keys(self, prefix: str, limit: int) -> None:
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = self._run(self.store.list(self.space, prefix=prefix, after=after, limit=limit))
            found += [key for key, _ in page.entries]
            after = page.after
        assert found == sorted(key for key in self.model.entries if key.startswith(prefix))

    @invariant()
    def entries_and_schemas_agree(self) -> None:
        self._check_entries(alive_at=self.model.now)
        schemas = self._run(self.store.schemas(self.space))
        assert schemas.revision == self._real(self.model.schema_revision)
        assert schemas.by_pattern == self.model.schemas
        assert self._run(self.store.head(self.space)).revision == self._real(self.model.head)

    def _check_entries(self, alive_at: int) -> None:
        for key, found in zip(KEYS, self._run(self.store.read(self.space, KEYS)), strict=True):
            expected = self.model.entries.get(key)
            if expected and expected.expires_at is not None and expected.expires_at <= alive_at:
                expected = None
            assert (found is None) == (expected is None), key
            if found is None or expected is None:
                continue
            entry = decode_entry(found)
            assert entry.key == key
            assert entry.revision == self._real(expected.revision)
            assert (entry.version, bytes(entry.value)) == (expected.version, expected.value)
            assert entry.writer == expected.writer
            self._check_expiry(entry.expires_at, expected.expires_at)

    def _check_expiry(self, found: float | None, expected: int | None) -> None:
        if expected is None or found is None:
            assert found is expected
        elif self.clock is not None:
            assert found == (self.clock.start // 1000 + expected) / 1000
        else:
            assert found == pytest.approx(time.time() + expected / 1000, abs=60)

    def _check_committed(
        self, outcome: Committed, expected: Answer, token: Idempotency | None
    ) -> None:
        assert [(one.changed, one.version) for one in outcome.written] == expected.written
        if expected.replayed:
            assert token is not None
            assert outcome.replayed_note == expected.note
        else:
            assert outcome.replayed_note is None
            assert outcome.position.revision == self._real(self.model.head)

    def _check_changes(self, found: Any, expected: list[ModelChange], revision: int) -> None:
        assert [(change.action, change.key) for change in found] == [
            (change.action, change.key) for change in expected
        ]
        for change, model_change in zip(found, expected, strict=True):
            self._check_change(change, model_change, revision)

    def _check_change(self, change: Change, expected: ModelChange, revision: int) -> None:
        told = seen(change)
        assert told["revision"] == self._real(revision)
        assert told["writer"] == expected.writer
        assert told.get("version", 0) == expected.version
        member = b"schema" if expected.action == "schema" else b"value"
        if expected.text is None:
            assert "value" not in told
        else:
            assert change.data.endswith(b',"%b":%b}' % (member, expected.text))

    def _with_own_expiry(self, write: Write) -> Write:
        """No two keys expire at one time: which is logged first then is nobody's promise."""
        if not isinstance(write, Put | Touch) or write.ttl_ms is None:
            return write
        ttl_ms = write.ttl_ms
        while self.model.now + ttl_ms in self.expiries:
            ttl_ms += 1
        self.expiries.add(self.model.now + ttl_ms)
        return replace(write, ttl_ms=ttl_ms)

    def _as_stored(self, transaction: Transaction) -> Transaction:
        """The transaction with the store's revisions in place of the model's."""
        schema_revision = transaction.schema_revision
        return replace(
            transaction,
            compares=[
                Compare(compare.key, self._real(compare.revision))
                for compare in transaction.compares
            ],
            schema_revision=None if schema_revision is None else self._real(schema_revision),
        )

    def _real(self, revision: int) -> int:
        """The store's revision for one of the model, which counts from 1."""
        return revision + self.base if revision > 0 else 0

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)


@pytest.mark.timeout(300)  # when it fails, hypothesis looks for the shortest way there
def test_a_store_behaves_like_the_model(backend: Backend) -> None:
    clock = Clock() if isinstance(backend, SqliteBackend) else None
    options: dict[str, Any] = {} if clock is None else {"clock": clock}

    with asyncio.Runner() as runner:
        store = backend.store(
            log_max_records=LOG_MAX_RECORDS, quotas=SpaceQuotas(keys=MAX_KEYS), **options
        )
        runner.run(store.open())
        machine = type(
            "Machine", (StoreMachine,), {"runner": runner, "store": store, "clock": clock}
        )
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=80,
                    stateful_step_count=25,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(store.close())
