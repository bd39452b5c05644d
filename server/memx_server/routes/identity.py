"""Who opens a connection."""

from __future__ import annotations

from memx_server.routes.credentials import read_headers
from memx_server.routes.http import Scope
from memx_server.routes.operation import Call
from memx_server.services import Services


async def identify(scope: Scope, services: Services) -> Call:
    """Return the caller that the headers of a request or handshake name.

    Raises:
        ProtocolError: As ``Authenticator.authenticate``; ``invalid_request`` for a malformed agent.
    """
    presented = read_headers(scope["headers"])
    principal = await services.authenticator.authenticate(presented.credential)
    return Call(principal, presented.agent, services=services)
