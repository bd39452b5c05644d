"""The operations on durable subscriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from memx_server.domain.access import Caller
from memx_server.domain.feed import durable
from memx_server.domain.feed.durable import Durable
from memx_server.domain.requests import EmptyRequest
from memx_server.routes.api.operation import Call, Operation

_HOLDER: Final = {"name": "critic", "holder": "5f0c6f1e9b"}


def _on_durable(
    method: Callable[[Durable, Caller, Any], Awaitable[bytes]],
) -> Callable[[Call, Any], Awaitable[bytes]]:
    def run(call: Call, request: msgspec.Struct) -> Awaitable[bytes]:
        return method(call.services.durable, call, request)

    return run


DURABLE: tuple[Operation, ...] = (
    Operation(
        "durable_claim",
        "POST",
        "/durable/claim",
        durable.ClaimRequest,
        durable.Claimed,
        _on_durable(Durable.claim),
        "Take over a durable subscription: where to go on, and nobody else does",
        example=_HOLDER,
        errors=("quota_exceeded",),
    ),
    Operation(
        "durable_ack",
        "POST",
        "/durable/ack",
        durable.AckRequest,
        durable.Acknowledged,
        _on_durable(Durable.ack),
        "Say how far you have got, or learn that another has taken over",
        example=_HOLDER,
        errors=("taken_over", "invalid_cursor", "quota_exceeded"),
    ),
    Operation(
        "durable_list",
        "GET",
        "/durable",
        EmptyRequest,
        durable.Listing,
        _on_durable(Durable.list),
        "List your durable subscriptions",
    ),
    Operation(
        "durable_release",
        "POST",
        "/durable/release",
        durable.ClaimRequest,
        durable.Acknowledged,
        _on_durable(Durable.release),
        "Leave a durable subscription to the next holder",
        example=_HOLDER,
    ),
    Operation(
        "durable_forget",
        "DELETE",
        "/durable",
        durable.NameRequest,
        durable.Forgotten,
        _on_durable(Durable.forget),
        "Drop a durable subscription with its cursor",
        example={"name": "critic"},
    ),
)
