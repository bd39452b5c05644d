"""Which one operation an update request asks for."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.request_schemas import UPDATES
from memx_server.domain.requests import (
    AppendOperation,
    Computed,
    IncrementOperation,
    MergeOperation,
    PatchOperation,
    TouchOperation,
    UpdateRequest,
)

_OPTIONS = ("minimum", "maximum", "cap", "ttl")


def operation_of(request: UpdateRequest) -> Computed | TouchOperation:
    """Return the operation in ``request``.

    Raises:
        ProtocolError: ``invalid_request`` unless it asks for exactly one, with its own options.
    """
    asked = [kind for kind in UPDATES if getattr(request, kind) is not UNSET]
    if len(asked) != 1:
        raise ProtocolError(
            "invalid_request",
            f"an update takes exactly one of {', '.join(UPDATES)}; this one has "
            + (" and ".join(asked) or "none"),
            field=asked[1] if asked else "merge",
        )
    _check_options(request, asked[0])
    return _operation(request)


def _operation(request: UpdateRequest) -> Computed | TouchOperation:
    key, ttl, history = request.key, request.ttl, request.history
    if not isinstance(request.merge, UnsetType):
        return MergeOperation(key=key, ttl=ttl, history=history, merge=request.merge)
    if not isinstance(request.patch, UnsetType):
        return PatchOperation(key=key, ttl=ttl, history=history, patch=request.patch)
    if not isinstance(request.append, UnsetType):
        return AppendOperation(
            key=key, ttl=ttl, history=history, append=request.append, cap=request.cap
        )
    if not isinstance(request.touch, UnsetType):
        return TouchOperation(key=key, touch=request.touch)
    assert not isinstance(request.increment, UnsetType)
    return IncrementOperation(
        key=key,
        ttl=ttl,
        history=history,
        increment=request.increment,
        minimum=request.minimum,
        maximum=request.maximum,
    )


def _check_options(request: UpdateRequest, kind: str) -> None:
    misplaced = [
        name
        for name in _OPTIONS
        if getattr(request, name) not in (UNSET, None) and name not in UPDATES[kind]
    ]
    if misplaced:
        raise ProtocolError(
            "invalid_request", f"{misplaced[0]} does not go with {kind}", field=misplaced[0]
        )
