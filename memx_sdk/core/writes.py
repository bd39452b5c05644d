"""The operations that change something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from memx_sdk.core import values
from memx_sdk.core.calls import Call, given, writing
from memx_sdk.core.responses import decode_object
from memx_sdk.core.transport import Request
from memx_sdk.models import Entry, TxnResult, WriteResult
from memx_sdk.protocol.durability import Durability


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What every write of one key may add.

    Attributes:
        if_revision: Write only if the entry has this revision; 0: only if there is none.
        ttl: Seconds until the entry expires.
        reason: Why, for the log.
        history: Whether the log keeps the value.
        logged: Whether the log tells of the key at all; None for what holds already.
        idempotency_key: Names the write, so that sending it again applies it once.
        durability: How safe it is to be when it is answered; None for the server's setting.
    """

    if_revision: int | None = None
    ttl: float | None = None
    reason: str | None = None
    history: bool = True
    logged: bool | None = None
    idempotency_key: str | None = None
    durability: Durability | None = None

    def fields(self) -> dict[str, bytes]:
        """The options as fields of a request, as far as they are given."""
        return given(
            if_revision=self.if_revision,
            ttl=self.ttl,
            reason=self.reason,
            # Sent only where it is off: on is what a write without it means.
            history=None if self.history else False,
            logged=self.logged,
        )

    def writing(
        self, op: str, path: str, fields: Mapping[str, bytes], *, method: str = "POST"
    ) -> Request:
        """Make the request of a write with what of the options is no field."""
        key, durability = self.idempotency_key, self.durability
        return writing(op, path, fields, method=method, idempotency_key=key, durability=durability)


class DeletedPage(NamedTuple):
    """One step of a deletion by pattern: how many keys are gone; ``next`` asks for the step behind it."""

    deleted: int
    next: str | None


def set(key: str, value: Any, options: WriteOptions) -> Call[WriteResult]:
    """Set an entry."""
    # The value is not among the fields that ``given`` makes: a None there is left out, while here
    # it is null.
    fields = {**given(key=key), "value": values.encode(value), **options.fields()}
    request = options.writing("set", "/set", fields)
    return Call(request, lambda body: WriteResult(decode_object(body)))


def delete(key: str, options: WriteOptions) -> Call[WriteResult]:
    """Remove an entry."""
    fields = {**given(key=key), **options.fields()}
    request = options.writing("delete", "/delete", fields, method="DELETE")
    return Call(request, lambda body: WriteResult(decode_object(body)))


def delete_pattern(
    pattern: str, *, limit: int | None, after: str | None, reason: str | None
) -> Call[DeletedPage]:
    """Remove one step's worth of the keys that match a pattern."""
    # Each step has an idempotency key of its own: sent again, it counts what it removed the first time.
    fields = given(pattern=pattern, limit=limit, cursor=after, reason=reason)
    return Call(writing("delete", "/delete", fields, method="DELETE"), _deleted_page)


def update(
    key: str, kind: str, argument: Any, options: WriteOptions, **details: Any
) -> Call[Entry]:
    """Change an entry in place.

    Args:
        key: The key.
        kind: ``merge``, ``patch``, ``increment``, ``append`` or ``touch``.
        argument: What to merge, append ...; None stands for itself.
        options: As on every write.
        **details: ``minimum``, ``maximum``, ``cap``, as far as they are not None.
    """
    fields = {
        **given(key=key, **details),
        # For a touch None is an argument: never expire.
        kind: values.encode(argument),
        **options.fields(),
    }
    request = options.writing("update", "/update", fields)
    return Call(request, lambda body: Entry(decode_object(body)))


def txn(
    compares: Iterable[Mapping[str, Any]],
    then: Sequence[Mapping[str, Any]],
    otherwise: Sequence[Mapping[str, Any]],
    options: WriteOptions,
) -> Call[TxnResult]:
    """Compare, then run one of two lists of operations."""
    fields = {
        # Lists, since callers may give generators, which the encoder does not take.
        "if": values.encode(list(compares)),
        "then": values.encode(list(then)),
        "else": values.encode(list(otherwise)),
        **options.fields(),
    }
    request = options.writing("txn", "/txn", fields)
    return Call(request, lambda body: TxnResult(decode_object(body)))


def set_schema(key: str, schema: Any, durability: Durability | None) -> Call[dict[str, Any]]:
    """Register a schema, or that of a model."""
    fields = {**given(key=key), "schema": values.encode(values.schema_of(schema))}
    return Call(writing("set_schema", "/schema", fields, durability=durability), decode_object)


def delete_schema(key: str, durability: Durability | None) -> Call[dict[str, Any]]:
    """Remove a schema."""
    request = writing(
        "delete_schema", "/schema", given(key=key), method="DELETE", durability=durability
    )
    return Call(request, decode_object)


def _deleted_page(body: bytes) -> DeletedPage:
    answer = decode_object(body)
    return DeletedPage(int(answer.get("deleted", 0)), answer.get("next"))
