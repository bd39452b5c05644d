"""Updates and transactions that lose a race to another process start over from what is there."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from memx_server.domain.access import Caller, Principal, Scopes
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.memory.memory import Memory
from memx_server.domain.memory.updates import KeyLocks
from memx_server.domain.requests import TxnRequest, UpdateRequest
from memx_server.domain.schema.cache import SchemaCache
from memx_server.evaluation.pool import EvaluationPool
from memx_server.settings import Settings
from memx_server.storage.base import Outcome, Put, StoreUnavailable, Transaction
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore

from memx_sdk.protocol.errors import ProtocolError
from tests.server.conftest import client
from tests.support.memx_server import serve_store
from tests.support.redis_server import RedisServer

CALLER = Caller(Principal("tester", Scopes.of(["*"], ["*"])))


class Interfered(SqliteStore):
    """A store that another process writes to, just before or after commits of this one."""

    before: Callable[[], Awaitable[None]] | None = None
    after: Callable[[], Awaitable[None]] | None = None
    commits = 0
    reads = 0

    async def read(
        self, space: str, keys: Sequence[str], *, most_bytes: int | None = None
    ) -> Sequence[bytes | None]:
        self.reads += 1
        return await super().read(space, keys, most_bytes=most_bytes)

    async def commit(
        self, space: str, transactions: Sequence[Transaction]
    ) -> Sequence[Outcome | StoreUnavailable]:
        self.commits += 1
        before, self.before = self.before, None
        if before is not None:
            await before()
        outcomes = await super().commit(space, transactions)
        after, self.after = self.after, None
        if after is not None:
            await after()
        return outcomes

    async def write_from_elsewhere(self, key: str, value: Any) -> None:
        put = Put(key, json.dumps(value).encode())
        await super().commit("default", [Transaction("other", (put,))])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Interfered]:
    store = Interfered(tmp_path / "memx.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def memory(store: Interfered) -> Memory:
    return Memory(
        store, SchemaCache(store), Evaluator(EvaluationPool(1.0), Settings().limits), Settings()
    )


async def update(memory: Memory, **fields: Any) -> Any:
    request = msgspec.json.decode(json.dumps(fields), type=UpdateRequest)
    return json.loads(await memory.update(CALLER, request))


async def txn(memory: Memory, **fields: Any) -> Any:
    request = msgspec.json.decode(json.dumps(fields), type=TxnRequest)
    return json.loads(await memory.txn(CALLER, request))


async def test_an_update_that_lost_a_race_is_computed_anew(
    memory: Memory, store: Interfered
) -> None:
    await store.write_from_elsewhere("n", 1)
    store.before = lambda: store.write_from_elsewhere("n", 10)
    assert (await update(memory, key="n", increment=1))["value"] == 11


async def test_a_conditional_update_that_lost_a_race_is_a_conflict(
    memory: Memory, store: Interfered
) -> None:
    revision = (await update(memory, key="n", increment=1))["revision"]
    store.before = lambda: store.write_from_elsewhere("n", 10)
    with pytest.raises(ProtocolError) as conflict:
        await update(memory, key="n", increment=1, if_revision=revision)
    assert conflict.value.code == "conflict"


async def test_the_next_in_the_queue_starts_from_what_the_one_before_left(
    memory: Memory, store: Interfered
) -> None:
    """Without reading the store again."""
    results = await asyncio.gather(*(update(memory, key="n", increment=1) for _ in range(10)))
    assert sorted(each["value"] for each in results) == list(range(1, 11))
    assert store.commits == 10


async def test_the_next_one_later_starts_from_there_too(memory: Memory, store: Interfered) -> None:
    for number in range(1, 6):
        assert (await update(memory, key="n", increment=1))["value"] == number
    assert (store.reads, store.commits) == (1, 5)

    await store.write_from_elsewhere("n", 10)
    assert (await update(memory, key="n", increment=1))["value"] == 11
    assert (store.reads, store.commits) == (1, 7)


async def test_what_is_remembered_of_keys_is_bounded() -> None:
    locks = KeyLocks()

    async def leaves(key: str, entry: bytes) -> None:
        async with locks.hold("s", key, 1) as lock:
            lock.note_written(entry)

    async def is_known(key: str) -> bool:
        async with locks.hold("s", key, 1) as lock:
            return lock.is_known

    await leaves("long", b"x" * 100_000)
    await leaves("first", b"{}")
    assert not await is_known("long")
    assert await is_known("first")
    for number in range(2000):
        await leaves(f"k{number}", b"{}")
    assert await is_known("k1999")
    assert not await is_known("first")


async def test_a_refusal_of_what_was_remembered_is_none(memory: Memory, store: Interfered) -> None:
    assert (await update(memory, key="n", increment=1, maximum=1))["value"] == 1
    await store.write_from_elsewhere("n", 0)
    assert (await update(memory, key="n", increment=1, maximum=1))["value"] == 1
    with pytest.raises(ProtocolError, match="maximum"):
        await update(memory, key="n", increment=1, maximum=1)


async def test_a_refusal_never_comes_of_what_the_one_before_left(
    memory: Memory, store: Interfered
) -> None:
    await store.write_from_elsewhere("l", ["x"])
    store.after = lambda: store.write_from_elsewhere("l", 5)
    first, second = await asyncio.gather(
        update(memory, key="l", append=["y"]),
        update(memory, key="l", increment=1),
    )
    assert first["value"] == ["x", "y"]
    assert second["value"] == 6  # what the first one left is no number; what is there by now is


async def test_a_transaction_that_lost_a_race_decides_anew(
    memory: Memory, store: Interfered
) -> None:
    store.before = lambda: store.write_from_elsewhere("task", "theirs")
    done = await txn(
        memory,
        **{
            "if": [{"key": "task", "exists": False}],
            "then": [{"op": "set", "key": "task", "value": "mine"}],
            "else": [{"op": "get", "key": "task"}],
        },
    )
    assert done["branch"] == "else"
    assert done["results"][0]["entry"]["value"] == "theirs"


async def test_a_key_that_is_always_contended_ends_in_unavailable(
    store: Interfered,
) -> None:
    async def interfere() -> None:
        await store.write_from_elsewhere("n", store.commits)
        store.before = interfere

    store.before = interfere
    settings = Settings(write_deadline=0.2)
    memory = Memory(
        store, SchemaCache(store), Evaluator(EvaluationPool(1.0), Settings().limits), settings
    )
    with pytest.raises(ProtocolError) as refusal:
        await update(memory, key="n", increment=1)
    assert refusal.value.code == "unavailable"


def test_two_servers_on_one_counter_lose_no_step(redis_any: RedisServer) -> None:
    prefix = f"test-{secrets.token_hex(6)}"
    with (
        serve_store(RedisStore(redis_any.url, prefix=prefix)) as one,
        serve_store(RedisStore(redis_any.url, prefix=prefix)) as two,
    ):

        def count(number: int) -> None:
            with client((one, two)[number % 2], "local_dev_key") as api:
                for _ in range(20):
                    api.post("/update", {"key": "hot", "increment": 1})
                    then = [{"op": "increment", "key": "hot", "increment": 1}]
                    api.post("/txn", {"then": then})

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(count, range(6)))
        with client(two, "local_dev_key") as api:
            entry = api.get("/get", key="hot")
            assert (entry["value"], entry["version"]) == (240, 240)
