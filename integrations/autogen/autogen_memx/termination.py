"""A termination condition: a team's run ends when a shared key holds a value."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from autogen_agentchat.base import TerminatedException, TerminationCondition
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, StopMessage
from autogen_core import Component
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from autogen_memx.connection import MemxConnection, MemxConnectionConfig
from memx_sdk import AsyncMemxContext, Change, MemxError
from memx_sdk.tools.json_value import one_line

log = logging.getLogger(__name__)


class MemxTerminationConfig(BaseModel):
    """A termination condition in a team's JSON."""

    model_config = ConfigDict(extra="forbid")

    connection: MemxConnectionConfig = MemxConnectionConfig()
    key: str
    member: list[str | int] = Field(
        default=[], description="The path to the member of the value that counts."
    )
    equals: JsonValue = Field(
        default=None, description="What it must equal; without it, that it exists."
    )
    needs_value: bool = Field(default=False, description="Whether equals counts.")


_ANYTHING = object()

_LONGEST_WAIT = 2.0
"""Seconds for which a memX that is away may hold up a message of the team."""


class MemxTermination(TerminationCondition, Component[MemxTerminationConfig]):
    """Ends a run once a shared key holds a value, or has held it, whoever wrote it.

    The team checks its conditions after each message: the key is read then, and what it held in between has been
    pushed. A memX that is away neither ends nor fails the run.

    Args:
        key: The key to watch.
        equals: The value that ends the run; without it any value does.
        member: The member of the value that counts: names and indexes on the way to it.
        connection: Where memX is; by default what the environment says.
    """

    component_config_schema = MemxTerminationConfig
    component_provider_override = "autogen_memx.MemxTermination"

    def __init__(
        self,
        key: str,
        equals: Any = _ANYTHING,
        *,
        member: Sequence[str | int] = (),
        connection: MemxConnection | None = None,
    ) -> None:
        self._key = key
        self._equals = equals
        self._member = tuple(member)
        self._connection = connection or MemxConnection()
        self._subscription: Any = None
        self._context: AsyncMemxContext | None = None  # the subscription ends with it
        self._met_by: str | None = None
        self._terminated = False

    @property
    def terminated(self) -> bool:
        """Whether the condition has ended a run and was not reset."""
        return self._terminated

    async def __call__(
        self, messages: Sequence[BaseAgentEvent | BaseChatMessage]
    ) -> StopMessage | None:
        """Return the message that stops the team if the condition is met.

        Raises:
            TerminatedException: It has ended a run and was not reset.
        """
        if self._terminated:
            raise TerminatedException("Termination condition has already been reached")
        # A subscription reconnects by itself and loses nothing. Only a context that was closed (by another component
        # of the connection) or an event loop that ended takes it along, and then it is begun again.
        if self._subscription is None or not self._connection.holds(self._context):
            await self._begin()
        # What was pushed may have been deleted again; what the key holds may not have been pushed yet, since a
        # subscription that reconnects pauses between its attempts. So both count.
        if self._met_by is None:
            await self._look()
        if self._met_by is None:
            return None
        self._terminated = True
        return StopMessage(
            content=f"{self._key} was met by {self._met_by}", source="MemxTermination"
        )

    async def reset(self) -> None:
        """Forget what was met; the next call reads the key again."""
        self._terminated = False
        self._met_by = None
        subscription, self._subscription = self._subscription, None
        if subscription is not None and self._connection.holds(self._context):
            await subscription.close()

    async def close(self) -> None:
        """Stop watching and close the connection."""
        await self.reset()
        await self._connection.close()

    async def _begin(self) -> None:
        # Subscribe, then read: a value that is written in between is seen by the subscription. The other way
        # round it would be missed. A condition that cannot be watched now is begun again at the next message.
        subscription = None
        try:
            context = self._connection.context
            subscription = context.subscribe(self._key, self._check_change)
            await subscription.ready(timeout=_LONGEST_WAIT)
        except MemxError as error:
            log.warning("the termination condition on %s cannot be watched: %s", self._key, error)
            if subscription is not None:
                await subscription.close()
            return
        self._subscription = subscription
        self._context = context

    async def _look(self) -> None:
        if self._subscription is None:
            return  # memX is away, which has just been logged
        try:
            entry = await asyncio.wait_for(self._connection.context.get(self._key), _LONGEST_WAIT)
        except (MemxError, TimeoutError) as error:
            log.warning("the termination condition on %s cannot be read: %s", self._key, error)
            return
        if entry is not None:
            self._check(entry.value, entry.writer)

    def _check_change(self, change: Change) -> None:
        if change.get("action") == "set":
            self._check(change.value, change.writer)

    def _check(self, value: Any, writer: str) -> None:
        try:
            for step in self._member:
                value = value[step]
        except (KeyError, IndexError, TypeError):
            return
        if self._equals is _ANYTHING or value == self._equals:
            # The name goes into a message that other agents of the team may read: nothing in it begins a new line.
            self._met_by = one_line(writer)[1:-1]

    def _to_config(self) -> MemxTerminationConfig:
        needs_value = self._equals is not _ANYTHING
        return MemxTerminationConfig(
            connection=self._connection.config,
            key=self._key,
            member=list(self._member),
            equals=self._equals if needs_value else None,
            needs_value=needs_value,
        )

    @classmethod
    def _from_config(cls, config: MemxTerminationConfig) -> MemxTermination:
        return cls(
            config.key,
            config.equals if config.needs_value else _ANYTHING,
            member=config.member,
            connection=MemxConnection(config.connection),
        )
