# Generated from integrations/langchain/langchain_memx/_async/messages.py by tools/unasync.py; change that file, not this one.
"""The messages of a conversation as records of memX."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from memx_sdk import memxContext
from memx_sdk.collections import ForeignValues

_foreign = ForeignValues(logging.getLogger(__name__), "message")


class Messages:
    """The messages of one conversation, a record each, in the order in which memX received them.

    Args:
        context: Where the messages are.
        prefix: What their keys start with, with the colon at its end.
        ttl: Seconds after which a message expires.
    """

    def __init__(self, context: memxContext, prefix: str, ttl: float | None) -> None:
        self._context = context
        self._prefix = prefix
        self._ttl = ttl

    def read(self) -> list[BaseMessage]:
        """Read all messages, oldest first."""
        messages: list[BaseMessage] = []
        # Numbers are padded, so keys list in the order of numbers; "count" begins with no digit. A message whose
        # writer is still between counter and write is missing in the middle, and read the next time.
        for entry in self._context.entries(f"{self._prefix}[0-9]*"):
            try:
                messages += messages_from_dict([entry.value])
            except (AttributeError, KeyError, TypeError, ValueError):
                _foreign.note(entry.key)
        return messages

    def add(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages behind all that are there, together and in this order."""
        if not messages:
            return
        # The counter gives each call numbers of its own, so that agents which add at once neither take one
        # another's place nor come between the messages of one call.
        last = self._context.increment(
            f"{self._prefix}count", len(messages), ttl=self._ttl, history=False
        )
        first = last.value - len(messages) + 1
        for number, message in enumerate(messages, start=first):
            self._context.set(
                f"{self._prefix}{number:08d}",
                message_to_dict(message),
                ttl=self._ttl,
                history=False,
            )

    def clear(self) -> None:
        """Delete all messages."""
        for key in self._context.keys(f"{self._prefix}*"):
            self._context.delete(key)
