"""Chat messages in memX, for one agent or for several that share a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from langchain_memx.connection import Flow, MemxConnection, do
from langchain_memx.names import segment


class MemxChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, in the order in which memX received them.

    Each message is a key of its own, ``prefix:session:00000001`` and on, so a conversation may grow without limit
    and no message is lost when several agents add at once.

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
        prefix: str = "chat",
        ttl: float | None = None,
    ) -> None:
        self._connection = connection or MemxConnection()
        self._keys = f"{prefix}:{segment(session_id)}:"
        self._ttl = ttl

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # the base has an attribute, its users a property
        """All messages, oldest first.

        Raises:
            MemxError: memX cannot be reached or does not permit it.
        """
        return self._connection.run(self._read())

    async def aget_messages(self) -> list[BaseMessage]:
        """The same without blocking the event loop."""
        return await self._connection.arun(self._read())

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages behind all that are there, together and in this order.

        Raises:
            MemxError: memX refused them or cannot be reached.
        """
        self._connection.run(self._add(messages))

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """The same without blocking the event loop."""
        await self._connection.arun(self._add(messages))

    def clear(self) -> None:
        """Delete all messages."""
        self._connection.run(self._clear())

    async def aclear(self) -> None:
        """The same without blocking the event loop."""
        await self._connection.arun(self._clear())

    def _read(self) -> Flow[list[BaseMessage]]:
        entries = yield from do("entries", f"{self._keys}[0-9]*")
        return messages_from_dict([entry.value for entry in entries])

    def _add(self, messages: Sequence[BaseMessage]) -> Flow[None]:
        if not messages:
            return
        last = yield from do(
            "increment", f"{self._keys}count", len(messages), ttl=self._ttl, history=False
        )
        first = last.value - len(messages) + 1
        for place, message in enumerate(messages, start=first):
            yield from do(
                "set",
                f"{self._keys}{place:08d}",
                message_to_dict(message),
                ttl=self._ttl,
                history=False,
            )

    def _clear(self) -> Flow[None]:
        for key in (yield from do("keys", f"{self._keys}*")):
            yield from do("delete", key)
