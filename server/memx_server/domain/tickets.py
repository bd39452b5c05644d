"""Tickets: credentials for one connection, for browsers, whose WebSockets cannot send an API key in a header."""

from __future__ import annotations

import hashlib
import secrets

import msgspec

from memx_server.domain.caller import Caller
from memx_server.domain.requests import EmptyRequest
from memx_server.storage.base import StateStore

TICKET_SECONDS = 30

_GROUP = "tickets"


class TicketIssued(msgspec.Struct):
    """A ticket.

    Attributes:
        ticket: For the query of one connection: ``?ticket=...``.
        expires_in: Seconds until it opens nothing any more.
    """

    ticket: str
    expires_in: int
    ok: bool = True


class TicketHolder(msgspec.Struct):
    """Whom a ticket lets in.

    Attributes:
        credential: The digest of their API key.
        agent: What they called themselves when they asked for it.
    """

    credential: str
    agent: str | None


class Tickets:
    """Issues and redeems tickets; any worker redeems what another has issued.

    Only a ticket's digest is stored, so that who reads the store cannot use it.
    """

    def __init__(self, state: StateStore) -> None:
        self._state = state

    async def issue(self, caller: Caller, _: EmptyRequest) -> bytes:
        """Make a ticket that lets ``caller`` in once, as JSON text of a ``TicketIssued``."""
        ticket = secrets.token_urlsafe(32)
        holder = TicketHolder(caller.principal.credential, caller.agent)
        await self._state.put(
            _GROUP, _digest(ticket), msgspec.json.encode(holder), TICKET_SECONDS * 1000
        )
        return msgspec.json.encode(TicketIssued(ticket, TICKET_SECONDS))

    async def redeem(self, ticket: str) -> TicketHolder | None:
        """Return whom ``ticket`` lets in, once; None for one that is used, too old or made up."""
        held = await self._state.take(_GROUP, _digest(ticket))
        return None if held is None else msgspec.json.decode(held, type=TicketHolder)


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
