"""Notices of commits: one subscribed connection to a server, for all the spaces tailed there."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from hiredis import ReplyError

from memx_server.storage.base import StoreUnavailable, TailListener
from memx_server.storage.redis.commit_codec import record_in_notice
from memx_server.storage.redis.keyspace import Keyspace
from memx_server.storage.redis.network.connection import RedisClient, RedisConnection
from memx_server.storage.redis.network.faults import RedisDenied, fault_of
from memx_server.storage.redis.network.topology import Place, Topology

_PING_EVERY = 2.0
"""Seconds between signs of life asked of a server: its silence may mean that nothing happens."""

_NOTICES = frozenset({b"message", b"smessage"})


class ChannelSubscription(RedisConnection):
    """A connection for subscribing: what is no notice answers a command, in order.

    Args:
        timeout: As for ``RedisConnection``.
        on_notice: Takes the channel and the text of each notice.
    """

    def __init__(self, timeout: float, on_notice: Callable[[bytes, bytes], None]) -> None:
        super().__init__(timeout)
        self._on_notice = on_notice
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and keep asking for signs of life (asyncio's call)."""
        super().connection_made(transport)
        self._loop.call_later(_PING_EVERY, self._ping)

    def on_reply(self, reply: Any) -> None:
        """Take one reply or notice."""
        if isinstance(reply, list) and reply[0] in _NOTICES:
            self._on_notice(reply[1], reply[2])
        else:
            super().on_reply(reply)

    def close(self, reason: str = "the subscription has ended") -> None:
        """Close at once."""
        super().close(reason)
        self.ended.set()

    def _ping(self) -> None:
        if not self.closed:
            self.send("PING")
            self._loop.call_later(_PING_EVERY, self._ping)


log = logging.getLogger(__name__)

_BACKOFF_FIRST, _BACKOFF_MOST = 0.05, 0.8
"""Seconds before the first and at the most before any further attempt to subscribe again."""

_DENIED_AGAIN = 5.0
"""Seconds after which a subscription that the user has no right to is tried again."""


class _Channel:
    """A tailed space: its listeners, and the task that keeps it subscribed."""

    def __init__(self, space: Keyspace) -> None:
        self.space = space
        self.name = space.log
        self.listeners: list[TailListener] = []
        self.subscribed = asyncio.Event()
        self.connection: ChannelSubscription | None = None
        self.task: asyncio.Task[None] | None = None

    def notify(self, call: Callable[[TailListener], None]) -> None:
        """Call every listener; one that fails costs the others nothing."""
        for listener in tuple(self.listeners):
            try:
                call(listener)
            except Exception:
                log.exception("a listener of a space failed")


class PubSub:
    """Keeps the spaces that someone listens to subscribed, through every loss of a connection.

    Args:
        topology: Where the spaces are.
        timeout: Seconds until a silent server counts as lost.
        on_denied: Called where Redis denies memX's user the right to subscribe.
    """

    def __init__(self, topology: Topology, timeout: float, on_denied: Callable[[], None]) -> None:
        self._on_denied = on_denied
        self._topology = topology
        self._timeout = timeout
        self._channels: dict[bytes, _Channel] = {}
        self._clients: dict[Place, RedisClient[ChannelSubscription]] = {}
        topology.on_move(self._drop_connections)

    @property
    def spaces(self) -> Iterable[str]:
        """The spaces that are tailed."""
        return [channel.space.id for channel in self._channels.values()]

    async def add(self, space: Keyspace, listener: TailListener) -> Callable[[], Awaitable[None]]:
        """Pass every commit in ``space`` from now on to ``listener``.

        Returns:
            What stops it.

        Raises:
            StoreUnavailable: The server did not confirm the subscription in time.
        """
        channel = self._channels.get(space.log)
        if channel is None:
            channel = self._channels[space.log] = _Channel(space)
            channel.task = asyncio.create_task(self._keep_subscribed(channel))
        channel.listeners.append(listener)
        stopped = False

        async def stop() -> None:
            nonlocal stopped
            if not stopped:
                stopped = True
                self._remove(channel, listener)

        try:
            async with asyncio.timeout(self._timeout):
                await channel.subscribed.wait()
        except TimeoutError:
            await stop()
            raise StoreUnavailable("the subscription was not confirmed in time") from None
        except BaseException:
            await stop()
            raise
        return stop

    async def close(self) -> None:
        """End every subscription."""
        tasks = [channel.task for channel in self._channels.values() if channel.task]
        self._channels.clear()
        for task in tasks:
            task.cancel()
        for client in self._clients.values():
            client.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop_connections(self) -> None:
        """Subscribe anew: the server is no longer the one that commits go to."""
        for client in self._clients.values():
            client.drop("the primary is another one now")

    def _remove(self, channel: _Channel, listener: TailListener) -> None:
        channel.listeners.remove(listener)
        if channel.listeners or self._channels.get(channel.name) is not channel:
            return
        del self._channels[channel.name]
        if channel.task is not None:
            channel.task.cancel()
        if channel.connection is not None and not channel.connection.closed:
            channel.connection.send(self._verb(b"UNSUBSCRIBE"), channel.name)

    async def _keep_subscribed(self, channel: _Channel) -> None:
        backoff = _BACKOFF_FIRST
        interrupted = False
        while True:
            try:
                await self._subscribe(channel)
            except RedisDenied:
                # Without the right there is nothing to hear, and the position check of the hub has to do.
                self._on_denied()
                channel.subscribed.set()
                interrupted = True
                await asyncio.sleep(_DENIED_AGAIN)
                continue
            except (StoreUnavailable, ReplyError) as error:
                if isinstance(error, ReplyError):
                    log.warning("Redis refuses a subscription: %s", error)
                await asyncio.sleep(backoff * random.uniform(0.5, 1))  # noqa: S311 - no secret
                backoff = min(backoff * 2, _BACKOFF_MOST)
                continue
            channel.subscribed.set()
            if interrupted:
                channel.notify(lambda listener: listener.on_gap())
            backoff = _BACKOFF_FIRST
            if channel.connection is not None:
                await channel.connection.ended.wait()
            channel.subscribed.clear()
            interrupted = True

    async def _subscribe(self, channel: _Channel) -> None:
        place = await self._topology.place(channel.space.slot)
        client = self._clients.get(place)
        if client is None:
            client = self._clients[place] = RedisClient(
                lambda: self._topology.locate(place),
                self._timeout,
                lambda: ChannelSubscription(self._timeout, self._on_notice),
            )
        channel.connection = connection = await client.connection()
        confirmation = await connection.send(self._verb(b"SUBSCRIBE"), channel.name)
        if isinstance(confirmation, Exception):
            raise fault_of(confirmation)

    def _verb(self, verb: bytes) -> bytes:
        return b"S" + verb if self._topology.sharded else verb

    def _on_notice(self, name: bytes, notice: bytes) -> None:
        channel = self._channels.get(name)
        if channel is None:
            return
        try:
            record = record_in_notice(notice)
        except (ValueError, msgspec.DecodeError):
            log.warning("what is no notice came by the channel of a space")
            channel.notify(lambda listener: listener.on_gap())
        else:
            channel.notify(lambda listener: listener.on_record(record))
