# Generated from memx_sdk/_async/feed/subscription.py by tools/unasync.py; change that file, not this one.
"""Subscriptions: a feed's changes, for an iterator or a callback."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from memx_sdk._sync._concurrency import Worker, call, spawn
from memx_sdk._sync.feed.durable import DurableClaim
from memx_sdk._sync.feed.reader import Reader
from memx_sdk.core.forks import FORKED
from memx_sdk.errors import InvalidRequestError, MemxClosedError, MemxError
from memx_sdk.models import Change, Reset

log = logging.getLogger("memx_sdk")

_CLOSING_SECONDS: Final = 1.0
"""Seconds that ``close`` waits for a callback that is running."""


class Subscription:
    """Changes as they happen, in order and without a gap, over any number of reconnections.

    Iterate over it, or ask with `next`. It starts at the first of these (with a callback: at once),
    and `ready` returns when it is under way. Close it, or use it in a ``with`` statement.

    Args:
        reader: Follows the feed.
        owner: The context; it must live as long as this.
        claim: The claim to its durable name, if it has one.
        auto_ack: Whether asking for the next item acknowledges the one before.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        owner: object,
        claim: DurableClaim | None = None,
        auto_ack: bool = True,
    ) -> None:
        self._reader = reader
        # Held only so that it lives: a context that is collected closes its transport, and the
        # subscription would end with it.
        self._owner = owner
        self._claim = claim
        self._auto_ack = auto_ack
        # With a durable name ``since`` is only where a new name begins; to acknowledge it before
        # anything was received would move an old name back or forth.
        self._cursor = reader.request.since if claim is None else None
        self._worker: Worker | None = None

    @property
    def pattern(self) -> str:
        """The key or pattern that it watches."""
        return self._reader.request.pattern

    @property
    def cursor(self) -> str | None:
        """Where to resume after the last item; None before the start and in a snapshot."""
        return self._reader.passed(self._cursor)

    def ready(self, timeout: float | None = None) -> Self:
        """Return once nothing from now on will be missed, and a snapshot asked for has come.

        Args:
            timeout: Seconds to wait; None waits for ever, also for a server that is away.

        Raises:
            MemxTimeout: The server could not be reached in time.
            RequestError: The server refuses the subscription.
        """
        self._reader.live(timeout)
        return self

    def next(self, timeout: float | None = None) -> Change | Reset:
        """Return the next item.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            MemxTimeout: Nothing came in time; ask again at will.
            MemxClosedError: The subscription or its context was closed.
            TakenOverError: Another subscriber took the durable name over.
            RequestError: The server refuses the subscription for good.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            # To ask for the next item says that the one before is dealt with. In the loop, since a
            # bare position is passed over and may be acknowledged at once, too.
            if self._claim is not None and self._auto_ack:
                self._claim.processed(self._cursor)
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            step = self._reader.next(remaining)
            # Set before the item is returned, but acknowledged only when the next one is asked for:
            # a crash while the caller works on it brings the item again.
            self._cursor = step.cursor
            if step.item is not None:
                return step.item

    def ack(self, change: Change) -> None:
        """Acknowledge ``change`` and all before it: the name's next holder begins behind it.

        Within a transaction only its last change can be acknowledged, in a snapshot none: there
        this does nothing.

        Raises:
            TakenOverError: Another subscriber holds the name now.
        """
        if self._claim is None:
            raise InvalidRequestError(
                "invalid_request", "only a durable subscription can be acknowledged"
            )
        self._claim.acknowledge(change.cursor)

    def close(self) -> None:
        """End it. A callback that is running gets a second to finish. Closing twice is harmless."""
        # First the feed, so that no further change reaches the callback; then the callback that
        # runs; last the name, when nothing more can be acknowledged.
        self._reader.close()
        worker = self._worker
        if worker is not None and worker.is_current():
            return  # from within the callback: the rest is done when that has returned
        if worker is not None and not worker.join(_CLOSING_SECONDS):
            # A callback that hangs must not keep the program from ending. Its change stays
            # unacknowledged. A thread cannot be cancelled and is left.
            worker.cancel()
        if self._claim is not None:
            self._claim.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change | Reset:
        try:
            return self.next()
        except MemxClosedError as error:
            if error.code == FORKED:
                raise  # the feed goes on, in another process: this is no end of it
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pattern!r}, cursor={self.cursor!r})"

    def call_back(
        self,
        callback: Callable[[Change], Any],
        on_error: Callable[[MemxError], Any] | None = None,
    ) -> None:
        """Hand every change to ``callback`` from now on, in the background."""
        self._worker = spawn(f"memx-{self.pattern}", self._deliver, callback, on_error)

    def _deliver(
        self, callback: Callable[[Change], Any], on_error: Callable[[MemxError], Any] | None
    ) -> None:
        try:
            # One after the other, in order: the change before counts as dealt with when the loop
            # asks for the next, so a callback's work is acknowledged when it has returned.
            for item in self:
                if isinstance(item, Change):
                    self._attempt(callback, item)
                else:
                    log.warning("%r starts over from a snapshot: %s", self.pattern, item.reason)
        except MemxError as error:
            if on_error is None:
                log.error("the subscription to %r has ended: %s", self.pattern, error)
            else:
                # Whatever ended the feed, in the background nobody else would hear of it.
                self._attempt(on_error, error)
        finally:
            if self._claim is not None:
                self._claim.close()

    def _attempt(self, function: Callable[[Any], Any], argument: object) -> None:
        try:
            call(function, argument)
        except Exception:
            # A callback that raises does not end the subscription, and its change counts as dealt
            # with: retries are what agents are for.
            log.exception("a callback of the subscription to %r failed", self.pattern)
