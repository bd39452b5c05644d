"""The rights that memX's user in Redis needs, tested when the store is opened and after a refusal."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator

from hiredis import ReplyError
from redis.crc import key_slot

from memx_server.storage.base import StoreUnavailable
from memx_server.storage.redis.advice import advice_on_rights
from memx_server.storage.redis.network.connection import RedisConnection, connect
from memx_server.storage.redis.network.faults import RedisDenied
from memx_server.storage.redis.network.topology import Script, Topology

log = logging.getLogger(__name__)

RIGHTS = (
    "+ping +select +info +time +role +multi +exec +eval +evalsha +exists +get +mget +getrange +set +del +pttl "
    "+pexpire +incrby +hget +hmget +hgetall +hset +hdel +hincrby +hkeys +hlen +hstrlen +xadd +xdel +xlen +xrange "
    "+xrevrange +xtrim +xinfo +zadd +zrem +zcard +zscore +zcount +zrange +zrangebyscore +zrangebylex +zremrangebyscore "
    "+publish +subscribe +unsubscribe"
)
"""What memX sends to Redis, also from within its scripts, as ACL SETUSER takes it."""

DURABILITY_RIGHTS = "+wait +waitaof"
"""What it sends beside that where a write asks for more than memory; Redis before 7.2 has no WAITAOF."""

CLUSTER_RIGHTS = "+cluster +asking +spublish +ssubscribe +sunsubscribe"
"""What it sends to a cluster beside that (the sharded ones where it is of Redis 7 or later)."""

_FOR_NOTICES = frozenset({"&", "publish", "subscribe", "unsubscribe", "spublish", "ssubscribe"})
"""What memX works without, although those who watch hear late."""

_DENIED_COMMAND = re.compile(r"'([a-z|]+)'")
_TEST_AGAIN = 5.0
"""Seconds between two tests while a right is missing."""


class RightsMissing(RedisDenied):
    """A right without which memX writes nothing is missing, so nothing is sent: it could fail half-way."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.detail = (
            f"Redis, the store behind memX, denies memX's user what it needs: {args[0]}; "
            "memX writes again within seconds after it has been given"
        )


class RedisRights:
    """What memX's user may do, as far as it has been tested.

    The rights are taken for given until a test has shown otherwise. ``open`` tests; so does whoever
    meets a refusal, by ``suspect``. While a right is missing, it is tested again every few seconds.

    Args:
        topology: The servers; each has users of its own.
        prefix: What the names of Redis keys and channels start with.
        timeout: Seconds for the test of a subscription.

    Attributes:
        refusal: Why nothing may be written at the moment, if so.
    """

    def __init__(self, topology: Topology, prefix: str, timeout: float) -> None:
        self._topology = topology
        self._prefix = prefix
        self._timeout = timeout
        self._script = Script("rights")
        self._missing: tuple[str, ...] = ()
        self.refusal: StoreUnavailable | None = None
        self._task: asyncio.Task[None] | None = None

    def advice(self) -> Iterator[str]:
        """Say what is missing and what follows from it."""
        if self._missing:
            yield from advice_on_rights(self._words(self._missing), writes=self.refusal is None)

    async def test(self) -> None:
        """Test every right on every server.

        Raises:
            StoreUnavailable: A server does not answer.
        """
        denied: dict[str, None] = {}
        for slot in await self._topology.slots():
            denied |= dict.fromkeys(await self._denied(slot))
        self._note(tuple(denied))

    def suspect(self) -> None:
        """Test again soon, and go on as long as something is missing."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._test_until_given())

    async def close(self) -> None:
        """Stop testing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _test_until_given(self) -> None:
        while True:
            try:
                await self.test()
            except StoreUnavailable:
                pass  # whoever needs the server finds out
            else:
                if not self._missing:
                    return
            await asyncio.sleep(_TEST_AGAIN)

    def _note(self, missing: tuple[str, ...]) -> None:
        if missing == self._missing:
            return
        self._missing = missing
        essential = [each for each in missing if each not in _FOR_NOTICES]
        self.refusal = RightsMissing(self._words(essential)) if essential else None
        if missing:
            for sentence in self.advice():
                log.warning("a right is missing in Redis: %s", sentence)
        else:
            log.info("Redis gives memX's user every right that it needs")

    def _words(self, missing: list[str] | tuple[str, ...]) -> str:
        """Rights as ACL SETUSER takes them."""
        patterns = {"~": f"~{self._prefix}:*", "&": f"&{self._prefix}:*"}
        return " ".join(patterns.get(each) or f"+{each}" for each in missing)

    async def _denied(self, slot: int) -> list[str]:
        """What the server of ``slot`` denies: commands by name, ``~`` for the keys, ``&`` for the channels."""
        base = b"%b:{%b}:rights:" % (self._prefix.encode(), _tag_of(slot))
        denied: list[str] = []

        async def attempt(call: Callable[[], Awaitable[object]]) -> object:
            try:
                return await call()
            except RedisDenied as error:
                denied.append(_denied_right(str(error.args[0])))
            except ReplyError:
                pass  # not a matter of rights: a script that is not known, say
            return None

        topology = self._topology
        keys = [base + name for name in (b"text", b"hash", b"log", b"index")]
        verb = b"SPUBLISH" if topology.sharded else b"PUBLISH"
        await attempt(lambda: topology.call(slot, b"EVALSHA", b"0" * 40, 0))
        await attempt(lambda: topology.call(slot, b"EVAL", b"return 1", 0))
        await attempt(lambda: topology.transact(slot, (b"EXISTS", keys[0])))
        found = await attempt(lambda: self._script.run(topology, slot, keys, [verb, base + b"log"]))
        if isinstance(found, list):
            denied += [each.decode() for each in found]
        await attempt(lambda: self._subscribe(slot, base + b"log"))
        return denied

    async def _subscribe(self, slot: int, channel: bytes) -> None:
        """Subscribe over a connection of its own."""
        endpoint = await self._topology.locate(await self._topology.place(slot))
        timeout = self._timeout
        connection = await connect(endpoint, lambda: RedisConnection(timeout), timeout)
        try:
            verb = b"SSUBSCRIBE" if self._topology.sharded else b"SUBSCRIBE"
            reply = await connection.send(verb, channel)
        finally:
            connection.close()
        if isinstance(reply, ReplyError) and "NOPERM" in str(reply):
            raise RedisDenied(str(reply))


def _denied_right(text: str) -> str:
    """Which right an error outside of a script speaks of."""
    if "channel" in text:
        return "&"
    command = _DENIED_COMMAND.search(text)
    return command[1] if command else "~"


def _tag_of(slot: int) -> bytes:
    """A hash tag that lies in ``slot``; any, where that is 0 and slots do not matter."""
    number = 0
    while slot and key_slot(b"%d" % number) != slot:
        number += 1
    return b"%d" % number
