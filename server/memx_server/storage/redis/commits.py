"""Commits on Redis: the transactions of a space that come in one turn of the event loop share a run of the script.

One run for several transactions shares what each would do alone: taking its arguments, reading the state of
the space and writing it back. A run is for one space. Runs of several spaces leave as one pipeline.
A ``Batch`` is the transactions of one run; the ``CommitRunner`` fills batches and sends them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

from hiredis import ReplyError

from memx_server.storage.base import (
    SCHEMA_OVERHEAD,
    Delete,
    DeleteSchema,
    Outcome,
    Put,
    SpaceQuotas,
    StoreFull,
    StoreUnavailable,
    Transaction,
)
from memx_server.storage.redis.commit_codec import Argument, decode, encode
from memx_server.storage.redis.format import FORMAT
from memx_server.storage.redis.keyspace import Keyspace
from memx_server.storage.redis.network.connection import RedisClient, RedisConnection
from memx_server.storage.redis.network.faults import RedisDenied, is_log_above_head
from memx_server.storage.redis.network.topology import Script, SentCommand, Topology

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


log = logging.getLogger(__name__)

NOTICE_MAX_BYTES = 64 * 1024
"""The most change text that a notice carries: Redis cuts off clients whose notices pile up."""

_BATCH_BYTES = 4096
"""With so much to write batches leave before the turn ends, so that Redis works while we do."""

_LONG_BATCH_BYTES = 16 * 1024
"""The same where one caller waits for all, so that Redis's first answers are of no use to anybody."""


class CommitRefused(Exception):  # noqa: N818 - names what happened
    """Redis refused to run the script, for a reason that lies in the data or in memX itself.

    For example somebody else has put a value of another type under a key of the space.
    """


@dataclass(frozen=True)
class LogLimits:
    """How much log a space keeps: records, and bytes of change texts."""

    records: int
    bytes: int


