"""One socket to Redis, and the client that keeps one open: what is sent in one turn of the loop leaves as one pipeline.

A long one leaves in parts, so that Redis works on the first commands while the next are being made.
redis-py is used for what is no hot path (URLs, TLS, hash slots). The connection itself is hiredis
on a bare asyncio protocol: per command it costs less than half, and nothing is ever sent twice
behind our back, as redis-py's retries would.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import hiredis

from memx_server.storage.base import StoreUnavailable
from memx_server.storage.redis.network.faults import WRONG_SERVER, fault_of, first_word

_PART_BYTES = 4096
"""About four writes, or fifty reads: one packet each would cost a system call each."""

_Connection = TypeVar("_Connection", bound="RedisConnection")


@dataclass(frozen=True)
class Endpoint:
    """Where a Redis listens and how to introduce oneself to it.

    Attributes:
        path: A Unix socket, in place of host and port.
        primary_only: Whether a server that calls itself a replica (ROLE) is not the one.
    """

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    tls: ssl.SSLContext | None = None
    username: str | None = None
    password: str | None = None
    db: int = 0
    primary_only: bool = False

    def at(self, host: str, port: int) -> Endpoint:
        """The same on another host."""
        return replace(self, host=host, port=port)

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class RedisConnection(asyncio.Protocol):
    """A connection that is open until it breaks or falls silent, and is never reopened.

    Args:
        timeout: Seconds without any sign of life while something is awaited, after which it is cut.
    """

    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._reader = hiredis.Reader()
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self.closed = False

    def send(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """Queue a command for this turn of the loop.

        Returns:
            What becomes the reply. An error is a result too (an exception object), so that nobody
            has to look at replies that do not matter.

        Raises:
            StoreUnavailable: The connection is closed.
        """
        if self.closed:
            raise StoreUnavailable("the connection to Redis is closed")
        if not self._waiting:
            self._heard = self._loop.time()
        self._write(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub means any length
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(reply)
        return reply

    def flush(self) -> None:
        """Let what is queued leave now."""
        if self.closed or self._transport is None or not self._outgoing:
            return
        self._transport.writelines(self._outgoing)
        self._outgoing = []
        self._outgoing_bytes = 0
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(self._timeout, self._watch)

    def close(self, reason: str = "the connection to Redis is closed") -> None:
        """Close at once; whoever waits for a reply gets ``StoreUnavailable``."""
        if self.closed:
            return
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
        if self._watchdog is not None:
            self._watchdog.cancel()
        while self._waiting:
            self._answer(StoreUnavailable(reason))

    def on_reply(self, reply: Any) -> None:
        """Take one reply from the server."""
        if self._waiting:
            self._answer(reply)
        else:
            self.close(f"Redis said something unasked: {reply!r}")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio's call)."""
        self._transport = cast(asyncio.Transport, transport)
        if self.closed:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand on the replies that are complete (asyncio's call)."""
        self._heard = self._loop.time()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self.on_reply(reply)
        except hiredis.ProtocolError as error:
            self.close(f"this is no Redis: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is under way (asyncio's call)."""
        self.close(f"the connection to Redis broke: {exc or 'closed by the server'}")

    def _write(self, packed: bytes) -> None:
        if not self._outgoing:
            self._loop.call_soon(self.flush)
        self._outgoing.append(packed)
        self._outgoing_bytes += len(packed)
        if self._outgoing_bytes >= _PART_BYTES:
            self.flush()

    def _watch(self) -> None:
        self._watchdog = None
        if not self._waiting:
            return
        patience = self._heard + self._timeout - self._loop.time()
        if patience > 0:
            self._watchdog = self._loop.call_later(patience, self._watch)
        else:
            self.close(f"Redis has not answered for {self._timeout:g} s")

    def _answer(self, reply: Any) -> None:
        waiting = self._waiting.popleft()
        if not waiting.done():
            waiting.set_result(reply)


async def connect(
    endpoint: Endpoint, make: Callable[[], _Connection], timeout: float
) -> _Connection:
    """Open a connection, introduce ourselves and hear that the server is ready.

    Args:
        endpoint: Where to connect.
        make: Makes the protocol object.
        timeout: Seconds for all of it.

    Raises:
        StoreUnavailable: It cannot be reached, refuses us, or is still loading its data.
    """
    connection = make()
    try:
        async with asyncio.timeout(timeout):
            await _dial(endpoint, connection)
            await _greet(endpoint, connection)
    except (OSError, TimeoutError) as error:
        connection.close()
        reason = str(error) or f"no answer within {timeout:g} s"
        raise StoreUnavailable(f"Redis at {endpoint}: {reason}") from error
    except BaseException:
        connection.close()
        raise
    return connection


async def _dial(endpoint: Endpoint, connection: RedisConnection) -> None:
    loop = asyncio.get_running_loop()
    if endpoint.path:
        await loop.create_unix_connection(lambda: connection, endpoint.path)
    else:
        await loop.create_connection(
            lambda: connection, endpoint.host, endpoint.port, ssl=endpoint.tls
        )


async def _greet(endpoint: Endpoint, connection: RedisConnection) -> None:
    greetings: list[tuple[bytes | str | int, ...]] = [("PING",)]
    if endpoint.db:
        greetings.insert(0, ("SELECT", endpoint.db))
    if endpoint.password is not None:
        user = () if endpoint.username is None else (endpoint.username,)
        greetings.insert(0, ("AUTH", *user, endpoint.password))
    for reply in [connection.send(*greeting) for greeting in greetings]:
        answer = await reply
        if isinstance(answer, StoreUnavailable):
            raise answer
        if isinstance(answer, Exception):
            raise StoreUnavailable(f"Redis at {endpoint}: {answer}")
    if endpoint.primary_only:
        await check_primary(endpoint, connection)


async def check_primary(endpoint: Endpoint, connection: RedisConnection) -> None:
    """Raise ``StoreUnavailable`` unless the server calls itself a primary."""
    role = await connection.send("ROLE")
    if isinstance(role, Exception) or role[0] != b"master":
        answer = role if isinstance(role, Exception) else f"it is a {role[0].decode()}"
        raise StoreUnavailable(f"Redis at {endpoint} is not the primary: {answer}")


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
