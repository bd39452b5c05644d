"""Transactions of one space that go to Redis as one run of the commit script."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from memx_server.storage.base import Put, Transaction
from memx_server.storage.redis.commit_codec import Argument, encode
from memx_server.storage.redis.keyspace import Keyspace

UNFINISHED, REFUSED = 1, 2
"""Flags of the script's reply: work is left for an empty transaction; what follows a commit was refused."""

_SPACE_BYTES = 128
"""What a batch counts for beside its writes."""

_WRITE_BYTES = 256
"""What a write counts for beside its value."""


class BatchReply(NamedTuple):
    """What the script returned for one caller's transactions of a batch.

    Attributes:
        outcomes: One for each of the transactions, in their order, for ``commit_codec.decode``.
        flags: What else the script reported of the whole run: ``UNFINISHED``, ``REFUSED``.
    """

    outcomes: Sequence[Any]
    flags: int


class BatchPart(NamedTuple):
    """One caller's transactions of a batch.

    Attributes:
        number: How many they are.
        reply: Becomes the reply to them, or an exception object: an error is a result too, so that
            nobody has to look at the reply of a caller who has gone.
    """

    number: int
    reply: asyncio.Future[BatchReply | Exception]


class Batch:
    """Transactions of one space, in the order in which they were asked for.

    Several callers share a batch. Each waits for a reply of their own, so that one who gives up takes
    nothing from the others.

    Attributes:
        space: Where the transactions belong.
        keys: What the script takes as KEYS.
        arguments: What the script takes as ARGV, behind its header.
        size: About how many bytes the transactions are.
    """

    __slots__ = ("_count", "_parts", "arguments", "keys", "size", "space")

    def __init__(self, space: Keyspace) -> None:
        self.space = space
        self.keys: list[bytes] = list(space.shared)
        self.arguments: list[Argument] = []
        self.size = _SPACE_BYTES
        self._count = 0
        self._parts: list[BatchPart] = []

    def add(self, transaction: Transaction) -> None:
        """Take one more transaction; ``end_part`` says whose it is.

        Raises:
            ValueError: The transaction cannot be encoded; the batch is as it was.
        """
        encode(self.space, transaction, self.keys, self.arguments)
        self._count += 1
        for write in transaction.writes:
            self.size += _WRITE_BYTES + (len(write.value) if isinstance(write, Put) else 0)

    def end_part(self) -> BatchPart:
        """Give one caller the transactions that were added since the last call of this."""
        part = BatchPart(self._count, asyncio.get_running_loop().create_future())
        self._parts.append(part)
        self._count = 0
        return part

    def settle(self, result: list[Any] | Exception) -> None:
        """Give each caller their part of what the script returned, or the error."""
        first = 1  # behind the flags
        for part in self._parts:
            behind = first + part.number
            if not part.reply.done():  # else the caller has given up
                part.reply.set_result(
                    result
                    if isinstance(result, Exception)
                    else BatchReply(result[first:behind], result[0])
                )
            first = behind
