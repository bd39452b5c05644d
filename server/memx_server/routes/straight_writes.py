"""Writes that go straight to the store: which those of a socket are, and several of them run together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.requests import (
    DeleteOperation,
    DeleteRequest,
    SetOperation,
    SetRequest,
    TxnRequest,
)
from memx_server.domain.schemas import SchemaSet
from memx_server.routes import frames
from memx_server.routes.errors import unexpected
from memx_server.routes.operation import Call, Operation
from memx_server.routes.write_order import Straight

_UNANSWERED = frozenset({"unavailable", "internal"})
"""Outcomes after which the store may have to be prepared anew."""


class Asked(NamedTuple):
    """A write that came over a socket."""

    id: frames.Id
    operation: Operation
    call: Call
    request: Any


def straight(asked: Asked) -> Straight | None:
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
        return Straight([each.key for each in operations], together=False, again=again)
    if not _is_straight(request, schemas):
        return None
    return Straight((request.key,), call.services.rates is None, again)


def _is_straight(write: Any, schemas: SchemaSet) -> bool:
    if isinstance(write, DeleteRequest | DeleteOperation):
        return True
    if not isinstance(write, SetRequest | SetOperation) or write.ttl is not None:
        return False
    schema = schemas.winner(write.key)
    return schema is None or schema.is_quick_with(len(bytes(write.value)))


async def run_together(asked: Sequence[Asked], send: Callable[[Sequence[bytes]], None]) -> bool:
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
