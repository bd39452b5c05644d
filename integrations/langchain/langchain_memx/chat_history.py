"""Chat messages in memX, for one agent or for several that share a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage

from langchain_memx._async.messages import AsyncMessages
from langchain_memx._sync.messages import Messages
from langchain_memx.connection import Connected, Flows, MemxConnection


class MemxChatMessageHistory(Connected, BaseChatMessageHistory):
    """The messages of one session, in the order in which memX received them.

    A conversation may grow without limit, a message may be of any size, and none is lost when several agents add at
    once: what is added together is there together. Under the default prefix agents' tools do not see them. What is no
    message counts as not there.

    Args:
        session_id: Names the conversation; any text.
        connection: Where memX is; by default what the environment says.
        prefix: What the keys start with.
        ttl: Seconds after the last message after which the conversation is gone.
    """

    def __init__(
        self,
        session_id: str,
        connection: MemxConnection | None = None,
        *,
        prefix: str = "memx:chat",
        ttl: float | None = None,
    ) -> None:
        super().__init__(connection)
        self._flows = Flows(
            self._connection,
            lambda context: Messages(context, prefix, session_id, ttl),
            lambda context: AsyncMessages(context, prefix, session_id, ttl),
        )

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # the base has an attribute, its users a property
        """All messages, oldest first.

        Raises:
            MemxError: memX cannot be reached or does not permit it.
        """
        return self._flows.here.read()

    async def aget_messages(self) -> list[BaseMessage]:
        """The same without blocking the event loop."""
        return await self._flows.of_loop.read()

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages behind all that are there: together, in this order, all or none.

        Raises:
            MemxError: memX refused them or cannot be reached.
        """
        self._flows.here.add(messages)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """The same without blocking the event loop."""
        await self._flows.of_loop.add(messages)

    def clear(self) -> None:
        """Delete all messages."""
        self._flows.here.clear()

    async def aclear(self) -> None:
        """The same without blocking the event loop."""
        await self._flows.of_loop.clear()
