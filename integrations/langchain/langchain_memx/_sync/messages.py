# Generated from integrations/langchain/langchain_memx/_async/messages.py by tools/unasync.py; change that file, not this one.
"""The messages of a conversation as a log of memX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from memx_sdk import memxContext, ConflictError
from memx_sdk.collections import Log, segment


class MessageForm:
    """LangChain's messages as JSON."""

    def dump(self, value: BaseMessage) -> dict[str, Any]:
        """Write a message."""
        return message_to_dict(value)

    def load(self, stored: Any) -> BaseMessage:
        """Read a message; raises where it is none."""
        (message,) = messages_from_dict([stored])
        return message


class Messages:
    """The messages of one conversation, in the order in which memX received them.

    Args:
        context: Where the messages are.
        prefix: What the keys of all conversations start with.
        session: Which conversation.
        ttl: Seconds after the last message after which the conversation is gone.
    """

    def __init__(
        self, context: memxContext, prefix: str, session: str, ttl: float | None
    ) -> None:
        self._context = context
        self._form = MessageForm()
        self._log: Log[BaseMessage] = Log(
            context, prefix, session, form=self._form, ttl=ttl, noun="message"
        )
        self._earlier = f"{prefix}:{segment(session)}"
        self._has_moved = False

    def read(self) -> list[BaseMessage]:
        """Read all messages, oldest first."""
        page = self._log.read()
        if not page.revision and self._move():
            page = self._log.read()
        return page.values

    def add(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages behind all that are there: together, in this order, all or none."""
        if not self._has_moved and messages and not self._log.revision():
            self._move()
        self._log.append(messages)

    def clear(self) -> None:
        """Delete all messages."""
        self._move()
        self._log.clear()

    def _move(self) -> bool:
        """Take over what versions before 0.2.0's collections kept, a key for each message and a counter.

        Returns:
            Whether there was any.
        """
        if self._has_moved:
            return False
        pattern = f"{self._earlier}:[0-9]*"
        entries = self._context.entries(pattern)
        if entries:
            # Where two take it over at once, one of them wins; the other one finds the messages in the log.
            self._take_over([entry.value for entry in entries])
            self._context.delete_pattern(pattern)
            self._context.delete(f"{self._earlier}:count")
        self._has_moved = True
        return bool(entries)

    def _take_over(self, values: Sequence[Any]) -> None:
        messages: list[BaseMessage] = []
        for value in values:
            try:
                messages.append(self._form.load(value))
            except (AttributeError, KeyError, TypeError, ValueError):
                continue  # it was no message before either
        try:
            self._log.append(messages, if_revision=0)
        except ConflictError:
            return
