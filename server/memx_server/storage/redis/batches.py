"""What goes to Redis together: transactions of one space, and the spaces of one run of the script."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from memx_server.storage.base import Put, Transaction
from memx_server.storage.redis.commit_codec import Argument, encode
from memx_server.storage.redis.keyspace import Keyspace

_SPACE_BYTES = 128
"""What a space counts for beside its writes."""

_WRITE_BYTES = 256
"""What a write counts for beside its value."""

Reply = tuple[Sequence[Any], bool] | Exception
"""What the script said of one transaction, and whether it left work for an empty one; or its error."""


class Batch(ABC):
    """Transactions of one space, in this order.

    Attributes:
        size: About how many bytes they are.
    """

    __slots__ = ("arguments", "keys", "size", "space", "transactions")

    def __init__(self, space: Keyspace) -> None:
        self.space = space
        self.transactions: list[Transaction] = []
        self.keys: list[bytes] = list(space.shared)
        self.arguments: list[Argument] = []
        self.size = _SPACE_BYTES

    def add(self, transaction: Transaction) -> None:
        """Take one more."""
        encode(self.space, transaction, self.keys, self.arguments)
        self.transactions.append(transaction)
        for write in transaction.writes:
            self.size += _WRITE_BYTES + (len(write.value) if isinstance(write, Put) else 0)

    @abstractmethod
    def settle(self, said: Any) -> None:
        """Tell who waits what the script said: whether work is left, and the replies; or an error."""


class OwnBatch(Batch):
    """A batch of one caller.

    Attributes:
        said: What becomes what the script says. An error is a result too, so that nobody has to look
            at it.
    """

    __slots__ = ("said",)

    def __init__(self, space: Keyspace) -> None:
        super().__init__(space)
        self.said: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def settle(self, said: Any) -> None:
        """Tell the caller."""
        if not self.said.done():  # else it has given up
            self.said.set_result(said)


class SharedBatch(Batch):
    """A batch of several callers, each of whom waits for the reply to a transaction of theirs."""

    __slots__ = ("_replies",)

    def __init__(self, space: Keyspace) -> None:
        super().__init__(space)
        self._replies: list[asyncio.Future[Reply]] = []

    def add_mine(self, transaction: Transaction) -> asyncio.Future[Reply]:
        """Take one more; returns what becomes the reply to it."""
        self.add(transaction)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies.append(reply)
        return reply

    def settle(self, said: Any) -> None:
        """Tell each caller what the script said of theirs, or the error, which all then share."""
        if isinstance(said, Exception):
            each: list[Reply] = [said] * len(self._replies)
        else:
            more, outcomes = said
            each = [(outcome, bool(more)) for outcome in outcomes]
        for waiting, reply in zip(self._replies, each, strict=True):
            if not waiting.done():  # else the caller has given up
                waiting.set_result(reply)


class ScriptRun:
    """One run of the commit script, for one space or several.

    Args:
        batches: What it commits, each of another space.
        header: What the script is told before.

    Attributes:
        slot: Where its spaces are; where slots matter, it has one space.
        keys: What the script takes as KEYS.
        arguments: What it takes as ARGV.
    """

    __slots__ = ("_batches", "arguments", "keys", "slot")

    def __init__(self, batches: Sequence[Batch], *header: Argument) -> None:
        self._batches = batches
        self.slot = batches[0].space.slot
        self.keys: list[bytes] = []
        self.arguments: list[Argument] = list(header)
        for batch in batches:
            self.keys += batch.keys
            self.arguments += (len(batch.keys), len(batch.arguments), *batch.arguments)

    def settle(self, said: Any) -> None:
        """Tell each space what the script said of it; or the error, which all then share."""
        parts = [said] * len(self._batches) if isinstance(said, Exception) else said
        for batch, part in zip(self._batches, parts, strict=True):
            batch.settle(part)
