"""Pools of few connections each, for programs that have many requests under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import httpx

_POOLS: Final = 8
_UNDER_WAY: Final = 8
"""Requests under way in a pool before another one is opened."""

LIMITS: Final = httpx.Limits(
    max_connections=2 * _UNDER_WAY,
    max_keepalive_connections=2 * _UNDER_WAY,
    keepalive_expiry=4.0,  # servers commonly hang up after 5 s; a request must not meet that
)


class _AsyncPool:
    """One client and a count of its requests under way.

    The count is the length of a list: unlike ``+= 1``, ``append`` and ``pop`` are one step each
    for threads, so no update is lost without a lock.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.under_way: list[None] = []

    @property
    def has_capacity(self) -> bool:
        return len(self.under_way) < _UNDER_WAY


class AsyncHttpPools:
    """Several httpx clients that share the work of one.

    For each request httpx looks at all connections of a pool, and for each of them at all the
    others: with 32 requests under way this took several times as long as the rest. There is one
    pool until more are needed; then all are used by turns, so that each drops its old connections.

    Args:
        open_client: Opens a client with ``LIMITS``.
    """

    def __init__(self, open_client: Callable[[], httpx.AsyncClient]) -> None:
        self._open_client = open_client
        self._pools = [_AsyncPool(open_client())]
        self._turn = 0

    @property
    def first(self) -> httpx.AsyncClient:
        """A client that makes requests as all of them would."""
        return self._pools[0].client

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request once; raises what httpx raises."""
        pool = self._choose()
        # Counted before the request is sent and uncounted in the ``finally``, so that one that
        # fails or is cancelled does not take up capacity for ever.
        pool.under_way.append(None)
        try:
            return await pool.client.send(request)
        finally:
            pool.under_way.pop()

    async def close(self) -> None:
        """Close every connection."""
        for pool in self._pools:
            await pool.client.aclose()

    def _choose(self) -> _AsyncPool:
        # No lock: two threads may choose the same pool, which then has a request more than it
        # should, or open one pool too many. Neither does harm.
        pools = self._pools
        # Begins behind the pool that was used last: by turns each is used often enough to find its
        # expired connections and close them.
        for _ in pools:
            self._turn = (self._turn + 1) % len(pools)
            if pools[self._turn].has_capacity:
                return pools[self._turn]
        if len(pools) < _POOLS:
            pools.append(_AsyncPool(self._open_client()))
            return pools[-1]
        # All pools are full. The request waits inside of httpx for a connection of the pool that
        # has the least to do.
        return min(pools, key=lambda pool: len(pool.under_way))
