"""The saved state of a team or an agent, from which it goes on in another process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from autogen_core import Component, ComponentBase
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python

from autogen_memx.connection import MemxConnection, MemxConnectionConfig, OfContext
from memx_sdk import Entry
from memx_sdk.collections import RESERVED_PREFIX, AsyncRecords, segment


class Saveable(Protocol):
    """A team, an agent, or whatever else saves and loads its state."""

    async def save_state(self) -> Mapping[str, Any]:
        """Return its state."""

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""


class _StateForm:
    """A state as JSON, in an object of its own, so that what another program put there is none."""

    def dump(self, value: Mapping[str, Any]) -> Any:
        """Write a state."""
        # AutoGen 0.6 leaves the dates of messages as they are.
        return {"state": to_jsonable_python(value)}

    def load(self, stored: Any) -> Mapping[str, Any]:
        """Read a state; raises ``TypeError`` or ``KeyError`` where it is none."""
        state = stored["state"]
        if not isinstance(state, dict):
            raise TypeError(type(state).__name__)
        return state


class MemxTeamStateConfig(BaseModel):
    """A place for a team's state, in JSON."""

    model_config = ConfigDict(extra="forbid")

    connection: MemxConnectionConfig = MemxConnectionConfig()
    key: str = Field(description="Names the saved state: its key is memx:team:<key>.")


class MemxTeamState(ComponentBase[MemxTeamStateConfig], Component[MemxTeamStateConfig]):
    """Keeps one saved state under one name, whole or not at all, however large.

    A reader gets the state of one save, never of two; where two save at once, the later one is told.

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
        self._connection = connection or MemxConnection()
        # Plain: the state lies at one key of its own, which others can watch.
        self._records = OfContext(
            self._connection,
            lambda context: AsyncRecords[Mapping[str, Any]](
                context, f"{RESERVED_PREFIX}team", form=_StateForm(), plain=True, noun="saved state"
            ),
        )
        self._revision: int | None = None

    async def save(self, team: Saveable) -> int:
        """Save the state of a team or an agent that is not running.

        Returns:
            The revision of the saved state.

        Raises:
            ConflictError: Another process saved after this one last loaded or saved.
            MemxError: memX refused it or cannot be reached.
        """
        # Without a revision (nothing loaded or saved yet) the last save wins; with one, a process that saved after
        # this one last loaded makes it a conflict.
        self._revision = await self._records.present.put(
            self._name, await team.save_state(), if_revision=self._revision
        )
        return self._revision

    async def load(self, team: Saveable) -> bool:
        """Give a team or an agent the state that was saved last.

        Returns:
            False when none was saved.

        Raises:
            MemxError: memX cannot be reached.
        """
        record = await self._records.present.get(self._name)
        if record is None and await self._take_over():
            record = await self._records.present.get(self._name)
        if record is None:
            return False
        await team.load_state(record.value)
        self._revision = record.revision
        return True

    async def delete(self) -> None:
        """Delete the saved state."""
        await self._records.present.delete(self._name)
        self._revision = None

    async def _take_over(self) -> bool:
        """Bring a state of earlier versions, JSON text in parts that a head lists, into the form of now.

        Returns:
            Whether there was one.
        """
        context = self._connection.context
        head = f"{RESERVED_PREFIX}team:{segment(self._name)}"
        names = _parts(await context.get(head), f"{head}:part:")
        entries = [await context.get(name) for name in names]
        texts = [str(entry.value) for entry in entries if entry is not None]
        if not names or len(texts) < len(names):
            return False
        # Two that do so at once write the same.
        revision = await self._records.present.put(self._name, json.loads("".join(texts)))
        for name in names:
            await context.delete(name)
        left = await context.get(head)
        if left is not None and left.revision != revision:
            await context.delete(head)  # a name that is written otherwise now
        return True

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    def _to_config(self) -> MemxTeamStateConfig:
        return MemxTeamStateConfig(connection=self._connection.config, key=self._name)

    @classmethod
    def _from_config(cls, config: MemxTeamStateConfig) -> MemxTeamState:
        return cls(config.key, MemxConnection(config.connection))


def _parts(head: Entry | None, prefix: str) -> Sequence[str]:
    """Read the keys that a head of earlier versions lists; none where it is no head."""
    parts = head.value.get("parts") if head is not None and isinstance(head.value, dict) else None
    if not isinstance(parts, list):
        return []
    return [name for name in parts if isinstance(name, str) and name.startswith(prefix)]
