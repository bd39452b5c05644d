"""``POST /ticket``, and connections that present a ticket."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from memx_server.domain.requests import EmptyRequest
from memx_server.domain.tickets import TicketIssued
from memx_server.routes.api.operation import Call, Operation
from memx_server.routes.asgi import Scope


async def _issue(call: Call, request: EmptyRequest) -> bytes:
    return await call.services.tickets.issue(call, request)


TICKET = Operation(
    "ticket",
    "POST",
    "/ticket",
    EmptyRequest,
    TicketIssued,
    _issue,
    "Get a credential for one WebSocket or event stream of a browser, good for 30 seconds",
    errors=("quota_exceeded",),
)


def take_ticket(scope: Scope) -> str | None:
    """Take the ticket out of a connection's query, so that nothing behind sees or logs it."""
    query: bytes = scope["query_string"]
    if b"ticket=" not in query:
        return None
    # latin-1 maps each byte to one character and back: the rest of the query stays as it came.
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    tickets = [value for name, value in pairs if name == "ticket"]
    rest = [(name, value) for name, value in pairs if name != "ticket"]
    scope["query_string"] = urlencode(rest, encoding="latin-1").encode()
    return tickets[0] if tickets else None
