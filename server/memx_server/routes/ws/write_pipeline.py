"""The pipeline of one socket's writes: their order, and how far they may overlap.

The writes of a socket take effect in the order in which they were sent. Waiting for each answer before the next
write is begun would keep that order, and would cost a round trip to the store for each. A store applies commits in
the order in which it receives them, so most writes are handed to it one behind the other, unanswered.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from memx_server.domain.requests import (
    DeleteOperation,
    DeleteRequest,
    SetOperation,
    SetRequest,
    TxnRequest,
)
from memx_server.domain.schema.cache import SchemaSet
from memx_server.routes.ws.frames import SocketRequest

_BATCH = 48
"""The most writes of a batch. A longer one would keep the peer waiting for its first answers, and so for room to
send more, while the store works."""

_WARM_SECONDS = 1.0
"""How long after a write that the store answered the next ones may overlap."""

W = TypeVar("W")
"""A write as it was requested."""


class Overlap(NamedTuple):
    """What lets a write begin before the writes ahead of it are answered.

    Attributes:
        keys: The keys that it writes.
        batchable: Whether it may share a batch with others.
        may_repeat: Whether the server sends it again by itself after the store has failed, since it has an
            idempotency key. It then may reach the store after writes that were sent later.
    """

    keys: Collection[str]
    batchable: bool
    may_repeat: bool


class WritePipeline(Generic[W]):
    """Runs the writes of a socket so that they take effect in the order in which they were sent.

    A write with an ``Overlap`` is gathered into a batch, and a batch is begun without waiting for the batches ahead
    of it. Four things could still reverse the order of two writes, and each makes the later one wait:

    1. *A write without an overlap*: it reads first, or its value takes time to validate. It is run alone, after
       everything ahead of it has ended, and what follows waits for it.
    2. *A cold store*: after a pause or a failure the first write may have to connect, load scripts or read schemas
       before it reaches the store, while a second one would find all that done. The first is run alone.
    3. *A repetition*: a write that may repeat can reach the store a second time, after later ones. A later write
       waits for it only if they share a key; on different keys nothing shows their order.
    4. *Changed schemas*: a write that was validated by outdated schemas is refused by the store, validated again
       and sent again. A write that is validated by the new schemas waits for all that were validated by others.

    Args:
        run: Runs a write, or the writes of a batch, and answers them. It never raises; it returns whether the store
            answered.
        overlap: Returns the overlap of a write, or None.
        schemas: Returns the schemas that validate writes at this moment: the same object for as long as
            they are the same.
    """

    def __init__(
        self,
        run: Callable[[Sequence[W]], Coroutine[Any, Any, bool]],
        overlap: Callable[[W], Overlap | None],
        schemas: Callable[[], object],
    ) -> None:
        self._run = run
        self._overlap = overlap
        self._schemas = schemas
        # Writes pass three places: `_waiting`, in the order in which they were sent; the batch that is being
        # gathered; and the batches that run. `_schemas_of_batches` validated, or will validate, the latter two.
        self._waiting: deque[W] = deque()
        self._batch: list[W] = []
        self._batch_keys: set[str] = set()
        self._running: set[asyncio.Task[bool]] = set()
        # Only keys of writes that may repeat are noted, in `_batch_keys` and here: the others nobody waits for.
        self._running_keys: dict[str, asyncio.Task[bool]] = {}
        self._schemas_of_batches: object = None
        self._dispatcher: asyncio.Task[None] | None = None
        self._warm_until = 0.0

    def add(self, write: W) -> None:
        """Take the next write of the socket."""
        self._waiting.append(write)
        if self._dispatcher is None:
            # The task begins in the next turn of the event loop: the frames of this turn become one batch.
            self._dispatcher = asyncio.create_task(self._dispatch())

    async def _dispatch(self) -> None:
        """Move writes from ``_waiting`` into batches until none is left."""
        while self._waiting:
            write = self._waiting.popleft()
            overlap = self._overlap(write)
            if overlap is None or self._is_cold() or self._schemas_have_changed():
                # Cases 1, 2 and 4: nothing else of this socket runs before, during or after this write's run.
                await self._wait_for_all()
                self._note_outcome(await self._run([write]))
                # The run has fetched the schemas where they were not cached: batches go on from these.
                self._schemas_of_batches = self._schemas()
            else:
                await self._wait_for_repeats(overlap.keys)
                self._gather(write, overlap)
        self._begin_batch()
        # No await since the loop has seen `_waiting` empty: no write was added meanwhile and forgotten.
        self._dispatcher = None

    def _gather(self, write: W, overlap: Overlap) -> None:
        """Put a write into the batch; begin the batch when it can take no more."""
        if not overlap.batchable:
            self._begin_batch()
        self._batch.append(write)
        if overlap.may_repeat:
            self._batch_keys.update(overlap.keys)
        if not overlap.batchable or len(self._batch) >= _BATCH:
            self._begin_batch()

    def _begin_batch(self) -> None:
        """Run what has been gathered; tasks begin in the order in which they are created."""
        if not self._batch:
            return
        keys = self._batch_keys
        ahead = set(self._running)
        task = asyncio.create_task(self._run_batch(self._batch, ahead, self._schemas_of_batches))
        self._batch, self._batch_keys = [], set()
        self._running.add(task)
        # A key that several running batches write belongs to the last one; `_wait_for_repeats` has seen to it that
        # the ones before have ended.
        self._running_keys.update(dict.fromkeys(keys, task))
        task.add_done_callback(partial(self._end_batch, keys))

    async def _run_batch(
        self, writes: Sequence[W], ahead: Collection[asyncio.Task[bool]], schemas: object
    ) -> bool:
        # The schemas may have changed between `_dispatch` and this first step of the task (case 4).
        if ahead and self._schemas() is not schemas:
            await asyncio.wait(ahead)
        return await self._run(writes)

    def _end_batch(self, keys: Collection[str], task: asyncio.Task[bool]) -> None:
        self._running.discard(task)
        for key in keys:
            if self._running_keys.get(key) is task:
                del self._running_keys[key]
        self._note_outcome(not task.cancelled() and task.result())

    def _schemas_have_changed(self) -> bool:
        return self._schemas() is not self._schemas_of_batches

    def _is_cold(self) -> bool:
        return time.monotonic() > self._warm_until

    def _note_outcome(self, answered: bool) -> None:
        self._warm_until = time.monotonic() + _WARM_SECONDS if answered else 0.0

    async def _wait_for_repeats(self, keys: Collection[str]) -> None:
        """Wait for the writes of ``keys`` that may repeat (case 3)."""
        if not self._batch_keys.isdisjoint(keys):
            self._begin_batch()
        if tasks := {self._running_keys[key] for key in keys if key in self._running_keys}:
            # What has been gathered need not wait with this write.
            self._begin_batch()
            await asyncio.wait(tasks)

    async def _wait_for_all(self) -> None:
        self._begin_batch()
        if self._running:
            await asyncio.wait(self._running)


def overlap_of(write: SocketRequest) -> Overlap | None:
    """Return what lets a write of a socket overlap with those ahead of it; None where it has to run alone.

    Sets and deletes overlap, and so do transactions of sets and deletes without a compare: they go to the store
    without reading from it first.
    """
    call, request = write.call, write.request
    schemas = call.services.schemas.cached(call.space)
    if schemas is None:
        return None
    may_repeat = call.idempotency_key is not None
    if isinstance(request, TxnRequest):
        operations = (*request.then, *request.else_)
        if request.if_ or not all(_needs_no_wait(each, schemas) for each in operations):
            return None
        return Overlap([each.key for each in operations], batchable=False, may_repeat=may_repeat)
    if not _needs_no_wait(request, schemas):
        return None
    return Overlap((request.key,), batchable=True, may_repeat=may_repeat)


def _needs_no_wait(write: Any, schemas: SchemaSet) -> bool:
    """Return whether a write reaches the store in the step in which it is begun."""
    if isinstance(write, DeleteOperation):
        return True
    if isinstance(write, DeleteRequest):
        return write.pattern is None  # a step of a deletion by pattern reads first
    if not isinstance(write, SetRequest | SetOperation) or write.ttl is not None:
        return False
    if schemas.is_costly:
        return False
    schema = schemas.winner(write.key)
    return schema is None or schema.is_instant_with(bytes(write.value))
