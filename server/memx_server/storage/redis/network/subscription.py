"""A connection that is subscribed to channels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from memx_server.storage.redis.network.connection import RedisConnection

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
