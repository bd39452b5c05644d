"""An agent's message context, kept in memX."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from autogen_core import Component
from autogen_core.model_context import ChatCompletionContext, ChatCompletionContextState
from autogen_core.models import FunctionExecutionResultMessage, LLMMessage
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from autogen_memx.connection import MemxConnection, MemxConnectionConfig
from memx_sdk.collections import RESERVED_PREFIX, ForeignValues, segment

_foreign = ForeignValues(logging.getLogger(__name__), "message")

_message: TypeAdapter[LLMMessage] = TypeAdapter(LLMMessage)


class MemxChatCompletionContextConfig(BaseModel):
    """A message context in an agent's JSON."""

    model_config = ConfigDict(extra="forbid")

    connection: MemxConnectionConfig = MemxConnectionConfig()
    prefix: str = Field(
        description="Names the conversation: its keys are memx:context:<prefix>:00000001 and on."
    )
    buffer_size: int | None = Field(
        default=None, gt=0, description="Show the model only the last so many."
    )


class MemxChatCompletionContext(ChatCompletionContext, Component[MemxChatCompletionContextConfig]):
    """Messages that outlive the process, and that several agents may share and add to at once.

    Messages are programs' own records: agents' tools do not see them. What is no message counts as not there.

    Args:
        prefix: Names the conversation; any text. The keys are ``memx:context:<prefix, encoded>:00000001`` and on.
        buffer_size: Show the model only the last so many messages.
        connection: Where memX is; by default what the environment says.
    """

    component_config_schema = MemxChatCompletionContextConfig
    component_provider_override = "autogen_memx.MemxChatCompletionContext"

    def __init__(
        self,
        prefix: str,
        *,
        buffer_size: int | None = None,
        connection: MemxConnection | None = None,
    ) -> None:
        super().__init__()
        self._prefix = prefix
        # An encoded name holds no colon, so "chat" never matches the keys of "chat:2026-11-27".
        self._keys = f"{RESERVED_PREFIX}context:{segment(prefix)}:"
        self._buffer_size = buffer_size
        self._connection = connection or MemxConnection()

    async def add_message(self, message: LLMMessage) -> None:
        """Add a message behind all that are there.

        Raises:
            MemxError: memX refused it or cannot be reached.
        """
        # The counter gives each message a number of its own, so that agents which add at once lose none. One that
        # is cut off between the two writes leaves a number without a message, which readers pass over.
        context = self._connection.context
        place = await context.increment(f"{self._keys}count", history=False)
        await context.set(
            self._message_key(place.value),
            _message.dump_python(message, mode="json"),
            history=False,
        )

    async def get_messages(self) -> list[LLMMessage]:
        """Read the messages in the order in which they were added.

        Raises:
            MemxError: memX cannot be reached.
        """
        messages = await self._stored()
        if self._buffer_size is not None:
            messages = messages[-self._buffer_size :]
            # Models refuse the results of a call that they are not shown: the cut may fall between the two.
            if messages and isinstance(messages[0], FunctionExecutionResultMessage):
                messages = messages[1:]
        return messages

    async def clear(self) -> None:
        """Delete all messages."""
        context = self._connection.context
        for key in await context.keys(f"{self._keys}*"):
            await context.delete(key)

    async def save_state(self) -> Mapping[str, Any]:
        """Copy the messages, as every AutoGen context does."""
        return ChatCompletionContextState(messages=await self._stored()).model_dump()

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Replace the messages by a copy that ``save_state`` made."""
        await self.clear()
        for message in ChatCompletionContextState.model_validate(state).messages:
            await self.add_message(message)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _stored(self) -> list[LLMMessage]:
        messages: list[LLMMessage] = []
        for entry in await self._connection.context.entries(f"{self._keys}[0-9]*"):
            try:
                messages.append(_message.validate_python(entry.value))
            except ValidationError:
                _foreign.note(entry.key)
        return messages

    def _message_key(self, place: int) -> str:
        return f"{self._keys}{place:08d}"

    def _to_config(self) -> MemxChatCompletionContextConfig:
        return MemxChatCompletionContextConfig(
            connection=self._connection.config,
            prefix=self._prefix,
            buffer_size=self._buffer_size,
        )

    @classmethod
    def _from_config(cls, config: MemxChatCompletionContextConfig) -> MemxChatCompletionContext:
        return cls(
            config.prefix,
            buffer_size=config.buffer_size,
            connection=MemxConnection(config.connection),
        )
