"""``/mcp``: the memory for MCP clients, where memx-mcp is installed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from typing import Protocol

from memx_sdk import AsyncMemxContext
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.transport import TransportOptions
from memx_server.routes.api.errors import error_body
from memx_server.routes.api.sample_key_rule import check_sample_key
from memx_server.routes.asgi import Receive, Scope, Send, send_json
from memx_server.settings import Settings
from memx_server.transports.in_process import Application
from memx_server.transports.local import LocalTransport

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


def mcp_endpoint(
    app: Application, settings: Settings, *, keeps_sessions: bool
) -> McpEndpoint | None:
    """Build the endpoint; None where memx-mcp is not installed.

    Each caller works through a context with their own API key, so that MCP opens nothing that HTTP does not.

    Args:
        app: The application whose memory it shows.
        settings: Which hosts and origins are answered.
        keeps_sessions: Whether this process answers all requests of a session, for as long as it lasts.
    """
    if find_spec("memx_mcp") is None:
        return None
    from memx_mcp import create_app  # an optional part, which need not be installed

    def open_context(credentials: McpCredentials) -> AsyncMemxContext:
        options = TransportOptions("local:", credentials.api_key, credentials.agent)
        return AsyncMemxContext(
            credentials.api_key, agent=credentials.agent, transport=LocalTransport(app, options)
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
