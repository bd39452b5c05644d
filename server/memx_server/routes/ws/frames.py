"""The frames of ``/ws``: requests read, answers written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.values import check_exact
from memx_server.routes.api.decoding import explain
from memx_server.routes.api.errors import error_body
from memx_server.routes.api.operation import Operation
from memx_server.routes.api.operations import OPERATIONS
from memx_server.routes.streaming.subscribe_request import SubscribeRequest

Id = int | Annotated[str, Meta(max_length=64)]


class Frame(msgspec.Struct, kw_only=True):
    """What every frame of a client holds.

    Attributes:
        id: Comes back in the answer.
        op: What to do.
    """

    id: Id
    op: str


class UnsubscribeRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Hear no more of a subscription."""

    sub: int


class PingRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Ask for a sign of life."""


BY_NAME: dict[str, Operation] = {operation.name: operation for operation in OPERATIONS}
CONTROLS: dict[str, type[msgspec.Struct]] = {
    "subscribe": SubscribeRequest,
    "unsubscribe": UnsubscribeRequest,
    "ping": PingRequest,
}

_encode = msgspec.json.Encoder().encode
_read_head = msgspec.json.Decoder(Frame).decode


def _decoder(request: type[msgspec.Struct], *, writes: bool = False) -> Callable[[bytes], Any]:
    """Make what reads a frame as ``request`` with the frame's own members beside."""
    members: list[Any] = [("id", Id), ("op", str)]
    if writes:
        members.append(("idempotency_key", str | None, None))
    envelope = msgspec.defstruct(
        request.__name__, members, bases=(request,), kw_only=True, forbid_unknown_fields=True
    )
    return msgspec.json.Decoder(envelope).decode


_decoders: dict[str, Callable[[bytes], Any]] = {
    **{name: _decoder(each.request, writes=each.writes) for name, each in BY_NAME.items()},
    **{name: _decoder(request) for name, request in CONTROLS.items()},
}


def read_head(text: bytes) -> Frame:
    """Read which request a frame is.

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
    """Read the request of a frame.

    Raises:
        ProtocolError: ``invalid_json``, or ``invalid_request`` with the ``field`` at fault.
    """
    decode = _decoders.get(head.op)
    if decode is None:
        raise ProtocolError(
            "invalid_request",
            f"there is no op {head.op!r}; there are {', '.join(sorted(_decoders))}",
            field="op",
        )
    check_exact(text)
    try:
        return decode(text)
    except msgspec.ValidationError as error:
        request = BY_NAME[head.op].request if head.op in BY_NAME else CONTROLS[head.op]
        raise explain(error, request) from None


def without_envelope(request: msgspec.Struct) -> msgspec.Struct:
    """Return the request alone: sent again under another ``id``, or over HTTP, it is the same."""
    kind: type[msgspec.Struct] = type(request).__bases__[0]
    return kind(**{name: getattr(request, name) for name in kind.__struct_fields__})


def answer(id: Id, operation: Operation, text: bytes) -> bytes:
    """Write the frame that answers request ``id``; ``text`` is the operation's answer."""
    prefix = b'{"id":%b,' % _encode(id)
    if operation.member is not None:
        return b'%b"ok":true,"%b":%b}' % (prefix, operation.member.encode(), text)
    if text.startswith(b'{"ok":true'):
        return prefix + text[1:]
    return b'%b"ok":true,%b' % (prefix, text[1:])


def plain_answer(id: Id, **members: Any) -> bytes:
    """Write the frame that answers a request that is about the socket itself."""
    return _encode({"id": id, "ok": True, **members})


def error_answer(id: Id | None, error: ProtocolError) -> bytes:
    """Write the frame that refuses request ``id`` (None: a frame in which none could be read)."""
    return b'{"id":%b,"ok":false,%b' % (_encode(id), error_body(error)[1:])


def end_of(error: ProtocolError) -> bytes:
    """Write the last frame of a subscription that cannot go on."""
    return b'{"event":"end",%b' % error_body(error)[1:]
