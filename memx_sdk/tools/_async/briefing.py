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
        # Taken before anything is read: what is written meanwhile is shown as an entry already and
        # again as a change of the next turn. Taken afterwards it would be shown in neither.
        cursor = await self.context.cursor()
        changes = await self._changes_since_last_turn()
        entries: dict[str, Any] = {}
        for pattern in self.patterns:
            for entry in await self._keys_of(pattern).entries(pattern, _MOST_ENTRIES):
                entries[entry["key"]] = entry
        # Moved only when everything was read: after an error the next turn tells of the same
        # changes.
        self.cursor = cursor
        return render_briefing(list(entries.values()), changes, max_characters=self.max_characters)

    async def _changes_since_last_turn(self) -> list[Any]:
        # The first turn: the entries say all, and nothing is old enough to have changed.
        if self.cursor is None:
            return []
        if self._writer is None:
            # Asked for once: only the server knows under which name this API key and agent write.
            self._writer = (await self.context.whoami())["writer"]
        found: list[Any] = []
        for pattern in self.patterns:
            found += [
                change
                for change in await self._changes_of(pattern, self.cursor)
                if change.get("writer") != self._writer
            ]
        # Patterns were read one after the other; the revision puts their changes into the order in
        # which they happened.
        return sorted(found, key=lambda change: int(change["revision"]))

    async def _changes_of(self, pattern: str, since: str) -> list[Change]:
        """Read the changes that the agent sees, of the first page that shows any."""
        try:
            for _ in range(_MOST_PAGES):
                page = await self.context.changes(pattern, since=since, limit=_MOST_CHANGES)
                changes = self._keys_of(pattern).visible(page.changes)
                # A page of records of programs shows nothing, so the next one is read, up to a
                # bound. What lies behind the first page that shows something is left: the entries
                # have the newest values anyway.
                if changes or not page.more:
                    return changes
                since = page.cursor
        except (CompactedError, DivergedError):
            pass  # the entries say what is; only what changed is unknown
        return []

    def _keys_of(self, pattern: str) -> AsyncAgentKeys:
        # Whoever names programs' own records means them; "*" does not.
        return AsyncAgentKeys(self.context, reserved=is_reserved(pattern))
