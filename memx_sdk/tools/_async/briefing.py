"""The reading of what a briefing is written from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memx_sdk._async.client import AsyncMemxContext
from memx_sdk.collections import is_reserved
from memx_sdk.errors import CompactedError, DivergedError
from memx_sdk.models import Change
from memx_sdk.tools._async.agent_keys import AsyncAgentKeys
from memx_sdk.tools.briefing import render_briefing

_MOST_ENTRIES = 200
_MOST_CHANGES = 500
_MOST_PAGES = 50


class AsyncBriefing:
    """Tells an agent, before each of its turns, what chosen keys hold and what changed since its last one.

    Args:
        context: Whose keys; changes that its own agent made are left out of what changed.
        patterns: Keys and patterns to show.
        max_characters: The budget of the text.
    """

    def __init__(
        self, context: AsyncMemxContext, patterns: Sequence[str], *, max_characters: int = 4000
    ) -> None:
        self.context = context
        self.patterns = tuple(patterns)
        self.max_characters = max_characters
        self.cursor: str | None = None
        self._writer: str | None = None

    async def next(self) -> str:
        """Write the briefing for the turn that begins now; empty when there is nothing to say.

        Raises:
            MemxError: The keys cannot be read.
        """
        cursor = await self.context.cursor()
        changes = await self._changes_since_last_turn()
        entries: dict[str, Any] = {}
        for pattern in self.patterns:
            for entry in await self._keys_of(pattern).entries(pattern, _MOST_ENTRIES):
                entries[entry["key"]] = entry
        self.cursor = cursor
        return render_briefing(list(entries.values()), changes, max_characters=self.max_characters)

    async def _changes_since_last_turn(self) -> list[Any]:
        if self.cursor is None:
            return []
        if self._writer is None:
            self._writer = (await self.context.whoami())["writer"]
        found: list[Any] = []
        for pattern in self.patterns:
            found += [
                change
                for change in await self._changes_of(pattern, self.cursor)
                if change.get("writer") != self._writer
            ]
        return sorted(found, key=lambda change: int(change["revision"]))

    async def _changes_of(self, pattern: str, since: str) -> list[Change]:
        """Read the changes that the agent sees, of the first page that shows any."""
        try:
            for _ in range(_MOST_PAGES):
                page = await self.context.changes(pattern, since=since, limit=_MOST_CHANGES)
                changes = self._keys_of(pattern).visible(page.changes)
                if changes or not page.more:
                    return changes
                since = page.cursor
        except (CompactedError, DivergedError):
            pass  # the entries say what is; only what changed is unknown
        return []

    def _keys_of(self, pattern: str) -> AsyncAgentKeys:
        # Whoever names programs' own records means them; "*" does not.
        return AsyncAgentKeys(self.context, reserved=is_reserved(pattern))
