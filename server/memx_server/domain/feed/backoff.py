"""The growing pause before a reset that follows one which did not help."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from memx_server.domain.counters import FeedCounters

_log = logging.getLogger("memx_server")

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_LOGGED_EVERY: Final = 5


class Backoff:
    """Counts the resets since something last went well, and waits longer before each further one.

    One reset is normal: a cursor is too old, a history was lost. When the log then cannot be read
    from the new position either, the next reset will hardly be better, and without a pause a reader
    would do nothing else, thousands of times a second.

    Args:
        counters: Counts the resets that did not help.
        about: The reader, for the server's log.
    """

    __slots__ = ("_about", "_counters", "_fruitless")

    def __init__(self, counters: FeedCounters, about: str) -> None:
        self._counters = counters
        self._about = about
        self._fruitless = -1  # the first one may yet help

    def helped(self) -> None:
        """Note that the log was read, so that the next reset is the first one again."""
        self._fruitless = -1

    async def pause(self) -> None:
        """Wait before a reset: not before the first one, twice as long before each further one."""
        self._fruitless += 1
        if not self._fruitless:
            return
        self._counters.fruitless_resets += 1
        # Capped before it is computed: a counter of thousands is no exponent for a float.
        pause = min(_FIRST_PAUSE * 2 ** min(self._fruitless - 1, 10), _LONGEST_PAUSE)
        if self._fruitless % _LOGGED_EVERY == 1:
            _log.warning(
                "%s has started over %d times, since its log cannot be read; trying again in %.1f s",
                self._about,
                self._fruitless,
                pause,
            )
        # With jitter: the subscribers of a space would otherwise start over together.
        await asyncio.sleep(pause * random.uniform(0.75, 1.0))  # noqa: S311 - jitter, no secret
