"""Confirmations: waiting until what has been committed is on a replica, or on the disk.

WAIT and WAITAOF block their connection, and commits share one; so they go over connections of their own. Redis
remembers for each connection how far its log of replication had come when the connection was last answered, and
WAIT waits for that point. So a PING behind the reply to a commit, whatever connection that came by, makes WAIT
cover it, and one WAIT covers all commits that have been answered before its PING.
"""

from __future__ import annotations

import asyncio
import logging

from hiredis import ReplyError

from memx_sdk.protocol.durability import Durability
from memx_server.storage.base import StoreUnavailable
from memx_server.storage.redis.network.connection import RedisClient, RedisConnection
from memx_server.storage.redis.network.faults import RedisDenied
from memx_server.storage.redis.network.topology import Place, Topology
from memx_server.storage.redis.rights import DURABILITY_RIGHTS

log = logging.getLogger(__name__)

_ROUNDS_AT_ONCE = 4
"""How many WAITs are under way to one server: what comes while all wait shares the next one."""


class _Lane:
    """Those who wait for the same confirmation of the same server."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[bool]] = []
        self.idle: list[RedisClient[RedisConnection]] = []
        self.rounds = 0


class Confirmations:
    """Waits for replicas and disks.

    Args:
        topology: Where the spaces are.
        patience: Seconds to wait; what is not confirmed by then may still be later.
        timeout: As for ``RedisClient``.
    """

    def __init__(self, topology: Topology, patience: float, timeout: float) -> None:
        self._topology = topology
        self._patience = patience
        self._timeout = timeout
        self._lanes: dict[tuple[Place, Durability], _Lane] = {}
        self._clients: list[RedisClient[RedisConnection]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_said_so = False

    async def confirm(self, slot: int, durability: Durability) -> bool:
        """Wait until all that ``slot``'s server has answered by now is as durable as that; return whether it is."""
        try:
            place = await self._topology.place(slot)
        except StoreUnavailable:
            return False
        lane = self._lanes.setdefault((place, durability), _Lane())
        confirmed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        lane.waiting.append(confirmed)
        if lane.rounds < _ROUNDS_AT_ONCE:
            lane.rounds += 1
            task = asyncio.get_running_loop().create_task(self._work(lane, place, durability))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await confirmed

    async def close(self) -> None:
        """Stop waiting."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            client.close()

    async def _work(self, lane: _Lane, place: Place, durability: Durability) -> None:
        """Send one WAIT after the other as long as somebody waits."""
        client = lane.idle.pop() if lane.idle else self._client(place)
        try:
            while lane.waiting:
                # Whoever comes from now on has been answered after this PING, and takes the next round.
                waiting, lane.waiting = lane.waiting, []
                confirmed = False
                try:
                    confirmed = await self._is_confirmed(client, durability)
                finally:
                    for each in waiting:
                        if not each.done():
                            each.set_result(confirmed)
        finally:
            lane.rounds -= 1
            lane.idle.append(client)

    async def _is_confirmed(
        self, client: RedisClient[RedisConnection], durability: Durability
    ) -> bool:
        milliseconds = round(self._patience * 1000)
        try:
            if durability == "replica":
                replies = await client.calls(("PING",), ("WAIT", 1, milliseconds))
                return int(replies[-1]) >= 1
            replies = await client.calls(("PING",), ("WAITAOF", 1, 0, milliseconds))
            return int(replies[-1][0]) >= 1
        except RedisDenied as error:
            self._say(f"{error.args[0]} (it takes the rights {DURABILITY_RIGHTS})")
        except ReplyError as error:
            self._say(str(error))
        except StoreUnavailable:
            pass  # a server that is away has confirmed nothing, and whoever writes next hears of it
        return False

    def _say(self, why: str) -> None:
        """Tell the operator once: every write that asks would say the same."""
        if not self._has_said_so:
            self._has_said_so = True
            log.warning("Redis cannot confirm what is written: %s", why)

    def _client(self, place: Place) -> RedisClient[RedisConnection]:
        patience = self._timeout + self._patience
        client = RedisClient(
            lambda: self._topology.locate(place), self._timeout, lambda: RedisConnection(patience)
        )
        self._clients.append(client)
        return client
