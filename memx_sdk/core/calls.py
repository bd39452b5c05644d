"""A call: what to send, and how to read what comes back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from memx_sdk.core import values
from memx_sdk.transport import Request

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
) -> Request:
    """Make the request of a write, under an idempotency key of its own if it is given none."""
    return Request(
        op=op,
        method=method,
        path=path,
        fields=fields,
        idempotency_key=idempotency_key or uuid.uuid4().hex,
    )