class CommitRunner:
    """Gathers transactions into batches and runs the commit script for each batch.

    A batch goes through three states. It is *open* while transactions of this turn may join it; it is
    *sent* once its command is in the connection's buffer; it is *settled* when the reply, or an error, has
    been handed to its callers. Batches of one space are sent in the order in which they were opened, by
    one connection, so Redis applies their transactions in that order too.

    Args:
        topology: Where the spaces are.
        limits: How much log to keep.
        quotas: The most that a space may hold.
        on_denied: Called where Redis has denied a right, or refused what follows a commit.
    """

    def __init__(
        self,
        topology: Topology,
        limits: LogLimits,
        quotas: SpaceQuotas,
        on_denied: Callable[[], None],
    ) -> None:
        self._topology = topology
        self._quotas = quotas
        # A lineage's id is this process's prefix and the number of the run that opened it.
        self._lineage_prefix = secrets.token_hex(9).encode()
        self._run_numbers = itertools.count()
        self._open: dict[bytes, Batch] = {}
        self._open_size = 0
        self._on_denied = on_denied
        self._repair = Script("repair")
        self._tasks: set[asyncio.Task[None]] = set()
        self._script = Script(
            "commit",
            MAX_RECORDS=limits.records,
            MAX_BYTES=limits.bytes,
            MAX_KEYS=quotas.keys,
            MAX_RESULT_BYTES=quotas.result_bytes,
            MAX_SCHEMA_BYTES=quotas.schema_bytes,
            SCHEMA_OVERHEAD=SCHEMA_OVERHEAD,
            FORMAT=FORMAT,
            NOTICE_MAX=NOTICE_MAX_BYTES,
        )

    async def commit(
        self, space: Keyspace, transactions: Sequence[Transaction]
    ) -> tuple[list[Outcome | StoreUnavailable], bool]:
        """Commit each of ``transactions``, in this order, behind all that was begun before.

        Returns:
            What came of each, and whether work is left for an empty transaction to go on with:
            expiries to log or records to trim.

        Raises:
            CommitRefused: Redis refused a run of the script.
            ValueError: A transaction cannot be encoded; nothing of it was sent.
        """
        outcomes: list[Outcome | StoreUnavailable] = []
        unfinished = full = False
        for part in self._begin(space, transactions):
            result = await part.reply
            if isinstance(result, BatchReply):
                unfinished = unfinished or bool(result.flags & UNFINISHED)
                self._decode(result, transactions, outcomes)
            elif isinstance(result, StoreUnavailable):
                full = full or isinstance(result, StoreFull)
                outcomes += [result.copy() for _ in range(part.number)]
            elif str(result).startswith("NEWER"):  # than this server; space.lua says so
                outcomes += [StoreUnavailable(str(result)) for _ in range(part.number)]
            else:
                raise CommitRefused(str(result)) from result
        if full:
            await self._delete_although_full(space, transactions, outcomes)
        return outcomes, unfinished

    def _decode(
        self,
        reply: BatchReply,
        transactions: Sequence[Transaction],
        outcomes: list[Outcome | StoreUnavailable],
    ) -> None:
        """Append the outcomes of a part to those before it."""
        for outcome in reply.outcomes:
            outcomes.append(decode(outcome, transactions[len(outcomes)], self._quotas))

    async def _delete_although_full(
        self,
        space: Keyspace,
        transactions: Sequence[Transaction],
        outcomes: list[Outcome | StoreUnavailable],
    ) -> None:
        """Send again what only deletes, so that a Redis that is out of memory takes it.

        A run is refused as a whole before its first write, so none of its transactions has happened.
        """
        refused = [at for at, outcome in enumerate(outcomes) if isinstance(outcome, StoreFull)]
        deletes = [at for at in refused if _only_deletes(transactions[at])]
        if not deletes:
            return
        batch = Batch(space)
        for at in deletes:
            batch.add(transactions[at])
        part = batch.end_part()
        self._finish_later(batch, self._arguments(batch, only_deletes=True), None)
        result = await part.reply
        if isinstance(result, BatchReply):
            again: list[Outcome | StoreUnavailable] = []
            self._decode(result, [transactions[at] for at in deletes], again)
            for at, outcome in zip(deletes, again, strict=True):
                outcomes[at] = outcome

    def _begin(self, space: Keyspace, transactions: Sequence[Transaction]) -> list[BatchPart]:
        """Put transactions into batches, in their order."""
        several = len(transactions) > 1
        most = _LONG_BATCH_BYTES if several else _BATCH_BYTES
        parts: list[BatchPart] = []
        batch = self._batch(space)
        try:
            for transaction in transactions:
                if batch.size >= most:
                    parts.append(batch.end_part())
                    self._send_open()
                    batch = self._batch(space)
                size = batch.size
                batch.add(transaction)
                self._open_size += batch.size - size
        finally:  # also where one cannot be encoded: what stands before it goes its way
            parts.append(batch.end_part())
        # What one caller has brought together need not wait for what else comes in this turn.
        if several or self._open_size >= most:
            self._send_open()
        return parts

    def _batch(self, space: Keyspace) -> Batch:
        """The open batch of ``space``."""
        batch = self._open.get(space.meta)
        if batch is None:
            if not self._open:
                asyncio.get_running_loop().call_soon(self._send_open)
            batch = self._open[space.meta] = Batch(space)
            self._open_size += batch.size
        return batch

    def _send_open(self) -> None:
        """Send every open batch, with one system call where they go to one server."""
        batches, self._open, self._open_size = self._open, {}, 0
        clients = {self._send(batch) for batch in batches.values()}
        for client in clients:
            if client is not None:
                client.flush()

    def _send(self, batch: Batch) -> RedisClient[RedisConnection] | None:
        """Send one batch; returns by which client, None where it takes the long way."""
        if not batch.arguments:  # its only transaction could not be encoded
            return None
        arguments = self._arguments(batch)
        slot = batch.space.slot
        sent = self._script.begin(self._topology, slot, batch.keys, arguments)
        if sent is None:  # a connection has to be made first
            self._finish_later(batch, arguments, None)
            return None
        sent.reply.add_done_callback(partial(self._on_reply, batch, arguments, sent))
        return sent.client

    def _arguments(self, batch: Batch, *, only_deletes: bool = False) -> list[Argument]:
        """What the script takes as ARGV for a run."""
        verb = b"SPUBLISH" if self._topology.sharded else b"PUBLISH"
        return [self._new_lineage(), verb, int(only_deletes), *batch.arguments]

    def _new_lineage(self) -> bytes:
        """The id of the lineage that a run begins, if it has to begin one."""
        return b"%b%x" % (self._lineage_prefix, next(self._run_numbers))

    def _on_reply(
        self,
        batch: Batch,
        arguments: list[Argument],
        sent: SentCommand,
        reply: asyncio.Future[Any],
    ) -> None:
        result = reply.result()
        if isinstance(result, Exception):  # perhaps one that is mended by sending the script again
            self._finish_later(batch, arguments, sent)
        else:
            self._settle(batch, result)

    def _settle(self, batch: Batch, result: list[Any] | Exception) -> None:
        """Hand a result to the callers; note what of it is for the operator."""
        batch.settle(result)
        if isinstance(result, RedisDenied) or (isinstance(result, list) and result[0] & REFUSED):
            self._on_denied()

    def _finish_later(
        self, batch: Batch, arguments: list[Argument], sent: SentCommand | None
    ) -> None:
        task = asyncio.get_running_loop().create_task(self._finish(batch, arguments, sent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(
        self, batch: Batch, arguments: list[Argument], sent: SentCommand | None
    ) -> None:
        """Run a batch by the way that may wait: for a connection, a redirection, the script's text."""
        result: Any = StoreUnavailable("the store is closed")
        try:
            result = await self._run(batch, arguments, sent)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            result = error
        finally:  # also where this task is cancelled
            self._settle(batch, result)

    async def _run(
        self, batch: Batch, arguments: list[Argument], sent: SentCommand | None
    ) -> list[Any]:
        """Run the script; where the log ends above the head, mend the space and run it again.

        The script finds that out by its first write to the log, so nothing of the batch has been logged.
        What stood before it in the batch has happened at the most to expiries, and may happen again.
        """
        slot = batch.space.slot
        try:
            result = await self._script.run(self._topology, slot, batch.keys, arguments, sent)
        except ReplyError as error:
            if not is_log_above_head(error):
                raise
        else:
            return cast(list[Any], result)
        await self._mend(batch.space)
        return cast(list[Any], await self._script.run(self._topology, slot, batch.keys, arguments))

    async def _mend(self, space: Keyspace) -> None:
        """Remove what a commit that failed half-way has left in the log of ``space``."""
        removed, stands = await self._repair.run(
            self._topology, space.slot, list(space.shared), [self._new_lineage()]
        )
        log.warning(
            "the log of space %r ended %d records above its head, since a commit had failed half-way; "
            "they were removed, and %s",
            space.id,
            removed,
            "as some of their writes stand, every subscriber starts anew"
            if stands
            else "nothing else of them stands",
        )


def _only_deletes(transaction: Transaction) -> bool:
    return all(isinstance(write, Delete | DeleteSchema) for write in transaction.writes)
