"""Who opens a connection."""

from __future__ import annotations

from memx_server.routes.api.credentials import read_headers
from memx_server.routes.api.operation import Call
from memx_server.routes.api.origin_checks import check_origin
from memx_server.routes.api.tickets import admit, take_ticket
from memx_server.routes.http.endpoint import Scope
from memx_server.services import Services


async def identify(scope: Scope, services: Services) -> Call:
    """Return the caller that the headers of a request or handshake name, or its ticket.

    Raises:
        ProtocolError: As ``Authenticator.authenticate``; ``invalid_request`` for a malformed agent;
            ``forbidden`` for a page that may not connect, or a ticket that opens nothing;
            ``rate_limited``.
    """
    settings = services.settings
    check_origin(scope, settings.allowed_hosts, settings.allowed_origins)
    ticket = take_ticket(scope)
    presented = read_headers(scope["headers"])
    if ticket is not None and presented.credential is None:
        principal, agent = await admit(ticket, services)
        agent = presented.agent or agent
    else:
        principal = await services.authenticator.authenticate(presented.credential)
        agent = presented.agent
    if services.rates is not None:
        await services.rates.admit(principal)
    return Call(principal, agent, services=services)
