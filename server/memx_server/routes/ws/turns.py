"""The turns of connections whose input takes longer to parse than its share of a turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary


class Turns:
    """Lets one of those who wait go on in each turn of the event loop, first come, first served.

    However many connections send more than can be parsed at once, all other work waits for one share of them.

    Args:
        loop: The event loop whose turns count.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call ``go_on`` when its turn comes; it may wait again."""
        self._waiting.append(go_on)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._is_scheduled = False
        go_on = self._waiting.popleft()
        try:
            go_on()
        finally:
            # Also where one has failed: the others wait for nothing else.
            self._schedule()


_OF_SERVERS: WeakKeyDictionary[Any, Turns] = WeakKeyDictionary()


def turns_of(server: Any, loop: asyncio.AbstractEventLoop) -> Turns:
    """Return the turns that all connections of a server share.

    Args:
        server: What stands for the server; several may run in a process, each with an event loop of its own.
        loop: Its event loop.
    """
    turns = _OF_SERVERS.get(server)
    if turns is None:
        turns = _OF_SERVERS[server] = Turns(loop)
    return turns
