"""``POST /ticket``, and connections that present a ticket."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.access import Principal
from memx_server.domain.requests import EmptyRequest
from memx_server.domain.tickets import TicketIssued, Tickets
from memx_server.routes.api.operation import Call, Operation
from memx_server.services import Services

if TYPE_CHECKING:
    from memx_server.routes.http.endpoint import Scope  # it imports the table of operations


async def _issue(call: Call, request: EmptyRequest) -> bytes:
    return await Tickets(call.services.store.state).issue(call, request)


TICKET = Operation(
    "ticket",
    "POST",
    "/ticket",
    EmptyRequest,
    TicketIssued,
    _issue,
    "Get a credential for one WebSocket or event stream of a browser, good for 30 seconds",
)


def take_ticket(scope: Scope) -> str | None:
    """Take the ticket out of a connection's query, so that nothing behind sees or logs it."""
    query: bytes = scope["query_string"]
    if b"ticket=" not in query:
        return None
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    tickets = [value for name, value in pairs if name == "ticket"]
    rest = [(name, value) for name, value in pairs if name != "ticket"]
    scope["query_string"] = urlencode(rest, encoding="latin-1").encode()
    return tickets[0] if tickets else None


async def admit(ticket: str, services: Services) -> tuple[Principal, str | None]:
    """Return who a ticket lets in, and the agent's name.

    Raises:
        ProtocolError: ``forbidden`` when it opens nothing, or the API key behind it does not any more.
    """
    holder = await Tickets(services.store.state).redeem(ticket)
    principal = None if holder is None else await services.authenticator.current(holder.credential)
    if holder is None or principal is None:
        raise ProtocolError(
            "forbidden", "this ticket was used or has expired; get a new one with POST /ticket"
        )
    return principal, holder.agent
