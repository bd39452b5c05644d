"""The MCP server over streamable HTTP, mounted in another application or standing alone."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from memx_mcp.admission import (
    LOOPBACK_HOSTS,
    LOOPBACK_ORIGINS,
    SUBJECT,
    Names,
    TokenVerifier,
    challenge,
    error_response,
    token_of,
)
from memx_mcp.callers import Callers, Credentials, OpenContext, credentials_of
from memx_mcp.server import create_server
from memx_mcp.tools import ToolChoice
from memx_sdk import ForbiddenError, InvalidRequestError, MemxError, UnauthenticatedError


class McpApp:
    """An ASGI application that answers MCP requests of callers with a memX API key.

    Run ``lifespan()`` around its use, as a host application does; on its own it does so itself.

    Args:
        server: What answers.
        callers: Finds the context of each caller.
        manager: Keeps the sessions, or none.
        names: Under which names, and from which pages, the server is called.
        tokens: Checks tokens that callers send in place of an API key; None where none are taken.
        admitted: Told of each request whose API key or token is good.
    """

    def __init__(
        self,
        server: Server[Any],
        callers: Callers,
        manager: StreamableHTTPSessionManager,
        names: Names,
        tokens: TokenVerifier | None,
        admitted: Callable[[Scope], None] | None,
    ) -> None:
        self.server = server
        self._callers = callers
        self._manager = manager
        self._names = names
        self._tokens = tokens
        self._admitted = admitted

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Hold what sessions need; ends them all on leaving. Can be entered once."""
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; without a valid API key or token 401 (RFC 6750, section 3)."""
        if scope["type"] == "lifespan":
            await self._stand_alone(receive, send)
            return
        # RFC 9110, section 5.5: white space around a field's value is no part of it.
        scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        refusal = self._names.refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            expires_at = self._verify(scope)
            credentials = credentials_of(Request(scope))
            await self._check(credentials)
        except MemxError as error:
            await self._refused(error, scope)(scope, receive, send)
            return
        if self._admitted is not None:
            self._admitted(scope)
        if self._manager.stateless and scope["method"] != "POST":
            # Without sessions there is nothing to listen to and nothing to end (MCP 2025-11-25, transports): a client
            # that opened a stream all the same would hold a connection for nothing.
            await Response(status_code=405, headers={"Allow": "POST"})(scope, receive, send)
            return
        # Each request is checked, not only the first of a session: a key may be revoked in between.
        # The session manager lets only the same user go on with a session.
        scope["user"] = AuthenticatedUser(
            AccessToken(token="", client_id=_identity(credentials), scopes=[])
        )
        await self._answer(scope, receive, send, expires_at)

    def _verify(self, scope: Scope) -> float | None:
        """Check a token and note whom it names; return when it expires, None for an API key."""
        token = None if self._tokens is None else token_of(scope)
        if self._tokens is None or token is None:
            return None
        verified = self._tokens.verify(token)
        scope[SUBJECT] = verified.subject
        return verified.expires_at

    async def _check(self, credentials: Credentials) -> None:
        if credentials.api_key is None and credentials.subject is None:
            raise UnauthenticatedError(
                "unauthenticated", "send your memX API key as Bearer or x-api-key"
            )
        try:
            caller = self._callers.with_credentials(credentials)
        except ValueError as error:  # a key or an agent's name that cannot be
            raise InvalidRequestError("invalid_request", str(error)) from None
        await caller.check()

    def _refused(self, error: MemxError, scope: Scope) -> Response:
        metadata = None if self._tokens is None else self._tokens.metadata_url
        if isinstance(error, ForbiddenError) and (subject := scope.get(SUBJECT)):
            # The token is good, so another one would not help: 401 would send its holder round in a circle.
            return error_response(
                403,
                "forbidden",
                f"{subject} is no entry of this server's ACL, or a void one; an operator adds it as a key of the file",
            )
        if isinstance(error, (UnauthenticatedError, ForbiddenError)):
            came = (
                "authorization" in Request(scope).headers or "x-api-key" in Request(scope).headers
            )
            said = challenge(error.detail if came else None, metadata)
            return error_response(401, error.code, error.detail, said)
        if isinstance(error, InvalidRequestError):
            return error_response(400, error.code, error.detail)
        return error_response(503, error.code, error.detail, {"Retry-After": "1"})

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, expires_at: float | None
    ) -> None:
        """Let the session manager answer; a stream ends when the token does."""
        if expires_at is None:
            await self._manager.handle_request(scope, receive, send)
            return
        under_way = False

        async def noting(message: Message) -> None:
            nonlocal under_way
            under_way = message["type"] == "http.response.start" or message.get("more_body", False)
            await send(message)

        try:
            async with asyncio.timeout(max(0.0, expires_at - time.time())):
                await self._manager.handle_request(scope, receive, noting)
        except TimeoutError:
            if under_way:
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stand_alone(self, receive: Receive, send: Send) -> None:
        # The ASGI lifespan protocol: startup is confirmed once, then nothing comes until shutdown.
        await receive()
        async with self.lifespan():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def create_app(
    open_context: OpenContext,
    *,
    keeps_sessions: bool = True,
    reserved: bool = False,
    choice: ToolChoice | None = None,
    allowed_hosts: Sequence[str] = LOOPBACK_HOSTS,
    allowed_origins: Sequence[str] = LOOPBACK_ORIGINS,
    settings: tuple[str, str] = ("--allow-host", "--allow-origin"),
    tokens: TokenVerifier | None = None,
    admitted: Callable[[Scope], None] | None = None,
) -> McpApp:
    """Build the MCP endpoint.

    Args:
        open_context: Gives a caller, by their credentials, their memX context; it is closed for them.
        keeps_sessions: Whether all requests of a session reach this process, and it lives as long as they do.
            Where several workers share a port they do not: then every request stands alone, and only clients of
            protocol version 2026-07-28 can subscribe.
        reserved: Whether callers reach programs' own records too, the keys that start with ``memx:``.
        choice: Which tools are offered; all where left out.
        allowed_hosts: ``Host`` headers that are answered (against DNS rebinding); ``:*`` stands for any port, a
            lone ``*`` for all.
        allowed_origins: ``Origin`` headers that are answered, in the same way; requests without one always are.
        settings: What an operator sets to add a host and an origin; refusals name it.
        tokens: Checks tokens that callers send in place of an API key; none are taken where left out.
        admitted: Told of each request whose API key or token is good, before it is answered.
    """
    names = Names(allowed_hosts, allowed_origins, *settings)
    callers = Callers(open_context, reserved=reserved)
    server = create_server(callers, keeps_sessions=keeps_sessions, choice=choice)
    manager = StreamableHTTPSessionManager(
        server,
        stateless=not keeps_sessions,
        # `Names` asks the same before, and says what an operator can do about it.
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return McpApp(server, callers, manager, names, tokens, admitted)


def _identity(credentials: Credentials) -> str:
    # A session belongs to a key, or to whom a token names: a renewed token goes on with it.
    named = f"key {credentials.api_key}" if credentials.subject is None else credentials.subject
    return hashlib.sha256(named.encode()).hexdigest()
