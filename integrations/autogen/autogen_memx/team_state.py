"""The saved state of a team or an agent, from which it goes on in another process."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from autogen_core import Component, ComponentBase
from pydantic import BaseModel, ConfigDict, Field

from autogen_memx.connection import MemxConnection, MemxConnectionConfig
from memx_sdk import Entry
from memx_sdk.collections import RESERVED_PREFIX, ForeignValues, segment

_foreign = ForeignValues(logging.getLogger(__name__), "saved state")

_PART_CHARACTERS = 200_000
"""Even where each character is escaped, a part stays below the limit of 1 MiB for a value."""


class Saveable(Protocol):
    """A team, an agent, or whatever else saves and loads its state."""

    async def save_state(self) -> Mapping[str, Any]:
        """Return its state."""

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""


class MemxTeamStateConfig(BaseModel):
    """A place for a team's state, in JSON."""

    model_config = ConfigDict(extra="forbid")

    connection: MemxConnectionConfig = MemxConnectionConfig()
    key: str = Field(description="Names the saved state: its key is memx:team:<key>.")


class MemxTeamState(ComponentBase[MemxTeamStateConfig], Component[MemxTeamStateConfig]):
    """Keeps one saved state under one name, whole or not at all, however large.

    The state is JSON text in parts, each a key of its own. The key that names the state is its head: it lists the
    parts. A save writes new parts first and then replaces the head by one conditional write, so a reader finds the
    parts of one save, never of two; whoever saved in between makes the write fail, and nothing of it stays.

    Args:
        key: Names the state; any text. It is kept under ``memx:team:<key, encoded>``, one of programs' own records,
            which agents' tools do not see.
        connection: Where memX is; by default what the environment says.
    """

    component_type = "team_state"
    component_config_schema = MemxTeamStateConfig
    component_provider_override = "autogen_memx.MemxTeamState"

    def __init__(self, key: str, connection: MemxConnection | None = None) -> None:
        self._name = key
        self._key = f"{RESERVED_PREFIX}team:{segment(key)}"
        self._connection = connection or MemxConnection()
        self._revision: int | None = None

    async def save(self, team: Saveable) -> int:
        """Save the state of a team or an agent that is not running.

        Returns:
            The revision of the saved state.

        Raises:
            ConflictError: Another process saved after this one last loaded or saved.
            MemxError: memX refused it or cannot be reached.
        """
        text = json.dumps(await team.save_state())
        context = self._connection.context
        before = await context.get(self._key)
        # Each save has part names of its own: one that is cut off here leaves parts that no head names, and
        # disturbs neither readers nor the next save.
        version = uuid.uuid4().hex
        parts = [text[i : i + _PART_CHARACTERS] for i in range(0, len(text), _PART_CHARACTERS)]
        names = [f"{self._key}:part:{version}:{number:06d}" for number in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            await context.set(name, part, history=False)
        # The commit. Without a revision (nothing loaded or saved yet) the last save wins; with one, a process that
        # saved after this one last loaded makes it a conflict.
        try:
            saved = await context.set(
                self._key, {"parts": names}, if_revision=self._revision, reason="team state saved"
            )
        except BaseException:
            await self._delete(names)
            raise
        self._revision = saved.revision
        # A reader that has just read the old head may miss these parts now; load() then reads the new head.
        await self._delete(_parts(before))
        return saved.revision

    async def load(self, team: Saveable) -> bool:
        """Give a team or an agent the state that was saved last.

        Returns:
            False when none was saved.

        Raises:
            MemxError: memX cannot be reached.
        """
        context = self._connection.context
        while True:
            entry = await context.get(self._key)
            names = _parts(entry)
            if entry is None or not names:
                return False
            parts = await self._read(names)
            if parts is not None:
                break  # else another process has just saved and removed them
        await team.load_state(json.loads("".join(parts)))
        self._revision = entry.revision
        return True

    async def delete(self) -> None:
        """Delete the saved state."""
        context = self._connection.context
        names = _parts(await context.get(self._key))
        await context.delete(self._key)
        await self._delete(names)
        self._revision = None

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _read(self, names: list[str]) -> list[str] | None:
        entries = [await self._connection.context.get(name) for name in names]
        texts = [str(entry.value) for entry in entries if entry is not None]
        return texts if len(texts) == len(names) else None

    async def _delete(self, names: list[str]) -> None:
        for name in names:
            await self._connection.context.delete(name)

    def _to_config(self) -> MemxTeamStateConfig:
        return MemxTeamStateConfig(connection=self._connection.config, key=self._name)

    @classmethod
    def _from_config(cls, config: MemxTeamStateConfig) -> MemxTeamState:
        return cls(config.key, MemxConnection(config.connection))


def _parts(entry: Entry | None) -> list[str]:
    """Read the keys of a head's parts; none where the key holds no head."""
    if entry is None:
        return []
    parts = entry.value.get("parts") if isinstance(entry.value, dict) else None
    if not isinstance(parts, list) or not all(
        isinstance(name, str) and name.startswith(f"{entry.key}:part:") for name in parts
    ):
        _foreign.note(entry.key)
        return []
    return parts
