"""The application: which part answers a request, and how the parts are put together."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from memx_sdk.protocol.mcp_headers import EXPOSED_HEADERS, REQUEST_HEADERS
from memx_server import __version__, lifespan, mcp_endpoint
from memx_server.auth.acl_file import AclFile
from memx_server.auth.base import Authenticator
from memx_server.collector import SocketGarbage
from memx_server.domain.byte_budget import ByteBudget
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.feed.connections import OpenConnections
from memx_server.domain.feed.durable import Durable
from memx_server.domain.feed.feed import Feed
from memx_server.domain.memory.memory import Memory
from memx_server.domain.presence.feed import PresenceFeed
from memx_server.domain.presence.registry import Presence, PresenceSettings
from memx_server.domain.rate_limit import RateLimiter
from memx_server.domain.schema.cache import SchemaCache
from memx_server.domain.store_health import StoreHealth
from memx_server.domain.tickets import Tickets
from memx_server.evaluation.pool import EvaluationPool
from memx_server.routes.api.errors import install_error_handlers
from memx_server.routes.api.gateway import Gateway
from memx_server.routes.api.openapi import describe
from memx_server.routes.api.operations import OPERATIONS
from memx_server.routes.asgi import Endpoint, Receive, Scope, Send
from memx_server.routes.http import events, health, metrics, pages
from memx_server.routes.http.endpoint import http_operations
from memx_server.routes.http.events import EventsEndpoint
from memx_server.routes.http.head_guard import HeadGuard
from memx_server.routes.http.host_guard import HostGuard
from memx_server.routes.observing.access_log import AccessLog
from memx_server.routes.observing.observed_gateway import ObservedGateway
from memx_server.routes.observing.request_ids import RequestIds
from memx_server.routes.ws.endpoints import WebSockets
from memx_server.services import Services
from memx_server.settings import Limits, Settings
from memx_server.storage.base import NO_QUOTAS, SpaceQuotas, Store
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore
from memx_server.worker_figures import WorkerFigures


class MemxApp(FastAPI):
    """A FastAPI application in front of which the hot paths are answered directly.

    A request passes these, outermost first:

    1. the check that its head names one host, and one API key at the most,
    2. the check of its ``Host``, where the settings ask for it on every request,
    3. CORS, where other origins may call,
    4. the endpoint of its path: an operation, a WebSocket, ``/mcp``,
    5. for all other paths FastAPI: its pages, health, metrics, and the 404.

    Step 4 costs about a quarter of what a FastAPI route costs, since it is plain ASGI.

    Args:
        services: What the routes work with.
        store: Where everything is kept; opened and closed with the application.
        options: FastAPI's own.
    """

    def __init__(self, services: Services, store: Store, **options: Any) -> None:
        super().__init__(**options)
        self.services = services
        self.store = store
        self.state.services = services
        self.garbage = SocketGarbage()
        if (folder := services.settings.worker_figures) is not None:
            own = metrics.OwnFigures(services)
            services.worker_figures = WorkerFigures(folder, own.collect)
        self.tokens = mcp_endpoint.oauth_tokens(services.settings)
        self.mcp = mcp_endpoint.mcp_endpoint(
            self,
            services.settings,
            keeps_sessions=_keeps_mcp_sessions(services.settings, store),
            tokens=self.tokens,
        )
        gateway = _gateway(services)
        self._endpoints = self._http_endpoints(gateway)
        self._sockets = WebSockets(gateway)
        self._entry = self._guarded(self._route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or serve a socket."""
        await self._entry(scope, receive, send)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Hold what the application needs while it serves; a server enters it before it accepts."""
        return _lifespan(self)

    def _http_endpoints(self, gateway: Gateway) -> dict[str, Endpoint]:
        """The endpoints by path; each answers every method of its path."""
        operations = http_operations(OPERATIONS, gateway)
        endpoints: dict[str, Endpoint] = dict(operations)
        # GET /changes as an event stream and as a plain operation have one path.
        endpoints[events.PATH] = EventsEndpoint(gateway, operations[events.PATH])
        if self.mcp is not None:
            endpoints |= dict.fromkeys(mcp_endpoint.PATHS, self.mcp)
        if self.tokens is not None:
            told = mcp_endpoint.ResourceMetadata(self.tokens)
            endpoints |= dict.fromkeys(self.tokens.metadata_paths, told)
        return endpoints

    def _guarded(self, entry: Endpoint) -> Endpoint:
        """Put the checks of the head, and CORS as the settings ask, in front of ``entry``."""
        settings = self.services.settings
        if settings.allowed_origins:
            entry = CORSMiddleware(
                entry,
                allow_origins=list(settings.allowed_origins),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=[
                    "x-api-key",
                    "authorization",
                    "x-memx-agent",
                    "idempotency-key",
                    *REQUEST_HEADERS,
                ],
                expose_headers=["Retry-After", *EXPOSED_HEADERS],
            )
        if settings.known_hosts_only:
            entry = HostGuard(entry, settings.allowed_hosts)
        if settings.access_log != "off":
            entry = RequestIds(entry)
        return HeadGuard(entry, os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1"))

    def _route(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand a request or a socket to its endpoint, and all others to FastAPI."""
        # Paths are compared as they come, without a router's patterns: that is what makes this cheap.
        endpoint: Endpoint | None = None
        if scope["type"] == "http":
            endpoint = self._endpoints.get(scope["path"])
        elif scope["type"] == "websocket":
            endpoint = self._sockets.find(scope["path"])
            if endpoint is not None:
                return self._serve_socket(endpoint, scope, receive, send)
        if endpoint is None:
            return super().__call__(scope, receive, send)
        return endpoint(scope, receive, send)

    async def _serve_socket(
        self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send
    ) -> None:
        with self.garbage.socket():
            await endpoint(scope, receive, send)


