"""The order of one socket's writes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Generic, NamedTuple, TypeVar

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.requests import (
    DeleteOperation,
    DeleteRequest,
    SetOperation,
    SetRequest,
    TxnRequest,
)
from memx_server.domain.schema.cache import SchemaSet
from memx_server.routes.api.errors import unexpected
from memx_server.routes.api.operation import Call, Operation
from memx_server.routes.ws import frames

_TOGETHER = 48
"""Writes that are run together at the most: the peer is to send the next while the store has these."""

_WARM_SECONDS = 1.0
"""How long after a write that went well the next ones are taken to go straight to the store."""


Asked = TypeVar("Asked")
"""A write as it was asked for."""


class Pipelined(NamedTuple):
    """What lets a write go to the store at once.

    Attributes:
        keys: Those that it writes.
        together: Whether it may be run with others.
        again: Whether it may be sent again after the store has failed.
    """

    keys: Collection[str]
    together: bool
    again: bool


class WritePipeline(Generic[Asked]):
    """Lets writes happen in the order in which they were sent.

    A store applies commits in the order in which it gets them. So straight writes, which go to it
    at once, are begun one behind the other without waiting for answers; but none passes one of the
    same key that may be sent again when the store has failed. All other writes
    (those that read first, or wait for something, or come first after a pause or a failure, when
    the store may have to be prepared) have the socket's writes to themselves. And none that is checked
    by new rules passes one that was checked by others, and may have to be checked and sent again.

    Args:
        run: Runs a write, or several that may be run together, and answers them. It never raises;
            it returns whether the store answered.
        straight: Tells what a write that can go straight to the store needs; None of every other.
        rules: What writes are checked by at the moment; the same object as long as they are the same.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Asked]], Coroutine[Any, Any, bool]],
        straight: Callable[[Asked], Pipelined | None],
        rules: Callable[[], object],
    ) -> None:
        self._run = run
        self._straight = straight
        self._rules = rules
        self._known_rules: object = None
        self._waiting: deque[Asked] = deque()
        self._gathered: list[Asked] = []
        self._gathered_keys: set[str] = set()
        self._running: set[asyncio.Task[bool]] = set()
        self._running_keys: dict[str, asyncio.Task[bool]] = {}
        self._starting: asyncio.Task[None] | None = None
        self._warm_until = 0.0

    def add(self, asked: Asked) -> None:
        """Let a write have its turn."""
        self._waiting.append(asked)
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        while self._waiting:
            asked = self._waiting.popleft()
            straight = self._straight(asked)
            if straight is None or self._is_cold() or self._rules() is not self._known_rules:
                await self._settle_all()
                self._note(await self._run([asked]))
                self._known_rules = self._rules()
            else:
                await self._settle(straight.keys)
                self._gather(asked, straight)
        self._begin()
        self._starting = None

    def _gather(self, asked: Asked, straight: Pipelined) -> None:
        if not straight.together:
            self._begin()
        self._gathered.append(asked)
        if straight.again:
            self._gathered_keys.update(straight.keys)
        if not straight.together or len(self._gathered) >= _TOGETHER:
            self._begin()

    def _begin(self) -> None:
        """Run what has been gathered."""
        if not self._gathered:
            return
        keys = self._gathered_keys
        turn = self._turn(self._gathered, set(self._running), self._known_rules)
        task = asyncio.create_task(turn)
        self._gathered, self._gathered_keys = [], set()
        self._running.add(task)
        self._running_keys.update(dict.fromkeys(keys, task))
        task.add_done_callback(partial(self._ended, keys))

    async def _turn(
        self, asked: Sequence[Asked], before: Collection[asyncio.Task[bool]], rules: object
    ) -> bool:
        if before and self._rules() is not rules:
            await asyncio.wait(before)
        return await self._run(asked)

    def _ended(self, keys: Collection[str], task: asyncio.Task[bool]) -> None:
        self._running.discard(task)
        for key in keys:
            if self._running_keys.get(key) is task:
                del self._running_keys[key]
        self._note(not task.cancelled() and task.result())

    def _is_cold(self) -> bool:
        return time.monotonic() > self._warm_until

    def _note(self, answered: bool) -> None:
        self._warm_until = time.monotonic() + _WARM_SECONDS if answered else 0.0

    async def _settle(self, keys: Collection[str]) -> None:
        """Wait for the writes of ``keys`` that may be sent again."""
        if not self._gathered_keys.isdisjoint(keys):
            self._begin()
        if tasks := {self._running_keys[key] for key in keys if key in self._running_keys}:
            self._begin()
            await asyncio.wait(tasks)

    async def _settle_all(self) -> None:
        self._begin()
        if self._running:
            await asyncio.wait(self._running)


_UNANSWERED = frozenset({"unavailable", "internal"})
"""Outcomes after which the store may have to be prepared anew."""


class SocketWrite(NamedTuple):
    """A write that came over a socket."""

    id: frames.Id
    operation: Operation
    call: Call
    request: Any


def straight(asked: SocketWrite) -> Pipelined | None:
    """Tell what a write that goes straight to the store needs; None of every other write."""
    call, request = asked.call, asked.request
    again = call.idempotency_key is not None
    schemas = call.services.schemas.cached(call.space)
    if schemas is None:
        return None
    if isinstance(request, TxnRequest):
        operations = (*request.then, *request.else_)
        if request.if_ or not all(_is_straight(each, schemas) for each in operations):
            return None
        return Pipelined([each.key for each in operations], together=False, again=again)
    if not _is_straight(request, schemas):
        return None
    return Pipelined((request.key,), call.services.rates is None, again)


def _is_straight(write: Any, schemas: SchemaSet) -> bool:
    if isinstance(write, DeleteRequest | DeleteOperation):
        return True
    if not isinstance(write, SetRequest | SetOperation) or write.ttl is not None:
        return False
    schema = schemas.winner(write.key)
    return schema is None or schema.is_quick_with(len(bytes(write.value)))


async def run_together(
    asked: Sequence[SocketWrite], send: Callable[[Sequence[bytes]], None]
) -> bool:
    """Run sets and deletes of one socket and have them answered.

    Returns:
        Whether the store answered.
    """
    call, begun = asked[0].call, perf_counter()
    call.services.presence.seen(call)
    try:
        found = await call.memory.write_each([(each.call, each.request) for each in asked])
    except ProtocolError as error:
        found = [error] * len(asked)
    except Exception as error:  # noqa: BLE001 - nobody else is there to turn it into an answer
        found = [unexpected(error)] * len(asked)
    send(
        [
            frames.error_answer(each.id, answer)
            if isinstance(answer, ProtocolError)
            else frames.answer(each.id, each.operation, answer)
            for each, answer in zip(asked, found, strict=True)
        ]
    )
    outcomes = Counter(
        (each.operation.name, answer.code if isinstance(answer, ProtocolError) else "ok")
        for each, answer in zip(asked, found, strict=True)
    )
    seconds = perf_counter() - begun
    for (name, outcome), number in outcomes.items():
        call.services.requests.count(name, outcome, seconds, number)
    return not any(outcome in _UNANSWERED for _, outcome in outcomes)
