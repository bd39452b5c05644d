"""The decisions about a broken stream: whether to open it again, and how soon. The caller waits."""

from __future__ import annotations

from typing import Final

from memx_sdk.core.retry import RetryPolicy
from memx_sdk.errors import (
    BadAnswerError,
    MemxClosedError,
    MemxError,
    RateLimitedError,
    RequestError,
    error_from,
)
from memx_sdk.protocol.errors import STATUS_BY_CODE

RECONNECTING: Final = RetryPolicy(first_delay=0.05, longest_delay=5.0)
"""The delays between attempts; there is no end to them, for a feed is to survive any outage."""

_REFUSING_CLOSE_CODES: Final = range(4400, 4500)
"""Close codes that stand for the HTTP status 4000 below them."""


def refusal(error: MemxError, *, established: bool) -> MemxError | None:
    """Return the error that ends a subscription for good, or None where trying again may help.

    A server that is away, overloaded or restarting may come back; a key that is unknown or a
    request that is malformed stays so.

    Args:
        error: Why there is no stream.
        established: There was one before. Then a foreign answer is a proxy's, for the time being;
            otherwise the address is wrong.
    """
    error = _as_refusal(error)
    # A refusal by its class, and yet only a matter of time.
    if isinstance(error, RateLimitedError):
        return None
    # A closed error is in it for a transport that was closed under the reader: no stream will ever
    # open again.
    if isinstance(error, RequestError | MemxClosedError):
        return error
    # The first answer decides: from a stranger it means a wrong address. Later it is a proxy's page
    # while the server restarts.
    if isinstance(error, BadAnswerError) and not established:
        return error
    return None


def _as_refusal(error: MemxError) -> MemxError:
    """Read what a server could only say by closing the socket: ``code: detail`` as the reason."""
    # An open WebSocket has no status any more. The server closes it with 4000 and the status, and
    # puts the error's code in front of the reason.
    close_code = error.extra.get("close_code") or 0
    if close_code not in _REFUSING_CLOSE_CODES:
        return error
    code, _, detail = error.detail.partition(": ")
    # A proxy that uses such codes writes reasons of its own; what does not begin with a known code
    # is kept whole as the detail.
    answer = (
        {"error": code, "detail": detail} if code in STATUS_BY_CODE else {"detail": error.detail}
    )
    return error_from({**answer, "close_code": close_code}, status=close_code - 4000)


class Backoff:
    """Counts attempts and spaces them: doubling, bounded, jittered so that a crowd scatters.

    Attributes:
        attempts: How many delays were given out since the last ``reset``.
    """

    def __init__(self, policy: RetryPolicy = RECONNECTING) -> None:
        self._policy = policy
        self.attempts = 0

    def next(self, error: MemxError) -> float:
        """Return the seconds to wait before the next attempt, as the server asks or longer."""
        # The server's delay is bounded: a feed has no end to its attempts, so a wrong one must not
        # silence it for hours.
        self.attempts += 1
        # Jitter comes on top of the server's delay: all who were sent away together would otherwise
        # come back together.
        server_delay = float(error.extra.get("retry_after") or 0.0)
        return min(server_delay, self._policy.longest_patience) + self._policy.jitter(self.attempts)

    def reset(self) -> None:
        """Start anew after a stream that worked."""
        self.attempts = 0
