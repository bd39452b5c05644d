"""A connection to one Redis that is made when it is needed and made anew after it broke."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from memx_server.storage.base import StoreUnavailable
from memx_server.storage.redis.network.connection import Endpoint, RedisConnection, connect
from memx_server.storage.redis.network.faults import WRONG_SERVER, fault_of, first_word

log = logging.getLogger(__name__)

Command = tuple[bytes | str | int, ...]

C = TypeVar("C", bound=RedisConnection)

_FAILURE_STANDS = 0.05
"""Seconds for which a failed attempt to connect answers for those who ask next."""

_LOG_AGAIN = 60.0
"""Seconds in which the same trouble of a server is logged once."""


class RedisClient(Generic[C]):
    """One server, as its callers see it.

    Args:
        locate: Finds where the server is at the moment, or raises ``StoreUnavailable``.
        timeout: Seconds until a call to a silent server fails; half of it to connect.
        make: Makes the protocol object of a new connection.
        quiet: Whether the log need not hear of a server that cannot be reached.
    """

    def __init__(
        self,
        locate: Callable[[], Awaitable[Endpoint]],
        timeout: float,
        make: Callable[[], C],
        *,
        quiet: bool = False,
    ) -> None:
        self._quiet = quiet
        self._locate = locate
        self._connect_timeout = timeout / 2
        self._make = make
        self._connection: C | None = None
        self._connecting: asyncio.Task[C | StoreUnavailable] | None = None
        self._failure: StoreUnavailable | None = None
        self._failure_stands_until = 0.0
        self._logged_until: dict[str, float] = {}
        self._closed = False

    async def call(self, *command: bytes | str | int) -> Any:
        """Send a command and return its reply; it is never sent twice.

        Raises:
            StoreUnavailable: No answer came, or one that says the server cannot do its work now.
            ReplyError: The server refused the command.
        """
        connection = self._connection
        if connection is None or connection.closed:
            connection = await self.connection()
        reply = await connection.send(*command)
        if isinstance(reply, Exception):
            raise self._fault(reply)
        return reply

    def begin(self, *command: bytes | str | int) -> asyncio.Future[Any] | None:
        """Send a command without waiting.

        Returns:
            What becomes the reply, which may be an error, for ``finish``; None where a connection
            has to be made first.
        """
        connection = self._connection
        if connection is None or connection.closed:
            return None
        return connection.send(*command)

    def flush(self) -> None:
        """Let what was sent leave now, and not at the end of the event loop's turn."""
        if self._connection is not None:
            self._connection.flush()

    async def finish(self, begun: asyncio.Future[Any]) -> Any:
        """Wait for the reply to a command that was begun; as ``call``."""
        reply = await begun
        if isinstance(reply, Exception):
            raise self._fault(reply)
        return reply

    async def calls(self, *commands: Command) -> list[Any]:
        """Send commands in a row, with nothing of ours in between; return their replies."""
        connection = await self.connection()
        replies = [await reply for reply in [connection.send(*command) for command in commands]]
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._fault(reply)
        return replies

    async def connection(self) -> C:
        """Return the connection that all callers share, connecting first where there is none.

        Raises:
            StoreUnavailable: There is no reaching the server.
        """
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        if self._connecting is None:
            if self._failure is not None and loop.time() < self._failure_stands_until:
                raise self._failure.copy()
            self._connecting = loop.create_task(self._connect())
        attempt = self._connecting
        # Not awaited itself: a caller who gives up must not take the connection from the others.
        await asyncio.wait([attempt])
        result = (
            StoreUnavailable("the store is closed") if attempt.cancelled() else attempt.result()
        )
        if isinstance(result, StoreUnavailable):
            raise result.copy()
        return result

    def drop(self, reason: str) -> None:
        """Close the connection, if there is one; the next call makes another."""
        if self._connection is not None:
            self._connection.close(reason)

    @property
    def connected(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._connection is not None and not self._connection.closed

    def close(self) -> None:
        """Give the connection up for good."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()

    async def _connect(self) -> C | StoreUnavailable:
        """Connect; a failure is returned, as nobody may be left to hear it raised."""
        loop = asyncio.get_running_loop()
        try:
            endpoint = await self._locate()
            self._connection = await connect(endpoint, self._make, self._connect_timeout)
        except StoreUnavailable as failure:
            if self._failure is None and not self._quiet:
                log.warning("the store is unavailable: %s", *failure.args)
            self._failure, self._failure_stands_until = failure, loop.time() + _FAILURE_STANDS
            return failure
        finally:
            self._connecting = None
        if self._failure is not None:
            if not self._quiet:
                log.info("the store is available again: %s", endpoint)
            self._failure = None
        return self._connection

    def _fault(self, error: Exception) -> Exception:
        """What to raise for an error that came as a reply."""
        fault = fault_of(error)
        if fault is error:
            return error
        word = first_word(error)
        if word in WRONG_SERVER and self._connection is not None:
            self._connection.close(f"this Redis is not the one to write to: {error}")
        self._log_fault(word, error)
        return fault

    def _log_fault(self, word: str, error: Exception) -> None:
        """Log what keeps the server from its work, once in a while: clients learn only that it is unavailable."""
        now = asyncio.get_running_loop().time()
        if now >= self._logged_until.get(word, 0.0):
            log.warning("the store is unavailable: %s", error)
            self._logged_until[word] = now + _LOG_AGAIN
