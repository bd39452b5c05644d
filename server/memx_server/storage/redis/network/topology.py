"""Which Redis to talk to: a single server, one that Sentinels name, or a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from redis.asyncio.connection import RedisSSLContext, parse_url

from memx_server.storage.base import StoreUnavailable
from memx_server.storage.redis.network.client import Command, RedisClient
from memx_server.storage.redis.network.connection import Endpoint, RedisConnection, connect

Place = tuple[str, int]
"""What tells the servers of a cluster apart: host and port."""


class SentCommand(NamedTuple):
    """A command on its way, and the client that it went by."""

    client: RedisClient[RedisConnection]
    reply: asyncio.Future[Any]


class Topology(Protocol):
    """Sends commands to the server that holds a slot, and tells where to listen for its notices.

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

    async def place(self, slot: int) -> Place:
        """Which server tells of ``slot``; raises ``StoreUnavailable``."""

    async def locate(self, place: Place) -> Endpoint:
        """Where that server listens at the moment; raises ``StoreUnavailable``."""

    def close(self) -> None:
        """Close every connection."""


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

    async def place(self, slot: int) -> Place:
        """The one there is."""
        return "", 0

    async def locate(self, place: Place) -> Endpoint:
        """Where the server listens."""
        return await self._primary()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    async def _primary(self) -> Endpoint:
        return self._endpoint


class Sentinel(Standalone):
    """The primary of a service, asked of its Sentinels each time a connection is made.

    Args:
        endpoint: How to introduce oneself to the primary.
        sentinels: Where the Sentinels listen.
        service: The name they know it by.
        timeout: As for ``RedisClient``.
    """

    def __init__(
        self, endpoint: Endpoint, sentinels: Sequence[Endpoint], service: str, timeout: float
    ) -> None:
        super().__init__(endpoint, timeout)
        self._sentinels = list(sentinels)
        self._service = service
        self._timeout = timeout

    async def _primary(self) -> Endpoint:
        reason = "there are none"
        for sentinel in list(self._sentinels):
            try:
                host, port = await self._ask(sentinel)
            except StoreUnavailable as error:
                reason = str(error.args[0])
                # The one that does not answer is asked last the next time.
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)
            else:
                return self._endpoint.at(host, port)
        raise StoreUnavailable(f"no Sentinel names the primary of {self._service!r}: {reason}")

    async def _ask(self, sentinel: Endpoint) -> tuple[str, int]:
        timeout = self._timeout / (2 * len(self._sentinels))
        connection = await connect(sentinel, lambda: RedisConnection(timeout), timeout)
        try:
            answer = await connection.send("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        finally:
            connection.close()
        if isinstance(answer, list):
            return answer[0].decode(), int(answer[1])
        raise StoreUnavailable(
            f"Sentinel at {sentinel}: {answer or 'it does not know the service'}"
        )


async def transact(client: RedisClient[RedisConnection], commands: Sequence[Command]) -> list[Any]:
    """Run commands in MULTI and EXEC over one client; return their replies."""
    replies = await client.calls(("MULTI",), *commands, ("EXEC",))
    results: list[Any] = replies[-1]
    return results


def connect_to(url: str, timeout: float) -> Topology:
    """Choose how to reach what ``url`` names; nothing is connected yet.

    ``redis://``, ``rediss://`` (TLS) and ``unix://`` as redis-py reads them, or
    ``redis+sentinel://host:port,host:port/service/db`` and ``redis+cluster://host:port,host:port``
    (with ``rediss`` the same over TLS).

    Args:
        url: The address, with user, password and TLS options as redis-py takes them.
        timeout: As for ``RedisClient``.

    Raises:
        ValueError: No such URL.
    """
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    if not kind:
        return Standalone(_endpoint(url), timeout)
    rest = url.partition("://")[2]
    seeds, path = _seeds(scheme, rest)
    if kind == "sentinel":
        service, _, db = path.partition("/")
        if not service:
            raise ValueError("name the service: redis+sentinel://host:port,host:port/service")
        primary = Endpoint(**{**vars(seeds[0]), "db": int(db or 0)})
        sentinels = [Endpoint(seed.host, seed.port, tls=seed.tls) for seed in seeds]
        return Sentinel(primary, sentinels, service, timeout)
    if kind == "cluster":
        from memx_server.storage.redis.network.cluster import Cluster

        return Cluster(seeds, timeout)
    raise ValueError(f"unknown kind of Redis URL: {scheme}+{kind}")


def _seeds(scheme: str, rest: str) -> tuple[list[Endpoint], str]:
    """Read the hosts of a URL that names several, and the path behind them."""
    place, _, query = rest.partition("?")
    hosts, _, path = place.partition("/")
    user, at, hosts = hosts.rpartition("@")
    return [_endpoint(f"{scheme}://{user}{at}{host}?{query}") for host in hosts.split(",")], path


def _endpoint(url: str) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        # redis-py would take database 0.
        raise ValueError(f"the database is a number, as in redis://host:6379/0, not {parts.path!r}")
    options: dict[str, Any] = dict(parse_url(url))
    known = {"host", "port", "path", "username", "password", "db"}
    endpoint = Endpoint(**{name: value for name, value in options.items() if name in known})
    if parts.scheme != "rediss":
        return endpoint
    tls = {
        name.removeprefix("ssl_"): value for name, value in options.items() if name[:4] == "ssl_"
    }
    context = RedisSSLContext(**{"cert_reqs": "required", "check_hostname": True, **tls}).get()
    return Endpoint(**{**vars(endpoint), "tls": context})
