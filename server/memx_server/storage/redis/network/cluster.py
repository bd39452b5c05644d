"""A Redis Cluster: every space is in one slot, and the server of a slot may change at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hiredis import ReplyError

from memx_server.storage.base import StoreUnavailable
from memx_server.storage.redis.network.connection import (
    Command,
    Endpoint,
    RedisClient,
    RedisConnection,
)
from memx_server.storage.redis.network.faults import SlotMoving
from memx_server.storage.redis.network.topology import Place, SentCommand, transact

_REDIRECTIONS = 4
_MAP_STANDS = 0.1
"""Seconds for which a map of the slots is not read again."""


class Cluster:
    """Sends each command to the server that holds its slot, following the cluster's redirections.

    Args:
        seeds: Servers to ask for the others.
        timeout: As for ``RedisClient``.
    """

    sharded = False

    def __init__(self, seeds: Sequence[Endpoint], timeout: float) -> None:
        self._seeds = [(seed.host, seed.port) for seed in seeds]
        self._identity = seeds[0]
        self._timeout = timeout
        self._clients: dict[Place, RedisClient[RedisConnection]] = {}
        self._owners: list[tuple[int, int, Place]] = []
        self._mapping = asyncio.Lock()
        self._mapped_at = float("-inf")
        self._doubtful = True

    async def call(self, slot: int, *command: bytes | str | int) -> Any:
        """Send one command; as ``RedisClient.call``."""
        return await self._follow(slot, lambda client: client.call(*command), command)

    def begin(self, slot: int, *command: bytes | str | int) -> SentCommand | None:
        """Send one command without waiting; None where map or connection have to be made first."""
        if self._doubtful:
            return None
        try:
            client = self._client(self._owner(slot))
        except StoreUnavailable:
            return None
        reply = client.begin(*command)
        return None if reply is None else SentCommand(client, reply)

    async def finish(self, slot: int, sent: SentCommand, *command: bytes | str | int) -> Any:
        """Wait for the reply to a command that was begun; from there on as ``call``."""
        begun: list[SentCommand] = [sent]

        def go_on(client: RedisClient[RedisConnection]) -> Awaitable[Any]:
            return sent.client.finish(begun.pop().reply) if begun else client.call(*command)

        return await self._follow(slot, go_on, command)

    async def transact(self, slot: int, *commands: Command) -> list[Any]:
        """Run commands in MULTI and EXEC; return their replies.

        They cannot follow a slot that is moving: ASKING holds for one command, and not within MULTI.
        """
        replies: list[Any] = await self._follow(slot, lambda client: transact(client, commands))
        return replies

    async def slots(self) -> Sequence[int]:
        """The first slot of each server."""
        await self._map()
        return list({place: first for first, _, place in self._owners}.values())

    async def place(self, slot: int) -> Place:
        """The server that holds ``slot`` at the moment."""
        await self._map()
        return self._owner(slot)

    async def locate(self, place: Place) -> Endpoint:
        """Where it listens."""
        return self._identity.at(*place)

    def start(self) -> None:
        """Nothing goes on: a redirection says that a slot has moved."""

    def on_move(self, call: Callable[[], None]) -> None:
        """Never: slots move one by one, and a server that loses one cuts its subscribers off."""

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            client.close()

    async def _follow(
        self,
        slot: int,
        send: Callable[[RedisClient[RedisConnection]], Awaitable[Any]],
        command: Command | None = None,
    ) -> Any:
        """Send to the server of ``slot``, wherever the cluster redirects us.

        Args:
            slot: Where the keys are.
            send: Sends to a server.
            command: The same once more, where a server that is still taking over the slot can be asked for it.
        """
        if self._doubtful:
            await self._map()
        address = self._owner(slot)
        for _ in range(_REDIRECTIONS):
            try:
                return await send(self._client(address))
            except StoreUnavailable:
                # The next caller looks whether the slot has a new server by then.
                self._doubtful = True
                raise
            except ReplyError as error:
                word, _, rest = str(error).partition(" ")
                if word not in ("ASK", "MOVED"):
                    raise
                address = _address(rest.partition(" ")[2], address[0])
                if word == "MOVED":
                    await self._map()
                elif command is None:
                    raise SlotMoving(str(error)) from None
                else:
                    # The key has moved on, or is to be made there; the slot itself is not there yet, so the
                    # map stays as it is. For a script all of its keys have to be there: else TRYAGAIN.
                    replies = await self._client(address).calls(("ASKING",), command)
                    return replies[-1]
        raise StoreUnavailable("the cluster sends us in circles")

    def _owner(self, slot: int) -> Place:
        for first, last, address in self._owners:
            if first <= slot <= last:
                return address
        raise StoreUnavailable(f"no server of the cluster holds slot {slot}")

    def _client(self, address: Place) -> RedisClient[RedisConnection]:
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = RedisClient(
                lambda: self.locate(address), self._timeout, lambda: RedisConnection(self._timeout)
            )
        return client

    async def _map(self) -> None:
        """Learn which server holds which slots, unless that was done just now."""
        loop = asyncio.get_running_loop()
        async with self._mapping:
            if self._owners and loop.time() < self._mapped_at + _MAP_STANDS:
                return
            reason = "there are none"
            known = dict.fromkeys([*self._clients, *self._seeds])
            # Those who answer first, so that one that is stalled does not hold up the rest.
            for address in sorted(known, key=lambda at: not self._client(at).connected):
                try:
                    await self._read_map(address)
                except (StoreUnavailable, ReplyError) as error:
                    reason = str(error.args[0])
                else:
                    self._mapped_at, self._doubtful = loop.time(), False
                    return
            raise StoreUnavailable(f"no server of the cluster lists its slots: {reason}")

    async def _read_map(self, address: Place) -> None:
        client = self._client(address)
        ranges = await client.call("CLUSTER", "SLOTS")
        info = await client.call("INFO", "server")
        self.sharded = int(info.partition(b"redis_version:")[2].partition(b".")[0]) >= 7
        self._owners = [
            (first, last, (owner[0].decode() or address[0], owner[1]))
            for first, last, owner, *_ in ranges
        ]


def _address(text: str, sender: str) -> Place:
    """Read ``host:port``; an empty host stands for the sender's."""
    host, _, port = text.rpartition(":")
    return host or sender, int(port)
