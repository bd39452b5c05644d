"""How often one API key may ask, counted in the store, so that all workers count together."""

from __future__ import annotations

import time

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.access import Principal
from memx_server.settings import RateLimit
from memx_server.storage.base import StateStore

_GROUP = "rates"
_MOST_REMEMBERED = 10_000


class RateLimiter:
    """Counts requests in windows in which a burst may come, so long that a burst in each is the rate.

    Args:
        state: Where the counters are.
        limit: What is permitted.
    """

    def __init__(self, state: StateStore, limit: RateLimit) -> None:
        self._state = state
        self._limit = limit
        self._window = limit.burst / limit.per_second
        self._exhausted: dict[str, int] = {}

    async def admit(self, principal: Principal, count: int = 1) -> tuple[int, ProtocolError | None]:
        """Count requests that came together, and let in as many of the first as the limit permits.

        Args:
            principal: Who makes them.
            count: How many there are.

        Returns:
            How many are let in; and ``rate_limited`` for the others, with the seconds to wait, where there are any.

        Raises:
            ProtocolError: ``unavailable``.
        """
        credential, now = principal.credential, time.time()
        window = int(now / self._window)
        admitted = 0
        if self._exhausted.get(credential) != window:  # else the store need not be asked
            kept_ms = int(2000 * self._window) + 1
            counted = await self._state.increment(_GROUP, f"{credential}:{window}", kept_ms, count)
            if counted <= self._limit.burst:
                return count, None
            admitted = max(0, count - (counted - self._limit.burst))
            self._remember(credential, window)
        wait = (window + 1) * self._window - now
        return admitted, ProtocolError(
            "rate_limited",
            f"this API key may ask {self._limit.per_second:g} times a second, {self._limit.burst} times at once; "
            f"wait {wait:.1f} s",
            retry_after=round(max(wait, 0.001), 3),
            limit=self._limit.per_second,
        )

    def _remember(self, credential: str, window: int) -> None:
        if len(self._exhausted) >= _MOST_REMEMBERED:
            self._exhausted.clear()
        self._exhausted[credential] = window
