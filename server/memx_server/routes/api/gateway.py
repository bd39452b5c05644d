"""The one way in: identification, rate limit, presence, errors and counters of every request.

A request may come over HTTP, alone over ``WS /ws``, in a batch of reads or writes of ``WS /ws``, or it may open a
subscription or a connection. All of them pass ``Gateway.run``, so that a rule that is added there holds on every road.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, TypeVar

from memx_sdk.protocol.errors import ProtocolError
from memx_server.auth.grants import oauth_credential
from memx_server.auth.sample_keys import SAMPLE_CREDENTIALS
from memx_server.domain.access import Principal
from memx_server.domain.rate_limit import RateLimiter
from memx_server.routes.api.decoding import KNOWN_HEAD, RequestCredentials, read_headers
from memx_server.routes.api.errors import unexpected
from memx_server.routes.api.operation import Call
from memx_server.routes.api.origin_checks import check_origin
from memx_server.routes.api.sample_key_rule import check_sample_key
from memx_server.routes.api.tickets import take_ticket
from memx_server.routes.asgi import OAUTH_SUBJECT, Scope
from memx_server.routes.peers import note_identified
from memx_server.services import Services

T = TypeVar("T")

Identify = Callable[[], Awaitable[Call]]
Work = Callable[[Call, int], Awaitable[Sequence[T | ProtocolError]]]

HANDSHAKE = "connect"
"""Opens a socket that subscribes to nothing yet."""
SUBSCRIBE = "subscribe"
"""Opens a subscription, over whichever road."""

_NO_ACTIVITY = frozenset({HANDSHAKE, SUBSCRIBE})
"""What does not make its caller present: nobody is at work by a handshake alone, and a subscription does so as it
begins, together with what its caller listens to."""

_RELEASING = frozenset({"unsubscribe"})
"""What only gives back what the server holds. No rate limit refuses it: the client would go on to be sent events."""


class Gateway:
    """Lets requests in, runs them, and turns what goes wrong into the error of each.

    Args:
        services: The parts of the server.
    """

    is_observed = False
    """Whether somebody wants to know of each request, so that what it asks for is to be kept to its end."""

    def __init__(self, services: Services) -> None:
        self.services = services

    async def run(
        self,
        operations: Sequence[str],
        identify: Identify,
        work: Work[T],
        *,
        turn: asyncio.Lock | None = None,
        requests: Sequence[Any] = (),
    ) -> Sequence[T | ProtocolError]:
        """Run requests of one caller that came together; most often it is one.

        The steps are those of every road: identify the caller, count the requests against the rate limit, note the
        caller as present, do the work, turn an exception into an error, count the outcomes.

        Args:
            operations: The name of each request's operation, for the counters.
            identify: Returns the caller, or raises the ``ProtocolError`` that refuses all of the requests.
            work: Runs the first so many of the requests and returns the result or the error of each.
                What it raises becomes the error of each.
            turn: Held while the requests are counted against the rate limit. Batches that share one reach ``work``
                in the order in which they came, although the count is kept in the store.
            requests: What holds each request as ``request`` once it is read; for those who observe.

        Returns:
            The result or the error of each request, in order.

        Raises:
            BaseException: What is no ``Exception``: the client left, or the server ends.
        """
        begun = perf_counter()
        services = self.services
        results: Sequence[T | ProtocolError] | None = None
        try:
            call = await identify()
            # Who is not identified costs no counter: the limit belongs to an API key.
            admitted, refusal = len(operations), None
            if services.rates is not None and operations[0] not in _RELEASING:
                admitted, refusal = await _admit(services.rates, call.principal, admitted, turn)
            # Between admission and the first await of `work` no other task runs: this keeps the order of `turn`.
            if operations[0] not in _NO_ACTIVITY:
                services.presence.seen(call)
            results = await work(call, admitted) if admitted else ()
            # The limit cuts a batch at one place: of a socket's writes, none runs behind one that was refused.
            if refusal is not None:
                results = [*results, *[refusal] * (len(operations) - admitted)]
        except ProtocolError as error:
            # The work raised: the fault is not one request's, so each is answered with it.
            _forget_origin(error)
            results = [error] * len(operations)
        except Exception as error:  # noqa: BLE001 - nobody else is there to turn it into an answer
            results = [unexpected(error)] * len(operations)
        finally:
            # Also where a cancellation or a client that left goes through: then `results` is None.
            self._count(operations, results, perf_counter() - begun)
        return results

    async def identify(self, scope: Scope, presented: RequestCredentials) -> Call:
        """Return the caller that the headers of a request name.

        Args:
            scope: The request.
            presented: What its headers say.

        Raises:
            ProtocolError: As ``Authenticator.authenticate``; ``forbidden`` as ``check_sample_key``.
        """
        services = self.services
        credential = presented.credential
        if credential is None and (subject := scope.get("extensions", {}).get(OAUTH_SUBJECT)):
            # Only the server's own calls have such a scope: of `/mcp`, for whom a token names.
            credential = oauth_credential(subject)
        principal = await services.authenticator.authenticate(credential)
        if KNOWN_HEAD not in scope:  # else the same head was let in before, over this connection
            note_identified(scope)
            if principal.credential in SAMPLE_CREDENTIALS:
                check_sample_key(principal.credential, scope, services.settings)
            if KNOWN_HEAD in scope.get("state", ()):
                scope["state"][KNOWN_HEAD].keep(scope["headers"], presented)
        return Call(
            principal,
            presented.agent,
            presented.idempotency_key,
            presented.durability,
            services=services,
        )

    async def identify_connection(self, scope: Scope) -> Call:
        """Return the caller that opens a WebSocket or an event stream, named by its headers or by a ticket.

        Args:
            scope: The handshake or request; a ticket is taken out of its query, so that nothing behind sees or logs it.

        Raises:
            ProtocolError: As ``identify``; ``invalid_request`` for a malformed agent; ``forbidden`` for a page
                that may not connect, or a ticket that opens nothing.
        """
        services = self.services
        settings = services.settings
        # The page comes first: one that may not connect shall not use up a ticket.
        check_origin(scope, settings.allowed_hosts, settings.allowed_origins)
        ticket = take_ticket(scope)
        presented = read_headers(scope["headers"])
        if ticket is None or presented.credential is not None:
            # A header goes before a ticket, which then stays good: a client that has the key needs no ticket.
            call = await self.identify(scope, presented)
            # An Idempotency-Key of the handshake is not one of the frames that follow.
            return Call(call.principal, call.agent, services=services)
        principal, agent = await self._redeem(ticket)
        note_identified(scope)
        check_sample_key(principal.credential, scope, settings)
        return Call(principal, presented.agent or agent, services=services)

    async def _redeem(self, ticket: str) -> tuple[Principal, str | None]:
        services = self.services
        # Redeemed first: of two handshakes with one ticket, one gets it, whatever the key behind it is worth.
        holder = await services.tickets.redeem(ticket)
        principal = (
            None if holder is None else await services.authenticator.current(holder.credential)
        )
        if holder is None or principal is None:
            raise ProtocolError(
                "forbidden",
                "this ticket was used or has expired; get a new one with POST /ticket",
            )
        return principal, holder.agent

    def _count(
        self, operations: Sequence[str], results: Sequence[object] | None, seconds: float
    ) -> None:
        count = self.services.requests.count
        if len(operations) == 1 and results is not None:  # nearly always; a Counter takes longer
            (result,) = results
            count(
                operations[0], result.code if isinstance(result, ProtocolError) else "ok", seconds
            )
            return
        if results is None:
            outcomes = ["client_gone"] * len(operations)
        else:
            outcomes = [each.code if isinstance(each, ProtocolError) else "ok" for each in results]
        for (name, outcome), number in Counter(zip(operations, outcomes, strict=True)).items():
            count(name, outcome, seconds, number)


async def _admit(
    rates: RateLimiter, principal: Principal, count: int, turn: asyncio.Lock | None
) -> tuple[int, ProtocolError | None]:
    if turn is None:
        return await rates.admit(principal, count)
    # The store may answer a later question first. The lock is fair (first come, first served), and it is
    # released in the step in which `run` goes on to the work.
    async with turn:
        return await rates.admit(principal, count)


def _forget_origin(error: ProtocolError) -> None:
    """Drop the traceback of an error that becomes a response.

    It holds the frames that the error came through, and with them a large body. One of those frames holds the error in
    turn, and such a circle lives until the garbage collector comes by, which is seldom.
    """
    error.__traceback__ = None
    error.__context__ = None
