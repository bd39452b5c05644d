"""Several writes in one call of the store, some of which have to be sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from memx_server.domain.access import Caller, Principal, Scopes
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.memory.memory import Memory
from memx_server.domain.requests import SetRequest
from memx_server.domain.schema.cache import SchemaCache
from memx_server.evaluation.pool import EvaluationPool
from memx_server.settings import Settings
from memx_server.storage.base import (
    Outcome,
    PutSchema,
    SpaceSchemas,
    StoreUnavailable,
    Transaction,
)
from memx_server.storage.sqlite import SqliteStore

from memx_sdk.protocol.errors import ProtocolError

PRINCIPAL = Principal("tester", Scopes.of(["*"], ["*"]))
Broken = Callable[[str], bool]


class Shaky(SqliteStore):
    """A store that is away for some keys, the first time or always, after it may have written them.

    Attributes:
        away: Tells whether it is for a key.
        blind: Whether it cannot tell its schemas.
        behind: What somebody else commits behind the first two of a call.
    """

    away: Broken = staticmethod(lambda key: False)
    blind = False
    behind: Transaction | None = None
    sizes: list[int]

    async def commit(
        self, space: str, transactions: Sequence[Transaction]
    ) -> Sequence[Outcome | StoreUnavailable]:
        self.sizes.append(len(transactions))
        outcomes = list(await super().commit(space, transactions[:2]))
        if self.behind is not None:
            behind, self.behind = self.behind, None
            await super().commit(space, [behind])
        outcomes += await super().commit(space, transactions[2:])
        return [
            StoreUnavailable("lost") if self.away(_key(transaction)) else outcome
            for transaction, outcome in zip(transactions, outcomes, strict=True)
        ]

    async def schemas(self, space: str) -> SpaceSchemas:
        if self.blind:
            raise StoreUnavailable("broken by the test")
        return await super().schemas(space)


def _key(transaction: Transaction) -> str:
    return transaction.writes[0].key if transaction.writes else ""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Shaky]:
    store = Shaky(tmp_path / "memx.db")
    store.sizes = []
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def memory(store: Shaky) -> Memory:
    return Memory(
        store, SchemaCache(store), Evaluator(EvaluationPool(1.0), Settings().limits), Settings()
    )


def _asked(numbers: Sequence[int], *, tagged: bool) -> list[tuple[Caller, SetRequest]]:
    return [
        (
            Caller(PRINCIPAL, idempotency_key=f"n{number}" if tagged else None),
            SetRequest(key=f"k{number}", value=msgspec.Raw(b"%d" % number)),
        )
        for number in numbers
    ]


def _codes(found: Sequence[bytes | ProtocolError]) -> list[str]:
    return [each.code if isinstance(each, ProtocolError) else "ok" for each in found]


async def test_those_with_a_token_are_sent_again_and_applied_once(
    memory: Memory, store: Shaky
) -> None:
    lost = {"k1", "k3"}

    def away(key: str) -> bool:
        if key in lost:
            lost.remove(key)
            return True
        return False

    store.away = away
    found = await memory.write_each(_asked(range(5), tagged=True))

    assert _codes(found) == ["ok"] * 5
    assert store.sizes == [5, 2]
    versions = [msgspec.json.decode(each)["version"] for each in found if isinstance(each, bytes)]
    assert versions == [1] * 5


async def test_those_without_are_told_that_the_store_was_away(memory: Memory, store: Shaky) -> None:
    store.away = lambda key: key in {"k1", "k3"}
    found = await memory.write_each(_asked(range(5), tagged=False))

    assert _codes(found) == ["ok", "unavailable", "ok", "unavailable", "ok"]
    assert store.sizes == [5]


async def test_nothing_is_sent_again_beyond_the_deadline(store: Shaky) -> None:
    settings = replace(Settings(), write_deadline=0.2)
    memory = Memory(
        store, SchemaCache(store), Evaluator(EvaluationPool(1.0), Settings().limits), settings
    )
    store.away = lambda key: key == "k1"
    found = await memory.write_each(_asked(range(3), tagged=True))

    assert _codes(found) == ["ok", "unavailable", "ok"]
    assert store.sizes[0] == 3
    assert set(store.sizes[1:]) == {1}


async def test_a_schema_in_between_is_obeyed_by_those_behind_it(
    memory: Memory, store: Shaky
) -> None:
    store.behind = Transaction("other", (PutSchema("k*", b'{"maximum":3}'),))
    found = await memory.write_each(_asked([7, 1, 2, 8, 3], tagged=False))

    assert _codes(found) == ["ok", "ok", "ok", "schema_violation", "ok"]
    assert store.sizes == [5, 3]


async def test_what_was_written_is_told_although_the_new_schemas_cannot_be_read(
    memory: Memory, store: Shaky
) -> None:
    await memory.write_each(_asked([9], tagged=False))
    store.behind = Transaction("other", (PutSchema("k*", b"true"),))
    store.blind = True
    found = await memory.write_each(_asked(range(5), tagged=False))

    assert _codes(found) == ["ok"] * 2 + ["unavailable"] * 3
