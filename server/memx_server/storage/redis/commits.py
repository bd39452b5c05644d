"""Commits: those that are asked for in one turn of the event loop are run together.

One run of the script for several transactions shares what each would do alone: taking its arguments, and
for those of one space, reading its state and writing it back. In a cluster, and behind some proxies, a script
may use the keys of one slot only, so there each space has a run of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hiredis import ReplyError

from memx_server.storage.base import (
    IDEMPOTENCY_KEPT_MS,
    Outcome,
    StoreUnavailable,
    Transaction,
)
from memx_server.storage.redis.batches import Batch, OwnBatch, Reply, ScriptRun, SharedBatch
from memx_server.storage.redis.commit_codec import decode
from memx_server.storage.redis.keyspace import Keyspace
from memx_server.storage.redis.network.client import RedisClient
from memx_server.storage.redis.network.connection import RedisConnection
from memx_server.storage.redis.network.scripts import Script
from memx_server.storage.redis.network.topology import SentCommand, Topology

NOTICE_MAX_BYTES = 64 * 1024
"""The most change text that a notice carries: Redis cuts off clients whose notices pile up."""

_BATCH_BYTES = 4096
"""With so much to write batches leave before the turn ends, so that Redis works while we do."""

_LONG_BATCH_BYTES = 16 * 1024
"""The same where one caller waits for all, so that Redis's first answers are of no use to anybody."""


@dataclass(frozen=True)
class LogLimits:
    """How much log a space keeps: records, and bytes of change texts."""

    records: int
    bytes: int


class CommitRunner:
    """Runs the commit script.

    Args:
        servers: Where the spaces are.
        limits: How much log to keep.
        max_keys: Keys that a space may hold; 0 for no cap.
    """

    def __init__(self, servers: Topology, limits: LogLimits, max_keys: int) -> None:
        self._servers = servers
        self._max_keys = max_keys
        self._lineages = secrets.token_hex(9).encode()
        self._runs = itertools.count()
        self._open: dict[bytes, SharedBatch] = {}
        self._open_size = 0
        self._mixes_slots: bool | None = None
        self._tasks: set[asyncio.Task[None]] = set()
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
        reply = await self._begin(space, transaction)
        if isinstance(reply, Exception):
            raise _own(reply)
        return decode(reply[0], transaction, self._max_keys), reply[1]

    async def run_each(
        self, space: Keyspace, transactions: Sequence[Transaction]
    ) -> tuple[list[Outcome | StoreUnavailable], bool]:
        """Commit each, in this order, behind all that was begun before.

        Returns:
            What came of each, and whether work is left, as ``run``.
        """
        outcomes: list[Outcome | StoreUnavailable] = []
        unfinished = False
        for batch in self._begin_each(space, transactions):
            said = await batch.said
            if isinstance(said, StoreUnavailable):
                outcomes += [said] * len(batch.transactions)
            elif isinstance(said, Exception):
                raise said
            else:
                more, replies = said
                unfinished = unfinished or bool(more)
                outcomes += [
                    decode(reply, transaction, self._max_keys)
                    for reply, transaction in zip(replies, batch.transactions, strict=True)
                ]
        return outcomes, unfinished

    def _begin(self, space: Keyspace, transaction: Transaction) -> asyncio.Future[Reply]:
        batch = self._open.get(space.meta)
        if batch is None:
            if not self._open:
                asyncio.get_running_loop().call_soon(self._send_all)
            batch = self._open[space.meta] = SharedBatch(space)
            self._open_size += batch.size
        size = batch.size
        reply = batch.add_mine(transaction)
        self._open_size += batch.size - size
        if self._open_size >= _BATCH_BYTES:
            self._send_all()
        return reply

    def _begin_each(self, space: Keyspace, transactions: Sequence[Transaction]) -> list[OwnBatch]:
        self._send_all()
        batches = [OwnBatch(space)]
        for transaction in transactions:
            if batches[-1].size >= _LONG_BATCH_BYTES:
                self._send(batches[-1:])
                batches.append(OwnBatch(space))
            batches[-1].add(transaction)
        self._send(batches[-1:])
        return batches

    def _send_all(self) -> None:
        batches, self._open, self._open_size = self._open, {}, 0
        self._send(list(batches.values()))

    def _send(self, batches: Sequence[Batch]) -> None:
        """Let batches leave at once, with one system call where they go to one server."""
        batches = [batch for batch in batches if batch.transactions]
        if len(batches) > 1 and self._mixes_slots is None:
            self._mixes_slots = False  # as long as it is not known
            self._start(self._learn_whether_slots_mix(batches))
        runs = [batches] if self._mixes_slots else [[batch] for batch in batches]
        for link in {self._run_together(each) for each in runs if each}:
            if link is not None:
                link.flush()

    async def _learn_whether_slots_mix(self, batches: Sequence[Batch]) -> None:
        """Find out by a script that does nothing whether one may use the keys of several slots."""
        one = batches[0].space
        others = [batch.space for batch in batches if batch.space.slot != one.slot]
        self._mixes_slots = None if not others else await self._may_use(one, others[0])

    async def _may_use(self, one: Keyspace, other: Keyspace) -> bool | None:
        try:
            await self._servers.call(one.slot, b"EVAL", b"return 1", 2, one.meta, other.meta)
        except ReplyError:
            return False
        except StoreUnavailable:
            return None
        return True

    def _run_together(self, batches: Sequence[Batch]) -> RedisClient[RedisConnection] | None:
        lineage = b"%b%x" % (self._lineages, next(self._runs))  # of the spaces that begin one
        run = ScriptRun(batches, lineage, b"SPUBLISH" if self._servers.sharded else b"PUBLISH")
        sent = self._script.begin(self._servers, run.slot, run.keys, run.arguments)
        if sent is None:
            self._wait(run, None)
            return None
        sent.reply.add_done_callback(partial(self._replied, run, sent))
        return sent.link

    def _replied(self, run: ScriptRun, sent: SentCommand, reply: asyncio.Future[Any]) -> None:
        said = reply.result()
        if isinstance(said, Exception):
            self._wait(run, sent)
        else:
            run.settle(said)

    def _wait(self, run: ScriptRun, sent: SentCommand | None) -> None:
        """Go the long way: a connection has to be made, or there was an error."""
        self._start(self._run(run, sent))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, run: ScriptRun, sent: SentCommand | None) -> None:
        said: Any = StoreUnavailable("the store is closed")
        try:
            said = await self._script.run(self._servers, run.slot, run.keys, run.arguments, sent)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            said = error
        finally:
            run.settle(said)


def _own(error: Exception) -> Exception:
    """Make a copy for one of several who are to raise it: an exception gathers where it was raised."""
    return type(error)(*error.args)
