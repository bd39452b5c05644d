"""An agent's message context, kept in memX."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from autogen_core import Component
from autogen_core.model_context import ChatCompletionContext, ChatCompletionContextState
from autogen_core.models import FunctionExecutionResultMessage, LLMMessage
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from autogen_memx.connection import MemxConnection, MemxConnectionConfig, OfContext
from memx_sdk.collections import RESERVED_PREFIX, AsyncLog, LogItem

log = logging.getLogger(__name__)

_message: TypeAdapter[LLMMessage] = TypeAdapter(LLMMessage)


class _MessageForm:
    """AutoGen's messages as JSON."""

    def dump(self, value: LLMMessage) -> Any:
        """Write a message."""
        return _message.dump_python(value, mode="json")

    def load(self, stored: Any) -> LLMMessage:
        """Read a message; raises ``ValueError`` where it is none."""
        return _message.validate_python(stored)


class MemxChatCompletionContextConfig(BaseModel):
    """A message context in an agent's JSON."""

    model_config = ConfigDict(extra="forbid")

    connection: MemxConnectionConfig = MemxConnectionConfig()
    prefix: str = Field(
        description="Names the conversation: its keys are under memx:context:<prefix>."
    )
    buffer_size: int | None = Field(
        default=None, gt=0, description="Show the model only the last so many."
    )


class MemxChatCompletionContext(ChatCompletionContext, Component[MemxChatCompletionContextConfig]):
    """Messages that outlive the process, and that several agents may share and add to at once.

    Messages are of any size, and programs' own records: agents' tools do not see them. What is no message counts as
    not there. Where two live objects of the same agent add to one conversation, mostly two sessions that a program
    has given one ``prefix`` by mistake, a warning is logged once.

    Args:
        prefix: Names the conversation; any text. The keys are under ``memx:context:<prefix, encoded>``.
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
        self._buffer_size = buffer_size
        self._connection = connection or MemxConnection()
        self._log = OfContext(
            self._connection,
            lambda context: AsyncLog[LLMMessage](
                context, f"{RESERVED_PREFIX}context", prefix, form=_MessageForm(), noun="message"
            ),
        )
        self._added: set[str] = set()
        self._is_warned = False

    async def add_message(self, message: LLMMessage) -> None:
        """Add a message behind all that are there.

        Raises:
            MemxError: memX refused it or cannot be reached.
        """
        appended = await self._log.present.append([message])
        self._added.update(appended.keys)

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
        """Delete all messages, for every reader at once."""
        await self._log.present.clear()
        self._added.clear()

    async def save_state(self) -> Mapping[str, Any]:
        """Copy the messages, as every AutoGen context does."""
        return ChatCompletionContextState(messages=await self._stored()).model_dump()

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Replace the messages, at once for every reader, by a copy that ``save_state`` made."""
        messages = ChatCompletionContextState.model_validate(state).messages
        rewritten = await self._log.present.rewrite(messages)
        self._added = set(rewritten.keys)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _stored(self) -> list[LLMMessage]:
        items = (await self._log.present.read()).items
        self._look_for_another_session(items)
        return [item.value for item in items]

    def _look_for_another_session(self, items: Sequence[LogItem[LLMMessage]]) -> None:
        """Warn once where somebody of the same name has added between this object's own messages."""
        # What is older than this object's first message is an earlier session that it goes on with.
        mine = [number for number, item in enumerate(items) if item.key in self._added]
        if self._is_warned or not mine:
            return
        writer = items[mine[0]].writer
        since = items[mine[0] :]
        if any(item.writer == writer and item.key not in self._added for item in since):
            self._is_warned = True
            log.warning(
                "another session of %s adds to the conversation %r, too; if the two are not meant to share it, "
                "give each session a prefix of its own",
                writer,
                self._prefix,
            )

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
