"""Every way in which a commit can break off between two commands of Redis, explored to a depth of two.

The real scripts run on a real Redis, with a command in front of which they break off: what stands before it
has happened, as Redis does not undo. Breadth first: one transaction of each kind breaks off in front of each of its
writes; from each state that this leaves, the repair, or another transaction with the repair that it brings,
breaks off in front of each of its own. Then a commit follows that nothing hinders, and the promises of the store
must hold: observers who stood anywhere before, and resume, must end with what the space holds.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from memx_server.storage.base import (
    Committed,
    Compacted,
    Delete,
    DeleteSchema,
    Diverged,
    Idempotency,
    Put,
    PutSchema,
    StoreUnavailable,
    Transaction,
)
from memx_server.storage.encoding import decode_entry
from memx_server.storage.redis import RedisStore
from memx_server.storage.redis.commits import CommitRefused
from memx_server.storage.redis.network.topology import Script

from memx_sdk.protocol.cursors import Position
from tests.storage.helpers import WRITER, changes_of, seen, whole_log
from tests.storage.redis_helpers import opened
from tests.support.redis_server import RedisServer, newest_redis

KEYS = ("a", "b", "c", "d")
NEVER = 10**9
HOUR = 3_600_000

BREAKS_OFF = """
local BREAK_AT, done = %d, 0
local WRITES = {XADD = 1, XDEL = 1, XTRIM = 1, HSET = 1, HDEL = 1, HINCRBY = 1, SET = 1, DEL = 1, ZADD = 1, ZREM = 1,
  PUBLISH = 1}
local whole = redis
local function break_off(name)
  if WRITES[name] then done = done + 1 end
  if done == BREAK_AT then error({err = 'ERR broken off'}) end
