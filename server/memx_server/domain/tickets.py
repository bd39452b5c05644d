"""Tickets: credentials for one connection of a browser, whose WebSockets cannot send headers."""

from __future__ import annotations

import hashlib
import secrets

import msgspec

from memx_sdk.protocol.errors import ProtocolError
from memx_server.domain.access import Caller
from memx_server.domain.requests import EmptyRequest
from memx_server.storage.base import GroupFull, StateStore

TICKET_SECONDS = 30

_SEPARATOR = "."


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

    Only a ticket's digest is stored, so that a reader of the store cannot use it. A ticket begins with
    a digest of its space, in whose name it is counted.

    Args:
        state: Where they are kept.
        most: How many tickets of a space may wait to be used.
    """

    def __init__(self, state: StateStore, most: int) -> None:
        self._state = state
        self._most = most

    async def issue(self, caller: Caller, _: EmptyRequest) -> bytes:
        """Make a ticket that lets ``caller`` in once, as JSON text of a ``TicketIssued``.

        Raises:
            ProtocolError: ``quota_exceeded`` where too many of the space wait to be used.
        """
        space = hashlib.blake2b(caller.space.encode(), digest_size=8).hexdigest()
        ticket = f"{space}{_SEPARATOR}{secrets.token_urlsafe(32)}"
        holder = msgspec.json.encode(TicketHolder(caller.principal.credential, caller.agent))
        lifetime = TICKET_SECONDS * 1000
        try:
            await self._state.put(
                _group(ticket), _digest(ticket), holder, lifetime, most=self._most
            )
        except GroupFull:
            raise ProtocolError(
                "quota_exceeded",
                f"{self._most} tickets of this space wait to be used, which is the limit; each is "
                f"good for {TICKET_SECONDS} seconds at the most",
                limit="tickets",
            ) from None
        return msgspec.json.encode(TicketIssued(ticket, TICKET_SECONDS))

    async def redeem(self, ticket: str) -> TicketHolder | None:
        """Return the holder of ``ticket``, once; None for one that is used, too old or made up."""
        # Taken, not read: of two connections that present it at once, one gets in.
        held = await self._state.take(_group(ticket), _digest(ticket))
        return None if held is None else msgspec.json.decode(held, type=TicketHolder)


def _group(ticket: str) -> str:
    space, _, _ = ticket.partition(_SEPARATOR)
    return f"tickets\0{space}"


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
