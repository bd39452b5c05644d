"""The register of a process's connections: how many there may be, and who of their peers has shown an API key."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

from memx_server.routes.asgi import Scope

PEER = "memx.peer"
"""In the ``state`` of a scope: the peer of the connection, where the server keeps a register."""

_LOOKS = 16
"""Connections that are looked at for one that may be closed; a request is under way on the others."""

_TURNED_AWAY = 64
"""Connections above the bound that are kept for a moment, so that their clients learn why they are closed."""


class Closable(Protocol):
    """A connection as the register sees it."""

    def is_busy(self) -> bool:
        """Return whether a request is under way on it."""

    def make_room(self) -> None:
        """Close it, saying why."""


class Peer:
    """The other end of a connection, unknown until a request of it was let in."""

    __slots__ = ("_register", "is_known")

    def __init__(self, register: PeerRegister) -> None:
        self._register = register
        self.is_known = False

    def identified(self) -> None:
        """Note that a request of it has shown an API key that counts."""
        if not self.is_known:
            self.is_known = True
            self._register.forget(self)


class PeerRegister:
    """Bounds the connections of a process, and those of unknown peers among them.

    Anybody who reaches the port can open connections. So they do not lock others out by it: where there is no room, the
    unknown connection that has been open for the longest time makes place, and whoever shows an API key stays.

    Args:
        most: Connections in all.
        most_unknown: Connections of peers that have not shown an API key.
    """

    def __init__(self, most: int, most_unknown: int) -> None:
        self._most = most
        self._most_unknown = most_unknown
        # In the order in which they were opened.
        self._unknown: OrderedDict[Peer, Closable] = OrderedDict()
        self._turned_away: set[Peer] = set()

    @property
    def unknown(self) -> int:
        """The connections of unknown peers."""
        return len(self._unknown)

    def admit(self, peer: Peer, connection: Closable, count: int) -> bool:
        """Register the connection of a new peer.

        Args:
            peer: The peer.
            connection: Its connection.
            count: The connections of the process, with this one.

        Returns:
            Whether there is room for it.
        """
        is_full = count > self._most or len(self._unknown) >= self._most_unknown
        if is_full and not self._make_room():
            return False
        self._unknown[peer] = connection
        return True

    def forget(self, peer: Peer) -> None:
        """Take a peer out: it is known, or gone."""
        self._unknown.pop(peer, None)
        self._turned_away.discard(peer)

    def may_wait(self, peer: Peer) -> bool:
        """Return whether a peer that was not admitted may send its request first, to be told why."""
        if len(self._turned_away) >= _TURNED_AWAY:
            return False
        self._turned_away.add(peer)
        return True

    def _make_room(self) -> bool:
        for _ in range(min(_LOOKS, len(self._unknown))):
            peer, connection = self._unknown.popitem(last=False)
            if not connection.is_busy():
                connection.make_room()
                return True
            # Perhaps its API key is just being looked up.
            self._unknown[peer] = connection
        return False


def note_identified(scope: Scope) -> None:
    """Note that the peer of a request has shown an API key."""
    state: dict[str, Any] | None = scope.get("state")
    if state is not None:
        peer: Peer | None = state.get(PEER)
        if peer is not None:
            peer.identified()
