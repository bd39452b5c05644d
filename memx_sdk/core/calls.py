"""A call: what to send, and how to read what comes back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

from memx_sdk.core import values
from memx_sdk.core.transport import Request
from memx_sdk.errors import InvalidRequestError
from memx_sdk.protocol.durability import Durability
from memx_sdk.protocol.idempotency import LONGEST_KEY, RETRY_PREFIX

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One operation of the API.

    Attributes:
        request: What to send, any number of times.
        read: Makes the result from the answer's JSON text.
    """

    request: Request
    read: Callable[[bytes], T]


def given(**members: Any) -> dict[str, bytes]:
    """Encode the members that are not None, as a request's fields."""
    return {name: values.encode(member) for name, member in members.items() if member is not None}


def reading(
    op: str, path: str, fields: Mapping[str, bytes], *, method: str = "GET", patience: float = 0.0
) -> Request:
    """Make the request of an operation that changes nothing."""
    return Request(op=op, method=method, path=path, fields=fields, patience=patience)


def writing(
    op: str,
    path: str,
    fields: Mapping[str, bytes],
    *,
    method: str = "POST",
    idempotency_key: str | None = None,
    durability: Durability | None = None,
) -> Request:
    """Make the request of a write, under an idempotency key of its own if it is given none.

    A key that is made here serves the retries of this one request; its prefix says so, and a server
    keeps the result under it for minutes and not for a day.

    Raises:
        InvalidRequestError: The idempotency key, or the durability, cannot be.
    """
    # Made once with the request and not at each attempt: the repetition of a write whose answer was
    # lost must come under the same key to be applied once.
    key = f"{RETRY_PREFIX}{uuid.uuid4().hex}" if idempotency_key is None else idempotency_key
    # Looked at here, since a line break in it would end the header in which HTTP carries it.
    if not (0 < len(key) <= LONGEST_KEY and key.isprintable()):
        raise InvalidRequestError(
            "invalid_request",
            f"an idempotency key has 1 to {LONGEST_KEY} printable characters",
            {"field": "idempotency_key"},
        )
    # Here for the same reason, and since a word that is none would be an error of the server for every write.
    if durability is not None and durability not in get_args(Durability):
        raise InvalidRequestError(
            "invalid_request",
            f"durability takes {', '.join(get_args(Durability))}; not {durability!r}",
            {"field": "durability"},
        )
    return Request(
        op=op,
        method=method,
        path=path,
        fields=fields,
        idempotency_key=key,
        durability=durability,
    )
