"""The frames of ``/ws``, over which every operation and subscription of a context runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from memx_sdk.core.transport import Request, Response
from memx_sdk.protocol.errors import STATUS_BY_CODE

_TRUE: Final = msgspec.Raw(b"true")

_MEMBER_BY_OP: Final[Mapping[str, str]] = {"get": "entry"}
"""The member of its frame that holds an answer which need not be an object."""

_WITHOUT_OK: Final = frozenset({"whoami", "get_schema", "presence", "changes"})
"""Operations that answer without an ``ok`` over HTTP, whose answers users see whole."""


class Frame(msgspec.Struct):
    """What tells whom a frame of the server is for.

    Attributes:
        id: The request that it answers.
        ok: Whether that was a success.
        sub: The subscription that it belongs to, or that it opens.
        event: The kind of a subscription's message.
    """

    id: int | None = None
    ok: bool | None = None
    sub: int | None = None
    event: str | None = None


read_frame = msgspec.json.Decoder(Frame).decode
"""Read the part of a frame that tells whom it is for; the rest is not looked at."""


def request_frame(number: int, request: Request) -> bytes:
    """Write a request as a frame."""
    members: dict[str, Any] = {"id": number, "op": request.op}
    for name, text in request.fields.items():
        # The fields are JSON text already. They are put in as they are, so that a value reaches the
        # server byte for byte as on HTTP.
        members[name] = msgspec.Raw(text)
    if request.idempotency_key is not None:
        members["idempotency_key"] = request.idempotency_key
    if request.durability is not None:
        members["durability"] = request.durability
    return _write(members)


def subscribe_frame(number: int, pattern: str, query: Mapping[str, str]) -> bytes:
    """Write the frame that opens a subscription; ``query`` is as for ``/subscribe``."""
    members: dict[str, Any] = {"id": number, "op": "subscribe", "pattern": pattern}
    for name, value in query.items():
        # On HTTP all parameters are texts; in a frame a flag is a boolean. No cursor and no pattern
        # comes this way as ``true``.
        members[name] = True if value == "true" else value
    return _write(members)


def unsubscribe_frame(number: int, sub: int) -> bytes:
    """Write the frame that ends a subscription."""
    return _write({"id": number, "op": "unsubscribe", "sub": sub})


def read_response(op: str, text: bytes) -> Response:
    """Read the frame that answers an operation, as HTTP would have answered it."""
    # Only the outer object is taken apart; what is in it stays text until the call reads it.
    members = _read_members(text)
    # The number is the transport's own business: with it left in, an answer that users see whole
    # would differ by transport.
    members.pop("id", None)
    if members.get("ok") == _TRUE:
        # Over HTTP a ``get`` answers the entry itself, or null. A frame must be an object, so there
        # it is a member.
        member = _MEMBER_BY_OP.get(op)
        if op in _WITHOUT_OK:
            del members["ok"]
        return Response(200, bytes(members[member]) if member in members else _write(members))
    # A frame has no status. The code of the error stands for one, by the table that the server
    # answers HTTP by; an unknown code of a newer server counts as a failure of the server.
    code = msgspec.json.decode(members.get("error", b'"internal"'), type=str)
    return Response(STATUS_BY_CODE.get(code, 500), _write(members))


_read_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_write = msgspec.json.Encoder().encode
