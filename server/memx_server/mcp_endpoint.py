"""``/mcp``: the memory for MCP clients, where memx-mcp is installed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from memx_sdk import AsyncMemxContext
from memx_sdk.errors import error_from
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.transport import TransportOptions
from memx_server.routes.api.errors import error_body, error_headers, method_not_allowed
from memx_server.routes.api.sample_key_rule import check_sample_key
from memx_server.routes.asgi import Receive, Scope, Send
from memx_server.routes.http.response_writing import send_json
from memx_server.routes.peers import note_identified
from memx_server.settings import Settings
from memx_server.transports.in_process import Application
from memx_server.transports.local import LocalTransport

if TYPE_CHECKING:  # they need PyJWT, which comes with memx-mcp
    from memx_server.auth.oauth_tokens import OAuthToken, OAuthTokens

PATHS = ("/mcp", "/mcp/")


class McpEndpoint(Protocol):
    """What memx-mcp makes."""

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Hold what its sessions need."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""


class McpCredentials(Protocol):
    """What a request to the endpoint says about who sends it."""

    @property
    def api_key(self) -> str | None:
        """The API key."""

    @property
    def agent(self) -> str | None:
        """What the caller calls itself."""

    @property
    def subject(self) -> str | None:
        """Whom a token names that was checked."""


class _Tokens:
    """Checks tokens for memx-mcp, with the errors that it knows.

    Args:
        tokens: What checks them.
    """

    def __init__(self, tokens: OAuthTokens) -> None:
        self._tokens = tokens
        self.metadata_url = tokens.metadata_url

    def verify(self, token: str) -> OAuthToken:
        """Check a token; refusals come as errors of the SDK."""
        try:
            return self._tokens.verify(token)
        except ProtocolError as error:
            raise error_from(error.as_dict()) from None


def mcp_endpoint(
    app: Application,
    settings: Settings,
    *,
    keeps_sessions: bool,
    tokens: OAuthTokens | None = None,
) -> McpEndpoint | None:
    """Build the endpoint; None where memx-mcp is not installed.

    Each caller works through a context with their own API key, so that MCP opens nothing that HTTP does not.

    Args:
        app: The application whose memory it shows.
        settings: Which hosts and origins are answered.
        keeps_sessions: Whether this process answers all requests of a session, for as long as it lasts.
        tokens: Checks the tokens that callers may send in place of an API key.
    """
    if find_spec("memx_mcp") is None:
        return None
    from memx_mcp import create_app  # an optional part, which need not be installed

    def open_context(credentials: McpCredentials) -> AsyncMemxContext:
        options = TransportOptions("local:", credentials.api_key, credentials.agent)
        # Whom a token names has no API key, and must not get one from the environment.
        return AsyncMemxContext(
            credentials.api_key or "oauth",
            agent=credentials.agent,
            transport=LocalTransport(app, options, credentials.subject),
        )

    named = [f"[{host}]" if ":" in host else host for host in settings.allowed_hosts]
    own_pages = [f"{scheme}://{host}" for scheme in ("http", "https") for host in named]
    endpoint: McpEndpoint = create_app(
        open_context,
        keeps_sessions=keeps_sessions,
        allowed_hosts=[*named, *(f"{host}:*" for host in named)],
        allowed_origins=[
            *own_pages,
            *(f"{page}:*" for page in own_pages),
            *settings.allowed_origins,
        ],
        settings=("MEMX_ALLOWED_HOSTS", "MEMX_ALLOWED_ORIGINS"),
        tokens=None if tokens is None else _Tokens(tokens),
        # The calls behind the endpoint are made in process, and so tell nothing of the connection.
        admitted=note_identified,
    )
    return _SampleKeyGuard(endpoint, settings)


class _SampleKeyGuard:
    """Holds the rule of the sample keys: the calls behind the endpoint are made in process, and so escape it.

    Args:
        endpoint: The endpoint of memx-mcp.
        settings: The settings of the server.
    """

    def __init__(self, endpoint: McpEndpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self.lifespan = endpoint.lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        try:
            for credential in _digests_of(scope):
                check_sample_key(credential, scope, self._settings)
        except ProtocolError as error:
            await send_json(send, error.status, error_body(error))
            return
        await self._endpoint(scope, receive, send)


def _digests_of(scope: Scope) -> Iterator[str]:
    """Yield the digests of all that the endpoint could take for an API key."""
    for name, value in scope["headers"]:
        if name in {b"x-api-key", b"authorization"} and (words := value.split()):
            yield hashlib.sha256(words[-1]).hexdigest()


def oauth_tokens(settings: Settings) -> OAuthTokens | None:
    """Make what checks tokens; None where no issuer is set.

    Raises:
        ValueError: An issuer is set, and memx-mcp is not installed.
    """
    if settings.oauth is None:
        return None
    if find_spec("memx_mcp") is None:
        raise ValueError("MEMX_OAUTH_ISSUER is for /mcp: pip install 'memx-server[mcp]'")
    from memx_server.auth.oauth_tokens import OAuthTokens  # needs PyJWT

    return OAuthTokens(settings.oauth)


class ResourceMetadata:
    """``/.well-known/oauth-protected-resource``: which issuer's tokens ``/mcp`` takes (RFC 9728).

    Args:
        tokens: What it tells of.
    """

    def __init__(self, tokens: OAuthTokens) -> None:
        self._body = json.dumps(tokens.metadata()).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whoever has no token yet may ask."""
        if scope["method"] in ("GET", "HEAD"):
            await send_json(send, 200, self._body)
            return
        error = method_not_allowed(scope["method"], ["GET", "HEAD"])
        await send_json(send, error.status, error_body(error), error_headers(error))
