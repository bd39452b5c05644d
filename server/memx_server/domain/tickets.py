"""Tickets: credentials for one connection of a browser, whose WebSockets cannot send headers."""

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
    """The caller that a ticket lets in.

    Attributes:
        credential: The digest of its API key.
        agent: The agent's name of the request that was answered with the ticket.
    """

    credential: str
    agent: str | None


class Tickets:
    """Issues and redeems tickets; any worker redeems a ticket of any other.

    Only a ticket's digest is stored, so that a reader of the store cannot use it.

    Args:
        state: Where they are kept.
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
        """Return the holder of ``ticket``, once; None for one that is used, too old or made up."""
        held = await self._state.take(_GROUP, _digest(ticket))
        return None if held is None else msgspec.json.decode(held, type=TicketHolder)


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
