"""Shared keys as an AutoGen agent's memory."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

from autogen_core import CancellationToken, Component
from autogen_core.memory import (
    Memory,
    MemoryContent,
    MemoryMimeType,
    MemoryQueryResult,
    UpdateContextResult,
)
from autogen_core.model_context import ChatCompletionContext
from autogen_core.models import UserMessage
from pydantic import BaseModel, ConfigDict, Field

from autogen_memx.connection import MemxConnection, MemxConnectionConfig, until_cancelled
from memx_sdk import Entry, MemxError
from memx_sdk.collections import is_reserved
from memx_sdk.tools import AsyncBriefing

_NOTE_ID = re.compile(r"[0-9a-f]{32}")

_DELETED_AT_ONCE = 50
"""Keys of one transaction."""


class MemxMemoryConfig(BaseModel):
    """A memory in an agent's JSON."""

    model_config = ConfigDict(extra="forbid")

    connection: MemxConnectionConfig = MemxConnectionConfig()
    patterns: list[str] = Field(description="The keys that the agent sees before each turn.")
    notes: str = Field(
        default="notes", description="add() writes under this prefix, clear() empties it."
    )
    max_characters: int = Field(default=4000, ge=500, description="The budget of each turn's text.")


class MemxMemory(Memory, Component[MemxMemoryConfig]):
    """Puts shared keys, and what changed in them since the agent's last turn, before each model call.

    Args:
        patterns: The keys and patterns to show.
        connection: Where memX is; by default what the environment says.
        notes: What is added goes to new keys under this prefix; ``clear`` deletes those and no others.
        max_characters: The budget of the text.
    """

    component_config_schema = MemxMemoryConfig
    component_provider_override = "autogen_memx.MemxMemory"

    def __init__(
        self,
        patterns: Sequence[str],
        connection: MemxConnection | None = None,
        *,
        notes: str = "notes",
        max_characters: int = 4000,
    ) -> None:
        self._patterns = list(patterns)
        self._connection = connection or MemxConnection()
        self._notes = notes
        self._max_characters = max_characters
        self._briefing: AsyncBriefing | None = None

    async def update_context(self, model_context: ChatCompletionContext) -> UpdateContextResult:
        """Add one user message with the shared keys; where memX is away, one that says so.

        What other agents wrote is data, so it is never a system message; several model clients refuse a second one
        anyway.
        """
        try:
            text = await self._next_briefing()
        except MemxError as error:
            text = f"The shared memory cannot be read at the moment ({error.detail})."
        if not text:
            return UpdateContextResult(memories=MemoryQueryResult(results=[]))
        await model_context.add_message(UserMessage(content=text, source="memx"))
        content = MemoryContent(content=text, mime_type=MemoryMimeType.TEXT)
        return UpdateContextResult(memories=MemoryQueryResult(results=[content]))

    async def query(
        self,
        query: str | MemoryContent,
        cancellation_token: CancellationToken | None = None,
        **kwargs: Any,
    ) -> MemoryQueryResult:
        """Find entries whose key or value holds the query's words.

        Args:
            query: A pattern such as ``plan:*`` selects keys; other text is searched for, best match
                first; empty text returns all that the agent sees.
            cancellation_token: Ends the call when cancelled.
            **kwargs: ``limit``, the most results (10).

        Raises:
            MemxError: memX does not answer or does not permit it.
        """
        text = query if isinstance(query, str) else str(query.content)
        limit = int(kwargs.get("limit", 10))
        return await until_cancelled(self._search(text.strip(), limit), cancellation_token)

    async def add(
        self, content: MemoryContent, cancellation_token: CancellationToken | None = None
    ) -> None:
        """Store ``content`` under a new key for all to see.

        Args:
            content: Text, JSON or Markdown; ``metadata["key"]`` names the key if it is there.
            cancellation_token: Ends the call when cancelled.

        Raises:
            TypeError: Images and bytes, which JSON cannot hold.
            MemxError: memX refused it or cannot be reached.
        """
        if not isinstance(content.content, (str, dict)):
            raise TypeError("memX holds JSON: add text or a dict, not images or bytes")
        # The name is made here, so that two that add at once never write the same key.
        metadata = dict(content.metadata or {})
        key = metadata.pop("key", None) or f"{self._notes}:{uuid.uuid4().hex}"
        value = {
            "content": content.content,
            "mime_type": content.serialize_mime_type(content.mime_type),
            "metadata": metadata,
        }
        await until_cancelled(self._connection.context.set(key, value), cancellation_token)

    async def clear(self) -> None:
        """Delete what was added under the ``notes`` prefix; other shared keys stay."""
        context = self._connection.context
        # "notes:2026:..." belongs to a memory whose prefix is "notes:2026", and not to this one.
        keys = [key for key in await context.keys(f"{self._notes}:*") if self._is_note_key(key)]
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            batch = keys[start : start + _DELETED_AT_ONCE]
            await context.txn(then=[{"op": "delete", "key": key} for key in batch])

    async def close(self) -> None:
        """Close the connection."""
        self._briefing = None
        await self._connection.close()

    async def _next_briefing(self) -> str:
        # A briefing holds on to its context. When the connection has opened another one since (a workbench closed
        # it, or a new event loop began), a new briefing continues from the old one's cursor: no change is skipped.
        briefing = self._briefing
        if briefing is None or not self._connection.holds(briefing.context):
            cursor = None if briefing is None else briefing.cursor
            briefing = AsyncBriefing(
                self._connection.context, self._patterns, max_characters=self._max_characters
            )
            briefing.cursor = cursor
            self._briefing = briefing
        return await briefing.next()

    def _is_note_key(self, key: str) -> bool:
        """Whether ``add`` of this memory made a key."""
        return _NOTE_ID.fullmatch(key.removeprefix(f"{self._notes}:")) is not None

    async def _search(self, text: str, limit: int) -> MemoryQueryResult:
        # The entries are read and scored here: memX has no search by words, and an agent's patterns match few keys.
        patterns = [text] if "*" in text else [*self._patterns, f"{self._notes}:*"]
        words = [] if "*" in text else text.casefold().split()
        found: dict[str, tuple[int, Entry]] = {}
        for pattern in patterns:
            for entry in await self._connection.context.entries(pattern):
                if is_reserved(entry.key) and not is_reserved(pattern):
                    continue  # programs' own records, which "*" does not mean
                score = _score(entry, words)
                if score or not words:
                    found[entry.key] = (score, entry)
        best = sorted(found.values(), key=lambda hit: (-hit[0], -hit[1].revision))
        return MemoryQueryResult(results=[_content(entry) for _, entry in best[:limit]])

    def _to_config(self) -> MemxMemoryConfig:
        return MemxMemoryConfig(
            connection=self._connection.config,
            patterns=self._patterns,
            notes=self._notes,
            max_characters=self._max_characters,
        )

    @classmethod
    def _from_config(cls, config: MemxMemoryConfig) -> MemxMemory:
        return cls(
            config.patterns,
            MemxConnection(config.connection),
            notes=config.notes,
            max_characters=config.max_characters,
        )


def _score(entry: Entry, words: Sequence[str]) -> int:
    text = f"{entry.key} {json.dumps(entry.value, ensure_ascii=False)}".casefold()
    return sum(word in text for word in words)


def _is_note(value: Any) -> bool:
    """Whether a value is one that ``add`` stored, and not what another agent put under the prefix."""
    return (
        isinstance(value, dict)
        and set(value) == {"content", "mime_type", "metadata"}
        and isinstance(value["content"], (str, dict))
        and isinstance(value["mime_type"], str)
        and isinstance(value["metadata"], dict)
    )


def _content(entry: Entry) -> MemoryContent:
    about = {"key": entry.key, "revision": entry.revision, "writer": entry.writer, "ts": entry.ts}
    value = entry.value
    if _is_note(value):
        return MemoryContent(
            content=value["content"],
            mime_type=value["mime_type"],
            metadata={**value["metadata"], **about},
        )
    if isinstance(value, dict):
        return MemoryContent(content=value, mime_type=MemoryMimeType.JSON, metadata=about)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    mime_type = MemoryMimeType.TEXT if isinstance(value, str) else MemoryMimeType.JSON
    return MemoryContent(content=text, mime_type=mime_type, metadata=about)
