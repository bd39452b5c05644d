"""The frames of ``/ws``: reading requests, writing responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.values import check_exact
from memx_server.routes.api.decoding import explain
from memx_server.routes.api.errors import error_body
from memx_server.routes.api.operation import Call, Operation
from memx_server.routes.api.operations import OPERATIONS
from memx_server.routes.streaming.subscribe_request import SubscribeRequest

Id = int | Annotated[str, Meta(max_length=64)]


class Frame(msgspec.Struct, kw_only=True):
    """The members that every frame of a client has.

    Attributes:
        id: The client's name of the request; the response carries it.
        op: The name of an operation, or of a control of the socket.
    """

    id: Id
    op: str


class UnsubscribeRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """End a subscription."""

    sub: int


class PingRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Request a response and nothing else: a sign of life."""


BY_NAME: dict[str, Operation] = {operation.name: operation for operation in OPERATIONS}
CONTROLS: dict[str, type[msgspec.Struct]] = {
    "subscribe": SubscribeRequest,
    "unsubscribe": UnsubscribeRequest,
    "ping": PingRequest,
}

_WITH_OK = {
    each.name for each in OPERATIONS if "ok" in getattr(each.answer, "__struct_fields__", ())
}
"""Operations whose response has a member ``ok`` of its own."""


class SocketRequest(NamedTuple):
    """A request for an operation that came over a socket."""

    id: Id
    operation: Operation
    call: Call
    request: Any


_encode = msgspec.json.Encoder().encode
_read_head = msgspec.json.Decoder(Frame).decode


def _decoder(request: type[msgspec.Struct], *, writes: bool = False) -> Callable[[bytes], Any]:
    """Make the decoder of a frame: ``request``, with the frame's own members beside."""
    # One struct with the members of both: msgspec reads the frame in one pass, and refuses what neither has.
    members: list[Any] = [("id", Id), ("op", str)]
    if writes:
        members.append(("idempotency_key", str | None, None))
        members.append(("durability", str | None, None))
    envelope = msgspec.defstruct(
        request.__name__, members, bases=(request,), kw_only=True, forbid_unknown_fields=True
    )
    return msgspec.json.Decoder(envelope).decode


_decoders: dict[str, Callable[[bytes], Any]] = {
    **{name: _decoder(each.request, writes=each.writes) for name, each in BY_NAME.items()},
    **{name: _decoder(request) for name, request in CONTROLS.items()},
}


def read_head(text: bytes) -> Frame:
    """Read the envelope of a frame: its ``id`` and ``op``.

    Raises:
        ProtocolError: ``invalid_json``, or ``invalid_request`` with the ``field`` at fault.
    """
    try:
        return _read_head(text)
    except msgspec.ValidationError as error:
        raise explain(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        check_exact(text)
        raise ProtocolError("invalid_json", "the frame is no JSON object") from None


def read_request(head: Frame, text: bytes) -> Any:
    """Read the request of a frame whose text is exact JSON (see ``Evaluator.read``).

    Raises:
        ProtocolError: ``invalid_json``, or ``invalid_request`` with the ``field`` at fault.
    """
    decode = _decoders.get(head.op)
    if decode is None:
        raise ProtocolError(
            "invalid_request",
            f"there is no op {head.op[:64]!r}; there are {', '.join(sorted(_decoders))}",
            field="op",
        )
    try:
        return decode(text)
    except msgspec.ValidationError as error:
        request = BY_NAME[head.op].request if head.op in BY_NAME else CONTROLS[head.op]
        raise explain(error, request) from None


def without_envelope(request: msgspec.Struct) -> msgspec.Struct:
    """Return the request alone.

    An idempotency key stands for the request whatever its ``id``, and over HTTP too.
    """
    # `_decoder` made the envelope's struct with the request's struct as its one base.
    kind: type[msgspec.Struct] = type(request).__bases__[0]
    return kind(**{name: getattr(request, name) for name in kind.__struct_fields__})


def response(id: Id, operation: Operation, text: bytes) -> bytes:
    """Write the frame of a response; ``text`` is the operation's JSON."""
    # The response's text is joined, not parsed: it may hold a value of a megabyte.
    prefix = b'{"id":%b,' % _encode(id)
    if operation.member is not None:
        return b'%b"ok":true,"%b":%b}' % (prefix, operation.member.encode(), text)
    if operation.name in _WITH_OK:
        return prefix + text[1:]
    return b'%b"ok":true,%b' % (prefix, text[1:])


def control_response(id: Id, **members: Any) -> bytes:
    """Write the frame of a response to a control of the socket."""
    return _encode({"id": id, "ok": True, **members})


def error_response(id: Id | None, error: ProtocolError) -> bytes:
    """Write the frame that refuses request ``id`` (None: a frame in which none could be read)."""
    if "id" in error.extra:
        # The name of an entry in the server's log gives way to that of the request.
        extra = {"log_id" if name == "id" else name: each for name, each in error.extra.items()}
        error = ProtocolError(error.code, error.detail, **extra)
    return b'{"id":%b,"ok":false,%b' % (_encode(id), error_body(error)[1:])


def end_of(error: ProtocolError) -> bytes:
    """Write the last frame of a subscription that cannot go on."""
    return b'{"event":"end",%b' % error_body(error)[1:]
