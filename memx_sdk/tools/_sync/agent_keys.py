# Generated from memx_sdk/tools/_async/agent_keys.py by tools/unasync.py; change that file, not this one.
"""The keys that agents see: all that an API key opens but for programs' own records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memx_sdk._sync.client import memxContext
from memx_sdk.collections import RESERVED_PREFIX, is_reserved, may_match_reserved
from memx_sdk.errors import ForbiddenError
from memx_sdk.models import Change, Entry

_PAGE = 1000
_ONE_READ = 50


class AgentKeys:
    """Finds keys, entries and changes for an agent.

    Args:
        context: Whose keys.
        reserved: Whether programs' own records are among them.
    """

    def __init__(self, context: memxContext, *, reserved: bool = False) -> None:
        self._context = context
        self.reserved = reserved

    def sees(self, key: str) -> bool:
        """Whether the agent sees a key."""
        return self.reserved or not is_reserved(key)

    def check(self, keys_and_patterns: Iterable[str]) -> None:
        """Refuse names of programs' own records.

        Raises:
            ForbiddenError: One of them is; the text is for a model.
        """
        for name in keys_and_patterns:
            # A pattern that names records of programs starts with the prefix itself; one like ``*``
            # is allowed, and what it matches of them is left out of the result.
            if not self.sees(name):
                raise ForbiddenError(
                    "forbidden",
                    f"keys that start with {RESERVED_PREFIX} hold programs' own records; these tools do not reach them",
                )

    def visible(self, changes: Iterable[Change]) -> list[Change]:
        """Select the changes that the agent sees."""
        return [change for change in changes if self.sees(change.key)]

    def find(self, pattern: str, limit: int) -> list[str]:
        """List the keys that match a pattern, sorted, ``limit`` at the most."""
        if self.reserved or not may_match_reserved(pattern):
            return self._context.keys(pattern, limit=limit)
        # Records of programs may be many, and sort before some of an agent's keys: page by page until there are
        # enough. Mostly there are none, and the first page, no larger than what is wanted, is all.
        found: list[str] = []
        after: str | None = None
        size = limit
        while True:
            page = self._context.key_page(pattern, limit=size, after=after)
            found += [key for key in page.items if not is_reserved(key)]
            after, size = page.next, _PAGE
            if after is None or len(found) >= limit:
                return found[:limit]

    def entries(self, pattern: str, limit: int) -> list[Entry]:
        """Read the entries whose keys match a pattern, sorted by key, ``limit`` at the most."""
        if self.reserved or not may_match_reserved(pattern):
            return self._context.entries(pattern, limit=limit)
        # Only the values of keys that are shown are read: a checkpoint is large.
        keys = self.find(pattern, limit)
        found: list[Entry] = []
        # In pieces, since the values of all keys together may be more than one answer may hold. A
        # key that was deleted since the list was made is simply not there.
        for start in range(0, len(keys), _ONE_READ):
            present: dict[str, Any] = self._context.mget(keys[start : start + _ONE_READ])
            found += [entry for entry in present.values() if entry is not None]
        return found
