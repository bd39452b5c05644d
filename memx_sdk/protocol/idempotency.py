"""Idempotency keys: how long they are, and how long a server keeps the result of a write under one."""

from __future__ import annotations

from typing import Final

LONGEST_KEY: Final = 255
"""Printable characters of an idempotency key, at the most."""

RETRY_PREFIX: Final = "memx-retry:"
"""What a key begins with that a client has made for its own retries of one request.

Such a key is of use for as long as the client tries, and no longer. A client that names every write by
one would otherwise make a server keep millions of results for a day.
"""

RETRY_KEPT_SECONDS: Final = 10 * 60
"""How long a server keeps the result of a write whose key has that prefix."""

NAMED_KEPT_SECONDS: Final = 24 * 60 * 60
"""How long it keeps the result of a write under any other key."""


def kept_seconds(key: str) -> int:
    """Return how long a server keeps the result of a write under ``key``."""
    return RETRY_KEPT_SECONDS if key.startswith(RETRY_PREFIX) else NAMED_KEPT_SECONDS
