"""The rate limit of an API key, kept in the store, so that all workers and servers count together."""

from __future__ import annotations

import time
from typing import Final

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.access import Principal
from memx_server.settings import RateLimit
from memx_server.storage.base import StateStore

_GROUP: Final = "rates"
_MOST_REMEMBERED: Final = 10_000


class RateLimiter:
    """A token bucket for each API key: a request takes a token, and new ones come at the rate.

    A bucket has no windows, so that within any time no more requests pass than a burst and what the
    rate allows in that time.

    Args:
        state: Where the buckets are.
        limit: How many tokens a bucket holds, and how fast new ones come.
    """

    def __init__(self, state: StateStore, limit: RateLimit) -> None:
        self._state = state
        self._limit = limit
        self._interval_us = max(1, round(1_000_000 / limit.per_second))
        # Until when the bucket of a credential is known to be empty: so long the store need not be
        # called, and a client that hammers costs nobody else a round trip. Other servers can only
        # take from the bucket, so this is never too long.
        self._empty_until: dict[str, float] = {}

    async def admit(self, principal: Principal, count: int = 1) -> tuple[int, ProtocolError | None]:
        """Count requests that came together, and let in as many of the first as the limit permits.

        Args:
            principal: Who makes them.
            count: How many there are.

        Returns:
            How many are let in; and ``rate_limited`` for the others, with the seconds to wait, where
            there are any.

        Raises:
            ProtocolError: ``unavailable``.
        """
        credential = principal.credential
        wait = self._empty_until.get(credential, 0.0) - time.monotonic()
        admitted = 0
        if wait <= 0:
            admitted, wait_us = await self._state.take_tokens(
                _GROUP, credential, count, interval_us=self._interval_us, burst=self._limit.burst
            )
            if admitted == count:
                return admitted, None
            wait = wait_us / 1_000_000
            self._remember(credential, time.monotonic() + wait)
        return admitted, ProtocolError(
            "rate_limited",
            f"this API key may make {self._limit.per_second:g} requests a second, "
            f"{self._limit.burst} at once; wait {wait:.1f} s",
            retry_after=round(max(wait, 0.001), 3),
            limit=self._limit.per_second,
        )

    def _remember(self, credential: str, until: float) -> None:
        if len(self._empty_until) >= _MOST_REMEMBERED:
            self._empty_until.clear()
        self._empty_until[credential] = until
