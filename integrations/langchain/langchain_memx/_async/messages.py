"""The messages of a conversation as a log of memX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from memx_sdk import AsyncMemxContext, ConflictError
from memx_sdk.collections import AsyncLog, segment


class AsyncMessageForm:
    """LangChain's messages as JSON."""

    def dump(self, value: BaseMessage) -> dict[str, Any]:
        """Write a message."""
        return message_to_dict(value)

    def load(self, stored: Any) -> BaseMessage:
        """Read a message; raises where it is none."""
        (message,) = messages_from_dict([stored])
        return message


class AsyncMessages:
    """The messages of one conversation, in the order in which memX received them.

    Args:
        context: Where the messages are.
        prefix: What the keys of all conversations start with.
        session: Which conversation.
        ttl: Seconds after the last message after which the conversation is gone.
    """

    def __init__(
        self, context: AsyncMemxContext, prefix: str, session: str, ttl: float | None
    ) -> None:
        self._context = context
        self._form = AsyncMessageForm()
        self._log: AsyncLog[BaseMessage] = AsyncLog(
            context, prefix, session, form=self._form, ttl=ttl, noun="message"
        )
        self._earlier = f"{prefix}:{segment(session)}"
        self._has_moved = False

    async def read(self) -> list[BaseMessage]:
        """Read all messages, oldest first."""
        page = await self._log.read()
        if not page.revision and await self._move():
            page = await self._log.read()
        return page.values

    async def add(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages behind all that are there: together, in this order, all or none."""
        if not self._has_moved and messages and not await self._log.revision():
            await self._move()
        await self._log.append(messages)

    async def clear(self) -> None:
        """Delete all messages."""
        await self._move()
        await self._log.clear()

    async def _move(self) -> bool:
        """Take over what versions before 0.2.0's collections kept, a key for each message and a counter.

        Returns:
            Whether there was any.
        """
        if self._has_moved:
            return False
        pattern = f"{self._earlier}:[0-9]*"
        entries = await self._context.entries(pattern)
        if entries:
            # Where two take it over at once, one of them wins; the other one finds the messages in the log.
            await self._take_over([entry.value for entry in entries])
            await self._context.delete_pattern(pattern)
            await self._context.delete(f"{self._earlier}:count")
        self._has_moved = True
        return bool(entries)

    async def _take_over(self, values: Sequence[Any]) -> None:
        messages: list[BaseMessage] = []
        for value in values:
            try:
                messages.append(self._form.load(value))
            except (AttributeError, KeyError, TypeError, ValueError):
                continue  # it was no message before either
        try:
            await self._log.append(messages, if_revision=0)
        except ConflictError:
            return
