"""The notice of values that are none of a collection's records."""

from __future__ import annotations

import logging

_MOST_NOTED = 1000


class ForeignValues:
    """The notice of values that are none of an adapter's records, each key logged once.

    Keys are open to whoever has an API key for them. What somebody else put among the records counts as not there,
    so that one value breaks no reader; the log says where it is.

    Args:
        log: Where to write.
        noun: What the values should be, for example ``message``.
    """

    def __init__(self, log: logging.Logger, noun: str) -> None:
        self._log = log
        self._noun = noun
        self._noted: set[str] = set()

    def note(self, key: str) -> None:
        """Log that a key holds something else; not again for the same key, nor for ever more keys."""
        if key not in self._noted and len(self._noted) < _MOST_NOTED:
            self._noted.add(key)
            self._log.warning("%r holds no %s, so it counts as not there", key, self._noun)
