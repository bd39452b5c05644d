"""The form of an operation in the table, and the call that runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from memx_server.domain.access import Caller
from memx_server.domain.memory.memory import Memory
from memx_server.services import Services


class Call(Caller, kw_only=True):
    """One request by a caller, with the services that answer it."""

    services: Services

    @property
    def memory(self) -> Memory:
        """Every operation on entries, schemas and the change log."""
        return self.services.memory


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a client can request.

    Attributes:
        name: What ``op`` says on a socket.
        method: The HTTP method.
        path: The HTTP path.
        request: The struct that its parameters become: the query of a GET, the body of a POST,
            either of a DELETE.
        answer: The type of the response, as response_schemas describes it.
        run: Runs the operation and returns the response's JSON text.
        summary: One line for the documentation.
        example: Parameters that work as shown when the examples run in the table's order.
        errors: The codes of the errors that it may raise, beside those that any request may get.
        member: The member of a socket's frame that holds a response which need not be an object.
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
    """Make an operation's ``run`` from a method of the memory."""

    def run(call: Call, request: msgspec.Struct) -> Awaitable[bytes]:
        return method(call.services.memory, call, request)

    return run
