"""Writers on two stores while connections are cut, scripts forgotten and Redis is killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

import pytest
from memx_server.storage.base import (
    Committed,
    Delete,
    Idempotency,
    Put,
    Store,
    StoreUnavailable,
    Transaction,
)

from tests.storage.helpers import SPACE, changes_of, commit_one, seen, whole_log
from tests.storage.redis_helpers import opened
from tests.support.redis_server import RedisServer, redis_binaries

KEYS = [f"k{number}" for number in range(6)]


@pytest.fixture(params=redis_binaries())
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    binary = redis_binaries()[request.param]
    with RedisServer(binary, {"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server


def faults(redis: RedisServer) -> Iterator[Callable[[], object]]:
    """What goes wrong, one after the other."""
    with redis.client() as client:
        yield lambda: client.client_kill_filter(_type="normal", skipme=True)
        yield client.script_flush
        yield redis.kill
        yield redis.start
        yield lambda: client.client_kill_filter(_type="normal", skipme=True)
        yield redis.restart


class Writer:
    """Writes at random under idempotency tokens, again until it is told what became of each."""

    def __init__(self, name: str, stores: tuple[Store, ...]) -> None:
        self.name = name
        self.acknowledged: set[int] = set()
        self._stores = stores
        self._dice = random.Random(name)

    async def run(self, stop: asyncio.Event) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = self._dice.choice(KEYS)
            write = Delete(key) if self._dice.random() < 0.2 else Put(key, b"%d" % number)
            token = Idempotency(f"{self.name}-{number}", "digest")
            done = await self._commit(Transaction(self.name, [write], idempotency=token))
            if done.written[0].changed:
                assert done.position.revision not in self.acknowledged
                self.acknowledged.add(done.position.revision)

    async def _commit(self, transaction: Transaction) -> Committed:
        while True:
            try:
                outcome = await commit_one(self._dice.choice(self._stores), SPACE, transaction)
            except StoreUnavailable:
                await asyncio.sleep(0.02)
            else:
                assert isinstance(outcome, Committed)
                return outcome


async def test_every_acknowledged_write_is_in_the_log_once(redis: RedisServer) -> None:
    async with opened(redis) as one, opened(redis) as two:
        writers = [Writer(f"writer-{number}", (one, two)) for number in range(8)]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for writer in writers:
                group.create_task(writer.run(stop))
            for fault in faults(redis):
                await asyncio.sleep(0.15)
                await asyncio.to_thread(fault)
            await asyncio.sleep(0.15)
            stop.set()

        log = await whole_log(one)
        logged = [record.position.revision for record in log]
        assert logged == sorted(set().union(*(writer.acknowledged for writer in writers)))
        assert [record.previous for record in log] == [0, *logged[:-1]]
        versions = dict.fromkeys(KEYS, 0)
        for change in changes_of(log):
            expected = versions[change.key] + 1 if change.action == "set" else 0
            assert seen(change)["version"] == expected != versions[change.key]
            versions[change.key] = expected
