"""Commits: those of one space that are asked for in one turn of the event loop are run together.

One run of the script for several transactions shares what each would do alone: taking its arguments,
reading the state of the space and writing it back.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from memx_server.storage.base import (
    IDEMPOTENCY_KEPT_MS,
    Outcome,
    Put,
    StoreUnavailable,
    Transaction,
)
from memx_server.storage.redis.connection import Connection
from memx_server.storage.redis.keyspace import Keyspace
from memx_server.storage.redis.link import Link
from memx_server.storage.redis.scripts import Script
from memx_server.storage.redis.servers import Sent, Servers
from memx_server.storage.redis.transactions import Argument, decode, encode

NOTICE_MAX_BYTES = 64 * 1024
"""The most change text that a notice carries: Redis cuts off clients whose notices pile up."""

_BATCH_BYTES = 4096
"""With so much to write batches leave before the turn ends, so that Redis works while we do."""

_LONG_BATCH_BYTES = 16 * 1024
"""The same where one caller waits for all, so that Redis's first answers are of no use to anybody."""

_SPACE_BYTES = 512
"""What a batch counts for beside its writes."""

_WRITE_BYTES = 256
"""What a write counts for beside its value."""

Reply = tuple[Sequence[Any], bool] | Exception
"""What the script said of one transaction, and whether it left work for an empty one; or its error."""


@dataclass(frozen=True)
class LogLimits:
    """How much log a space keeps: records, and bytes of change texts."""

    records: int
    bytes: int


class Batch:
    """Transactions of one space that go to Redis together, in this order."""

    __slots__ = ("arguments", "keys", "replies", "size", "space")

    def __init__(self, space: Keyspace, *arguments: Argument) -> None:
        self.space = space
        self.keys: list[bytes] = list(space.shared)
        self.arguments: list[Argument] = list(arguments)
        self.replies: list[asyncio.Future[Reply]] = []
        self.size = _SPACE_BYTES

    def add(self, transaction: Transaction) -> asyncio.Future[Reply]:
        """Take one more; returns what becomes the reply."""
        encode(self.space, transaction, self.keys, self.arguments)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.replies.append(reply)
        for write in transaction.writes:
            self.size += _WRITE_BYTES + (len(write.value) if isinstance(write, Put) else 0)
        return reply

    def settle(self, said: Any) -> None:
        """Tell everyone what the script said of theirs; or the error, which all then share."""
        if isinstance(said, Exception):
            each: list[Reply] = [said] * len(self.replies)
        else:
            more, outcomes = said
            each = [(outcome, bool(more)) for outcome in outcomes]
        for waiting, reply in zip(self.replies, each, strict=True):
            if not waiting.done():  # else the caller has given up
                waiting.set_result(reply)


class Commits:
    """Runs the commit script.

    Args:
        servers: Where the spaces are.
        limits: How much log to keep.
        max_keys: Keys that a space may hold; 0 for no cap.
    """

    def __init__(self, servers: Servers, limits: LogLimits, max_keys: int) -> None:
        self._servers = servers
        self._max_keys = max_keys
        self._lineages = secrets.token_hex(9).encode()
        self._batches = itertools.count()
        self._open: dict[bytes, Batch] = {}
        self._open_size = 0
        self._waiting: set[asyncio.Task[None]] = set()
        self._script = Script(
            "commit",
            MAX_RECORDS=limits.records,
            MAX_BYTES=limits.bytes,
            MAX_KEYS=max_keys,
            NOTICE_MAX=NOTICE_MAX_BYTES,
            ANSWER_MS=IDEMPOTENCY_KEPT_MS,
        )

    async def run(self, space: Keyspace, transaction: Transaction) -> tuple[Outcome, bool]:
        """Commit.

        Returns:
            What came of it, and whether work is left for an empty transaction to go on with:
            expiries to log or records to trim.
        """
        return await self.finish(transaction, self.begin(space, transaction))

    def begin(self, space: Keyspace, transaction: Transaction) -> asyncio.Future[Reply]:
        """Commit behind all that was begun before in the same space.

        Returns:
            For ``finish``. An error is a result too, so that nobody has to look at it.
        """
        batch = self._open.get(space.meta)
        if batch is None:
            if not self._open:
                asyncio.get_running_loop().call_soon(self._send_all)
            batch = self._open[space.meta] = self._new_batch(space)
            self._open_size += batch.size
        size = batch.size
        reply = batch.add(transaction)
        self._open_size += batch.size - size
        if self._open_size >= _BATCH_BYTES:
            self._send_all()
        return reply

    def begin_each(
        self, space: Keyspace, transactions: Sequence[Transaction]
    ) -> list[asyncio.Future[Reply]]:
        """Commit each, in this order, behind all that was begun before; as ``begin``."""
        self._send_all()
        batch = self._new_batch(space)
        replies = []
        for transaction in transactions:
            if batch.size >= _LONG_BATCH_BYTES:
                self._send(batch)
                batch = self._new_batch(space)
            replies.append(batch.add(transaction))
        self._send(batch)
        return replies

    async def finish(
        self, transaction: Transaction, begun: asyncio.Future[Reply]
    ) -> tuple[Outcome, bool]:
        """Wait for what came of a transaction that was begun; as ``run``."""
        reply = await begun
        if isinstance(reply, Exception):
            raise type(reply)(*reply.args)  # its own: an exception gathers where it was raised
        return decode(reply[0], transaction, self._max_keys), reply[1]

    def _new_batch(self, space: Keyspace) -> Batch:
        lineage = b"%b%x" % (self._lineages, next(self._batches))  # should the batch open one
        return Batch(space, lineage, b"SPUBLISH" if self._servers.sharded else b"PUBLISH")

    def _send_all(self) -> None:
        batches, self._open, self._open_size = self._open, {}, 0
        self._send(*batches.values())

    def _send(self, *batches: Batch) -> None:
        """Let batches leave at once, with one system call where they go to one server."""
        links = {self._send_one(batch) for batch in batches if batch.replies}
        for link in links:
            if link is not None:
                link.flush()

    def _send_one(self, batch: Batch) -> Link[Connection] | None:
        sent = self._script.begin(self._servers, batch.space.slot, batch.keys, batch.arguments)
        if sent is None:
            self._wait(batch, None)
            return None
        sent.reply.add_done_callback(partial(self._replied, batch, sent))
        return sent.link

    def _replied(self, batch: Batch, sent: Sent, reply: asyncio.Future[Any]) -> None:
        said = reply.result()
        if isinstance(said, Exception):
            self._wait(batch, sent)
        else:
            batch.settle(said)

    def _wait(self, batch: Batch, sent: Sent | None) -> None:
        """Go the long way: a connection has to be made, or there was an error."""
        task = asyncio.get_running_loop().create_task(self._run(batch, sent))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _run(self, batch: Batch, sent: Sent | None) -> None:
        said: Any = StoreUnavailable("the store is closed")
        try:
            said = await self._script.run(
                self._servers, batch.space.slot, batch.keys, batch.arguments, sent
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            said = error
        finally:
            batch.settle(said)
