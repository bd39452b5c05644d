"""The open connections by credential: they end when the API key is revoked or expires."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from memx_server.domain.access import Principal

EXPIRED = "the API key has expired"


class OpenConnections:
    """Every open connection of this process, and how to end it."""

    def __init__(self) -> None:
        self._by_credential: dict[str, set[OpenConnection]] = {}

    @property
    def credentials(self) -> set[str]:
        """The credentials that hold a connection open."""
        return set(self._by_credential)

    def count(self) -> int:
        """Count the open connections."""
        return sum(map(len, self._by_credential.values()))

    def principals(self) -> list[Principal]:
        """List the principals with which connections were opened.

        A credential may be in several: its key's scopes were changed between two of its connections. The
        older ones must be found too, or they would go on with what the key could do before.
        """
        principals = [
            connection.principal
            for connections in self._by_credential.values()
            for connection in connections
        ]
        # By identity: an authenticator returns the same object while nothing about a key has changed.
        return list({id(principal): principal for principal in principals}.values())

    @contextmanager
    def track(self, principal: Principal, end: Callable[[int, str], None]) -> Iterator[None]:
        """Count a connection as open for the length of the context.

        Args:
            principal: Whose it is; when its API key expires, the connection ends.
            end: Ends the connection; called with a WebSocket close code (RFC 6455) and a reason.
        """
        connection = OpenConnection(principal, end)
        connections = self._by_credential.setdefault(principal.credential, set())
        connections.add(connection)
        if principal.expires_at is not None:
            connection.expire_in(principal.expires_at - time.time())
        try:
            yield
        finally:
            connection.forget()
            connections.discard(connection)
            if not connections and self._by_credential.get(principal.credential) is connections:
                del self._by_credential[principal.credential]

    def revoke(self, credential: str, code: int = 4401, reason: str = "revoked") -> int:
        """End every connection of ``credential``.

        Args:
            credential: As in ``Principal.credential``.
            code: 4401 where the API key is void, 4403 where it may no longer do what it did, 1012
                where the client should connect and authenticate again.
            reason: For the client's log.

        Returns:
            How many connections there were.
        """
        # A copy: a connection that ends at once leaves the set.
        connections = list(self._by_credential.get(credential, ()))
        for connection in connections:
            connection.end(code, reason)
        return len(connections)

    def end_all(self, code: int = 1012, reason: str = "the server ends") -> None:
        """End every connection."""
        for credential in self.credentials:
            self.revoke(credential, code, reason)


class OpenConnection:
    """One connection.

    Attributes:
        principal: Whose it is, as of when it was opened.
        end: Ends it.
    """

    __slots__ = ("_timer", "end", "principal")

    _FAR = 24 * 3600.0
    """Seconds; event loops refuse timers that lie far ahead, so a far expiry is set in steps."""

    def __init__(self, principal: Principal, end: Callable[[int, str], None]) -> None:
        self.principal = principal
        self.end = end
        self._timer: asyncio.TimerHandle | None = None

    def expire_in(self, seconds: float) -> None:
        """End the connection when that time has passed."""
        loop = asyncio.get_running_loop()
        if seconds > self._FAR:
            self._timer = loop.call_later(self._FAR, self.expire_in, seconds - self._FAR)
        else:
            self._timer = loop.call_later(max(seconds, 0.0), self.end, 4401, EXPIRED)

    def forget(self) -> None:
        """Drop the timer of a connection that has ended."""
        if self._timer is not None:
            self._timer.cancel()
