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

    async def admit(self, principal: Principal) -> None:
        """Count a request.

        Raises:
            ProtocolError: ``rate_limited``, with the seconds to wait; ``unavailable``.
        """
        credential, now = principal.credential, time.time()
        window = int(now / self._window)
        if self._exhausted.get(credential) != window:  # else the store need not be asked
            kept_ms = int(2000 * self._window) + 1
            count = await self._state.increment(_GROUP, f"{credential}:{window}", kept_ms)
            if count <= self._limit.burst:
                return
            self._remember(credential, window)
        wait = (window + 1) * self._window - now
        raise ProtocolError(
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