def _gateway(services: Services) -> Gateway:
    """Make the way in; one that is observed costs every request, and so is made only where it is asked for."""
    if services.settings.access_log == "off":
        return Gateway(services)
    log = AccessLog(with_keys=services.settings.access_log == "keys")
    return ObservedGateway(services, log.note)


def create_app(
    settings: Settings | None = None,
    *,
    store: Store | None = None,
    authenticator: Authenticator | None = None,
) -> MemxApp:
    """Build the application. Nothing is opened before it runs.

    Args:
        settings: What the operator has set; read from the environment where left out.
        store: Used in place of the one that the settings name.
        authenticator: Used in place of the one that the settings name.

    Raises:
        ValueError: A setting cannot be used; the message names it.
    """
    settings = settings or Settings.from_env()
    store = store or open_store(settings.store_url, space_quotas(settings.limits))
    app = MemxApp(
        _services(settings, store, authenticator or open_authenticator(settings)),
        store,
        title="memX",
        version=__version__,
        summary="Shared memory for teams of LLM agents",
        lifespan=_lifespan,
        docs_url=None,  # the dashboard's page is instead: FastAPI's loads its scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(pages.router)
    install_error_handlers(app)
    describe(app, settings.limits)
    return app


def open_authenticator(settings: Settings) -> Authenticator:
    """Choose where API keys come from: Supabase if it is set, the ACL file otherwise, never both."""
    supabase = settings.supabase
    if supabase is None:
        return AclFile(settings.acl_file)
    # Supabase's client takes half a second to import, which a start without it need not pay.
    from memx_server.auth.supabase import SupabaseKeys
    from memx_server.auth.supabase_table import KeyTable

    return SupabaseKeys(
        KeyTable(supabase.url, supabase.service_key),
        cache_seconds=supabase.cache_seconds,
        grace_seconds=supabase.grace_seconds,
        plain_keys=supabase.plain_keys,
    )


def open_store(url: str, quotas: SpaceQuotas = NO_QUOTAS) -> Store:
    """Make the store that ``url`` names; it connects when it is opened.

    Args:
        url: ``redis://...``, ``rediss://...``, ``unix://...`` or ``sqlite:PATH``.
        quotas: The most that a space may hold.

    Raises:
        ValueError: No store has such a URL.
    """
    scheme, _, path = url.partition(":")
    try:
        if scheme == "sqlite":
            if not Path(path).name:
                raise ValueError("name a file, as in sqlite:memory/memx.db")
            return SqliteStore(path, quotas=quotas)
        return RedisStore(url, quotas=quotas)
    except ValueError as error:
        raise ValueError(f"REDIS_URL (or MEMX_STORE_URL) cannot be used: {error}") from None


def space_quotas(limits: Limits) -> SpaceQuotas:
    """Take from the limits those that the store keeps."""
    return SpaceQuotas(
        keys=limits.space_keys,
        result_bytes=limits.space_result_bytes,
        schema_bytes=limits.space_schema_bytes,
    )


def _keeps_mcp_sessions(settings: Settings, store: Store) -> bool:
    """Whether ``/mcp`` keeps sessions: on SQLite, which has one process, and on Redis where the operator says so.

    A session lives in one process. On Redis there may be other servers behind the same address, and a restart would
    end it, which clients of 2025-11-25 do not recover from.
    """
    if settings.mcp_sessions is not None:
        return settings.mcp_sessions
    return settings.workers == 1 and isinstance(store, SqliteStore)


def _services(settings: Settings, store: Store, authenticator: Authenticator) -> Services:
    """Make the parts that the routes work with, each from those it stands on."""
    schemas = SchemaCache(store)
    evaluation = EvaluationPool(settings.validation_deadline)
    evaluator = Evaluator(evaluation, settings.limits)
    sent = ByteBudget(settings.limits.responses_bytes, "responses_bytes", "large responses")
    presence = Presence(store.state, PresenceSettings(members=settings.limits.presence_members))
    return Services(
        settings=settings,
        authenticator=authenticator,
        schemas=schemas,
        evaluation=evaluation,
        evaluator=evaluator,
        memory=Memory(store, schemas, evaluator, settings),
        durable=Durable(store.state, settings.limits.durable_names),
        tickets=Tickets(store.state, settings.limits.tickets),
        health=StoreHealth(store),
        feed=Feed(store, sent=sent),
        sessions=OpenConnections(),
        presence=presence,
        presence_feed=PresenceFeed(presence),
        bodies=ByteBudget(settings.limits.bodies_bytes, "bodies_bytes", "large requests"),
        responses=sent,
        rates=RateLimiter(store.state, settings.rate_limit) if settings.rate_limit else None,
    )


@asynccontextmanager
async def _lifespan(app: MemxApp) -> AsyncIterator[None]:
    """Hold the parts and the sessions of ``/mcp``, which use them and so end first."""
    async with (
        lifespan.running(app.services, app.store, app.garbage),
        app.tokens.keys.running() if app.tokens else nullcontext(),
        app.mcp.lifespan() if app.mcp else nullcontext(),
    ):
        yield


def __getattr__(name: str) -> MemxApp:
    """Build ``app`` when it is first asked for, as ``uvicorn memx_server.app:app`` does."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = application = create_app()
    return application
