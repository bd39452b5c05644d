"""Chat messages in memX, for one agent or for several that share a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage

from langchain_memx._async.messages import AsyncMessages
from langchain_memx._sync.messages import Messages
from langchain_memx.connection import MemxConnection
from memx_sdk.collections import segment


class MemxChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, in the order in which memX received them.

    Each message is a key of its own, ``prefix:session:00000001`` and on, so a conversation may grow without limit
    and no message is lost when several agents add at once. Under the default prefix agents' tools do not see them.
    What is no message counts as not there.

    Args:
        session_id: Names the conversation; any text.
        connection: Where memX is; by default what the environment says.
        prefix: What the keys start with.
        ttl: Seconds after which a message expires.
    """

    def __init__(
        self,
        session_id: str,
        connection: MemxConnection | None = None,
        *,
        prefix: str = "memx:chat",
        ttl: float | None = None,
    ) -> None:
        self._connection = MemxConnection.of(connection)
        self._prefix = f"{prefix}:{segment(session_id)}:"
        self._ttl = ttl

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # the base has an attribute, its users a property
        """All messages, oldest first.

        Raises:
            MemxError: memX cannot be reached or does not permit it.
        """
        return self._stored.read()

    async def aget_messages(self) -> list[BaseMessage]:
        """The same without blocking the event loop."""
        return await self._async_stored.read()

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages behind all that are there, together and in this order.

        Raises:
            MemxError: memX refused them or cannot be reached.
        """
        self._stored.add(messages)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """The same without blocking the event loop."""
        await self._async_stored.add(messages)

    def clear(self) -> None:
        """Delete all messages."""
        self._stored.clear()

    async def aclear(self) -> None:
        """The same without blocking the event loop."""
        await self._async_stored.clear()

    @property
    def _stored(self) -> Messages:
        return Messages(self._connection.context, self._prefix, self._ttl)

    @property
    def _async_stored(self) -> AsyncMessages:
        return AsyncMessages(self._connection.async_context, self._prefix, self._ttl)
