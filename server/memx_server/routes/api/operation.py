"""What an operation is, and what runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from memx_server.domain.caller import Caller
from memx_server.domain.memory.memory import Memory
from memx_server.services import Services


class Call(Caller, kw_only=True):
    """One request by a caller, and what serves it."""

    services: Services

    @property
    def memory(self) -> Memory:
        """Every operation on entries, schemas and the change log."""
        return self.services.memory


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a client can ask for.

    Attributes:
        name: What ``op`` says on a socket.
        method: The HTTP method.
        path: The HTTP path.
        request: The struct that its parameters become: the query of a GET, the body of a POST,
            either of a DELETE.
        answer: The type that describes the answer.
        run: Does it; returns the answer's JSON text.
        summary: One line for the documentation.
        example: Parameters that work as shown when the examples run in the table's order.
        errors: The codes it may answer, beside those that any request may get.
        member: Where a socket's answer holds an answer that need not be an object.
        writes: Whether an ``Idempotency-Key`` makes it happen once.
    """

    name: str
    method: str
    path: str
    request: type[msgspec.Struct]
    answer: Any
    run: Callable[[Call, Any], Awaitable[bytes]]
    summary: str
    example: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    member: str | None = None
    writes: bool = False


def on_memory(
    method: Callable[[Memory, Caller, Any], Awaitable[bytes]],
) -> Callable[[Call, Any], Awaitable[bytes]]:
    """Make an operation's ``run`` of a method of the memory."""

    def run(call: Call, request: msgspec.Struct) -> Awaitable[bytes]:
        return method(call.services.memory, call, request)

    return run
