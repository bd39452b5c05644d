"""Topologies: which Redis server holds a slot, and the scripts that run there.

A single server is here; Sentinel and Cluster have modules of their own.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, NamedTuple, Protocol

from hiredis import ReplyError

from memx_server.storage.redis.network.connection import (
    Command,
    Endpoint,
    RedisClient,
    RedisConnection,
)

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


_PART = re.compile(r"^--> (\w+)$", re.MULTILINE)
"""A line that stands for another file."""


class Script:
    """One Lua script of ``lua/``; a line ``--> name`` in it stands for the file of that name.

    Args:
        name: The file's name without ending.
        constants: Numbers that the script knows by name.
    """

    def __init__(self, name: str, **constants: int) -> None:
        known = "".join(f"local {name} = {value}\n" for name, value in constants.items())
        self.source = (known + _source(name)).encode()
        self._digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    async def run(
        self,
        topology: Topology,
        slot: int,
        keys: list[bytes],
        arguments: list[bytes | str | int],
        sent: SentCommand | None = None,
    ) -> Any:
        """Run it and return its reply; ``sent`` is what ``begin`` returned, if that came first."""
        command = (b"EVALSHA", self._digest, len(keys), *keys, *arguments)
        try:
            if sent is None:
                return await topology.call(slot, *command)
            return await topology.finish(slot, sent, *command)
        except ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await topology.call(slot, b"EVAL", self.source, len(keys), *keys, *arguments)

    def begin(
        self, topology: Topology, slot: int, keys: list[bytes], arguments: list[bytes | str | int]
    ) -> SentCommand | None:
        """Have it run; as ``Topology.begin``."""
        return topology.begin(slot, b"EVALSHA", self._digest, len(keys), *keys, *arguments)


def _source(name: str) -> str:
    text = (resources.files("memx_server.storage.redis") / "lua" / f"{name}.lua").read_text()
    return _PART.sub(lambda part: _source(part[1]), text)