end
local redis = {
  call = function(name, ...) break_off(name) return whole.call(name, ...) end,
  pcall = function(name, ...) break_off(name) return whole.pcall(name, ...) end,
  acl_check_cmd = whole.acl_check_cmd or function() return true end,
}
"""


def transactions(number: int) -> dict[str, list[Transaction]]:
    """One of each kind; each is a list that shares a run."""
    value = b"%d" % number
    token = Idempotency(f"token-{number}", "digest")
    return {
        "overwrite": [Transaction(WRITER, [Put("a", value), Put("b", value, ttl_ms=HOUR)])],
        "make and remove": [Transaction(WRITER, [Delete("b"), Put("c", value)], idempotency=token)],
        "two of a run": [
            Transaction(WRITER, [Put("d", value, ttl_ms=HOUR)]),
            Transaction(WRITER, [Delete("a"), Put("d", value)]),
        ],
        "schemas": [
            Transaction(WRITER, [PutSchema("s*", value)]),
            Transaction(WRITER, [DeleteSchema("t*")]),
        ],
    }


@dataclass
class Observer:
    """Somebody who knows what a space held at a position."""

    position: Position
    state: dict[str, int]


@dataclass
class World:
    """One space, and those who watch it."""

    store: RedisStore
    space: str
    observers: list[Observer] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)

    async def run(self, batch: Sequence[Transaction]) -> None:
        outcomes = await self.store.commit(self.space, batch)
        for outcome in outcomes:
            assert isinstance(outcome, Committed), outcome
            self.acknowledged.append(outcome.position.revision)

    async def observe(self) -> None:
        """Take note of what is there, and from where one would go on."""
        position = await self.store.head(self.space)
        self.observers.append(Observer(position, await self.held()))

    async def held(self) -> dict[str, int]:
        texts = await self.store.read(self.space, KEYS)
        found = [decode_entry(text) for text in texts if text is not None]
        return {entry.key: entry.revision for entry in found}

    async def check_readers(self) -> None:
        """What holds at any time: nobody is given what has not been committed."""
        head = await self.store.head(self.space)
        records = await whole_log(self.store, space=self.space)
        revisions = [record.position.revision for record in records]
        assert revisions == sorted(set(revisions))
        assert set(self.acknowledged) <= set(revisions), "an acknowledged write is gone"
        assert max(revisions) <= head.revision
        for key in KEYS:
            history = (await self.store.history(self.space, key, 100)).changes
            told = [seen(change)["revision"] for change in history]
            assert told == sorted(told, reverse=True)
            assert set(told) <= set(revisions), "a history tells what the log does not"

    async def check_all(self) -> None:
        """What holds behind a commit that was not hindered."""
        await self.check_readers()
        held = await self.held()
        assert max(held.values()) <= (await self.store.head(self.space)).revision
        listed = [key for key, _ in (await self.store.list(self.space)).entries]
        assert listed == sorted(held), "the index of keys is wrong"
        for observer in self.observers:
            try:
                records = await whole_log(self.store, observer.position, space=self.space)
            except (Diverged, Compacted):
                continue  # a reset, and a snapshot
            state = dict(observer.state)
            for change in changes_of(records):
                if change.action == "set":
                    state[change.key] = seen(change)["revision"]
                elif change.action in ("delete", "expire"):
                    state.pop(change.key, None)
            assert state == held, "whoever resumes ends elsewhere"


class Explorer:
    """Makes worlds and breaks commits off in them."""

    def __init__(self, store: RedisStore, server: RedisServer) -> None:
        self.store = store
        self.server = server
        self.numbers = itertools.count(1)
        self.commit_script: Script = store._commits._script
        self.repair_script: Script = store._commits._repair

    def break_at(self, *, commit: int = NEVER, repair: int = NEVER) -> None:
        """Let the scripts break off in front of that write of theirs."""
        self.store._commits._script = broken(self.commit_script, commit)
        self.store._commits._repair = broken(self.repair_script, repair)

    async def world(self, *, restarted: bool = False) -> World:
        """A space that holds something of everything, on a Redis that has been restarted since or not."""
        self.break_at()
        world = World(self.store, f"space-{next(self.numbers)}")
        await world.run(
            [
                Transaction(WRITER, [Put("a", b"0", ttl_ms=HOUR), Put("b", b"0")]),
                Transaction(WRITER, [PutSchema("t*", b"{}")]),
            ]
        )
        await world.observe()
        if restarted:  # so that the next commit opens a lineage
            with self.server.client() as client:
                client.hset(self.store._keyspaces.space(world.space).meta, "replid", "another")
        return world

    async def broken_off(self, world: World, batch: Sequence[Transaction], **at: int) -> bool:
        """Whether it was broken off; else it has happened."""
        self.break_at(**at)
        try:
            outcomes = await self.store.commit(world.space, batch)
        except CommitRefused as error:
            if "broken off" not in str(error):
                raise
            return True
        return any(isinstance(outcome, StoreUnavailable) for outcome in outcomes)

    async def recover(self, world: World) -> None:
        """Commit without hindrance, and check everything."""
        self.break_at()
        await world.check_readers()
        await world.run([Transaction(WRITER, [Put("a", b"9")])])
        await world.check_all()
        await world.run([Transaction(WRITER, [Put("c", b"9")])])
        await world.check_all()

    async def explore(self) -> int:
        """Go every way; returns how many there were."""
        ways = 0
        for kind, restarted in itertools.product(transactions(0), (False, True)):
            for first in itertools.count(1):
                world = await self.world(restarted=restarted)
                if not await self.broken_off(world, transactions(1)[kind], commit=first):
                    break
                await self.recover(world)
                ways += 1
                for second in ("repair",) if restarted else SECONDS:
                    ways += await self.explore_behind(kind, first, second, restarted=restarted)
        return ways

    async def explore_behind(self, kind: str, first: int, second: str, *, restarted: bool) -> int:
        """Break off once more, behind a first time."""
        for ways in itertools.count():
            world = await self.world(restarted=restarted)
            assert await self.broken_off(world, transactions(1)[kind], commit=first)
            await world.check_readers()
            at = {"repair": ways + 1} if second == "repair" else {"commit": ways + 1}
            batch = transactions(2)["overwrite" if second == "repair" else second]
            was_broken = await self.broken_off(world, batch, **at)
            await self.recover(world)
            if not was_broken:
                return ways
        raise AssertionError("unreachable")


SECONDS = ("repair", "overwrite", "two of a run")


def broken(script: Script, at: int) -> Script:
    made = copy.copy(script)
    if at != NEVER:
        made.source = (BREAKS_OFF % at).encode() + script.source
        made._digest = hashlib.sha1(made.source, usedforsecurity=False).hexdigest().encode()
    return made


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(newest_redis()) as server:
        yield server


@pytest.fixture
async def explorer(server: RedisServer) -> AsyncIterator[Explorer]:
    async with opened(server) as store:
        yield Explorer(store, server)


async def test_no_way_of_breaking_off_breaks_a_promise(explorer: Explorer) -> None:
    assert await explorer.explore() > 300


WRONG_REPAIRS = {
    "a record above the head stays": (b"XDEL", b"XLEN"),
    "cursors resume over what they did not see": (b"if stands then", b"if false then"),
    "what was written is not listed": (b"call('ZADD', NAMES, 0, name)", b"local _ = name"),
}


@pytest.mark.parametrize("wrong", WRONG_REPAIRS)
async def test_the_explorer_finds_a_repair_that_is_wrong(explorer: Explorer, wrong: str) -> None:
    old, new = WRONG_REPAIRS[wrong]
    script = explorer.repair_script
    assert old in script.source
    script.source = script.source.replace(old, new)
    script._digest = hashlib.sha1(script.source, usedforsecurity=False).hexdigest().encode()
    with pytest.raises((AssertionError, CommitRefused)):
        await explorer.explore()


async def test_the_explorer_finds_the_old_order(explorer: Explorer) -> None:
    """As it was: the head is written before the entries, so that a record may lack its values."""
    script = explorer.commit_script
    early = b"call('HSET', META, 'head', head, 'lineage', lineage, 'replid', replid)\n"
    start = b"empty = empty or #writes == 0\n"
    assert start in script.source
    script.source = script.source.replace(start, early + start)
    with pytest.raises((AssertionError, CommitRefused)):
        await explorer.explore()


def test_every_write_command_is_a_place_to_break_off() -> None:
    used: set[Any] = set()
    for name in ("commit", "repair"):
        source = Script(name).source.decode()
        for part in source.split("call('")[1:]:
            used.add(part.split("'")[0])
    reads = {
        *(
            "TIME",
            "HMGET",
            "XLEN",
            "ZCARD",
            "GETRANGE",
            "HGET",
            "GET",
            "ZSCORE",
            "ZCOUNT",
            "EXISTS",
        ),
        *(
            "ZRANGEBYSCORE",
            "INFO",
            "XREVRANGE",
            "XRANGE",
            "HSTRLEN",
            "HKEYS",
            "HLEN",
            "HGETALL",
            "XINFO",
        ),
    }
    writes = set(re.findall(r"(\w+) = 1", BREAKS_OFF))
    assert used - reads <= writes
