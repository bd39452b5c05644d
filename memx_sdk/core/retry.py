"""The policy by which requests are repeated: when, how often, after how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from memx_sdk.errors import (
    MemxConnectionError,
    MemxError,
    MemxTimeout,
    RateLimitedError,
    UnavailableError,
)

DEFAULT_MAX_RETRIES: Final = 4

_WORTH_REPEATING: Final = (MemxConnectionError, MemxTimeout, RateLimitedError, UnavailableError)
"""Failures that another attempt may mend. Every request may be repeated: a read changes nothing; a
write carries an idempotency key, under which it is applied once however often it comes."""

chance: Final[Callable[[], float]] = random.SystemRandom().random
"""Draws numbers from 0 up to 1; the program's own, drawn after a seed, stay as they would be."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds on repeating a request.

    Attributes:
        max_retries: How many times at the most; 0 for never.
        first_delay: The longest first wait, in seconds; the bound doubles with each repetition.
        longest_delay: Seconds that no wait exceeds, unless the server asks for more.
        longest_patience: A request is not repeated where the server wants a longer wait, in seconds.
        chance: A source of numbers from 0 up to 1.
    """

    max_retries: int = DEFAULT_MAX_RETRIES
    first_delay: float = 0.1
    longest_delay: float = 3.0
    longest_patience: float = 30.0
    chance: Callable[[], float] = chance

    def delay_before(self, attempt: int, error: MemxError) -> float | None:
        """Return the seconds to wait before repeating a request, or None to give up.

        Args:
            attempt: How many repetitions there were, counting this one; from 1.
            error: What the last attempt ended with.
        """
        # A refusal is not repeated, since it would be the same; a rate limit is one by its class,
        # but passes.
        if attempt > self.max_retries or not isinstance(error, _WORTH_REPEATING):
            return None
        # A socket that the server closed with a code was closed for a reason, which the caller of
        # the transport knows how to read.
        if error.extra.get("close_code") is not None:
            return None
        server_delay = getattr(error, "retry_after", None) or 0.0
        # The caller learns at once instead of sleeping for minutes; the error holds the delay.
        if server_delay > self.longest_patience:
            return None
        # Never sooner than the server asks, and scattered behind it.
        return server_delay + self.jitter(attempt)

    def jitter(self, attempt: int) -> float:
        """Draw the seconds to wait before repetition ``attempt``, so that a crowd scatters."""
        # The exponent is bounded as well: 2.0 to a power of thousands, for a feed that has tried
        # all night, is no float any more.
        ceiling: float = min(self.longest_delay, self.first_delay * 2.0 ** min(attempt - 1, 30))
        # At least half of the bound, so that no repetition comes at once; the other half is by
        # chance.
        return ceiling * (0.5 + self.chance() / 2)


CONTENTION: Final = RetryPolicy(first_delay=0.02, longest_delay=1.0)
"""For writes that others were faster than: they are done within a round trip."""
