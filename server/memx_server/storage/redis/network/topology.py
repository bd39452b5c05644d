"""Topologies: which Redis server holds a slot. A single server; Sentinel and Cluster stand beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from memx_server.storage.redis.network.client import Command, RedisClient
from memx_server.storage.redis.network.connection import Endpoint, RedisConnection

Place = tuple[str, int]
"""What tells the servers of a cluster apart: host and port."""


class SentCommand(NamedTuple):
    """A command on its way, and the client that it went by."""

    client: RedisClient[RedisConnection]
    reply: asyncio.Future[Any]


class Topology(Protocol):
    """Sends commands to the server that holds a slot, and says where to listen for its notices.

    Attributes:
        sharded: Whether notices go by sharded pub/sub (SPUBLISH, SSUBSCRIBE).
    """

    sharded: bool

    async def call(self, slot: int, *command: bytes | str | int) -> Any:
        """Send one command; as ``RedisClient.call``."""

    def begin(self, slot: int, *command: bytes | str | int) -> SentCommand | None:
        """Send one command without waiting; None where something has to be waited for first."""

    async def finish(self, slot: int, sent: SentCommand, *command: bytes | str | int) -> Any:
        """Wait for the reply to a command that was begun; from there on as ``call``."""

    async def transact(self, slot: int, *commands: Command) -> list[Any]:
        """Run commands in MULTI and EXEC; return their replies."""

    async def slots(self) -> Sequence[int]:
        """One slot of each server that is written to; raises ``StoreUnavailable``."""

    async def place(self, slot: int) -> Place:
        """Which server holds ``slot`` and publishes its notices; raises ``StoreUnavailable``."""

    async def locate(self, place: Place) -> Endpoint:
        """Where that server listens at the moment; raises ``StoreUnavailable``."""

    def start(self) -> None:
        """Begin what has to go on in the background, in the event loop."""

    def on_move(self, call: Callable[[], None]) -> None:
        """Have ``call`` called when all commands go to another server than before."""

    async def close(self) -> None:
        """Stop what goes on, and close every connection."""


class Standalone:
    """One server, at a fixed place."""

    sharded = False

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self._endpoint = endpoint
        self._client = RedisClient(self._primary, timeout, lambda: RedisConnection(timeout))

    async def call(self, slot: int, *command: bytes | str | int) -> Any:
        """Send one command; as ``RedisClient.call``."""
        return await self._client.call(*command)

    def begin(self, slot: int, *command: bytes | str | int) -> SentCommand | None:
        """Send one command without waiting; None where there is no connection."""
        reply = self._client.begin(*command)
        return None if reply is None else SentCommand(self._client, reply)

    async def finish(self, slot: int, sent: SentCommand, *command: bytes | str | int) -> Any:
        """Wait for the reply to a command that was begun."""
        return await sent.client.finish(sent.reply)

    async def transact(self, slot: int, *commands: Command) -> list[Any]:
        """Run commands in MULTI and EXEC; return their replies."""
        return await transact(self._client, commands)

    async def slots(self) -> Sequence[int]:
        """Any slot: there is one server."""
        return (0,)

    async def place(self, slot: int) -> Place:
        """The one there is."""
        return "", 0

    async def locate(self, place: Place) -> Endpoint:
        """Where the server listens."""
        return await self._primary()

    def start(self) -> None:
        """Nothing goes on: the server stays where it is."""

    def on_move(self, call: Callable[[], None]) -> None:
        """Never."""

    async def close(self) -> None:
        """Close the connection."""
        self._client.close()

    async def _primary(self) -> Endpoint:
        return self._endpoint


async def transact(client: RedisClient[RedisConnection], commands: Sequence[Command]) -> list[Any]:
    """Run commands in MULTI and EXEC over one client; return their replies."""
    replies = await client.calls(("MULTI",), *commands, ("EXEC",))
    results: list[Any] = replies[-1]
    return results
