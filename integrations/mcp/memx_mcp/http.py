"""The MCP server over streamable HTTP, mounted in another application or standing alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from memx_mcp.callers import Callers, Credentials, OpenContext, credentials_of
from memx_mcp.server import create_server
from memx_sdk import ForbiddenError, MemxError, UnauthenticatedError

LOOPBACK_HOSTS = ("127.0.0.1:*", "localhost:*", "[::1]:*")
LOOPBACK_ORIGINS = ("http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*")


class McpApp:
    """An ASGI application that answers MCP requests of callers with a memX API key.

    Run ``lifespan()`` around its use, as a host application does; on its own it does so itself.
    """

    def __init__(
        self, server: Server[Any], callers: Callers, manager: StreamableHTTPSessionManager
    ) -> None:
        self.server = server
        self._callers = callers
        self._manager = manager

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Hold what sessions need; ends them all on leaving. Can be entered once."""
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; without a valid API key 401 (RFC 6750, section 3)."""
        if scope["type"] == "lifespan":
            await self._stand_alone(receive, send)
            return
        # RFC 9110, section 5.5: white space around a field's value is no part of it.
        scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        credentials = credentials_of(Request(scope))
        refusal = await self._refusal(credentials)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        # Each request is checked, not only the first of a session: a key may be revoked in between.
        # The session manager lets only the same user go on with a session.
        scope["user"] = AuthenticatedUser(
            AccessToken(token="", client_id=_digest(credentials), scopes=[])
        )
        await self._manager.handle_request(scope, receive, send)

    async def _refusal(self, credentials: Credentials) -> Response | None:
        if credentials.api_key is None:
            return _error(401, "unauthenticated", "send your memX API key as Bearer or x-api-key")
        try:
            await self._callers.with_credentials(credentials).check()
        except (UnauthenticatedError, ForbiddenError) as error:
            return _error(401, error.code, error.detail)
        except MemxError as error:
            return _error(503, error.code, error.detail)
        return None

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
    allowed_hosts: Sequence[str] = LOOPBACK_HOSTS,
    allowed_origins: Sequence[str] = LOOPBACK_ORIGINS,
) -> McpApp:
    """Build the MCP endpoint.

    Args:
        open_context: Gives a caller, by their credentials, their memX context; it is closed for them.
        keeps_sessions: Whether all requests of a session reach this process. Where several workers share a
            port they do not: then every request stands alone, and only clients of protocol version
            2026-07-28 can subscribe.
        reserved: Whether callers reach programs' own records too, the keys that start with ``memx:``.
        allowed_hosts: ``Host`` headers that are answered (against DNS rebinding); ``:*`` stands for any port, a
            lone ``*`` for all.
        allowed_origins: ``Origin`` headers that are answered; requests without one always are.
    """
    callers = Callers(open_context, reserved=reserved)
    server = create_server(callers, keeps_sessions=keeps_sessions)
    manager = StreamableHTTPSessionManager(
        server,
        stateless=not keeps_sessions,
        security_settings=TransportSecuritySettings(
            enable_dns_rebinding_protection="*" not in allowed_hosts,
            allowed_hosts=list(allowed_hosts),
            allowed_origins=list(allowed_origins),
        ),
    )
    return McpApp(server, callers, manager)


def _digest(credentials: Credentials) -> str:
    return hashlib.sha256((credentials.api_key or "").encode()).hexdigest()


def _error(status: int, code: str, detail: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": "1"}
    return Response(
        json.dumps({"error": code, "detail": detail}),
        status,
        headers,
        media_type="application/json",
    )
