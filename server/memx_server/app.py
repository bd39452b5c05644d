"""The application: the operations' plain ASGI layer in front of FastAPI."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from memx_server import __version__, mcp_endpoint
from memx_server.auth.acl_file import AclFile
from memx_server.auth.base import Authenticator
from memx_server.auth.revocation import watch_revocations
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.feed.connections import OpenConnections
from memx_server.domain.feed.feed import Feed
from memx_server.domain.memory.memory import Memory
from memx_server.domain.presence.feed import PresenceFeed
from memx_server.domain.presence.registry import Presence
from memx_server.domain.rate_limit import RateLimiter
from memx_server.domain.schema.cache import SchemaCache
from memx_server.evaluation.pool import EvaluationPool
from memx_server.routes.api.errors import install_error_handlers
from memx_server.routes.api.openapi import describe
from memx_server.routes.api.operations import OPERATIONS
from memx_server.routes.api.origin_checks import HostGuard
from memx_server.routes.http import events, health, metrics, pages
from memx_server.routes.http.endpoint import Receive, Scope, Send, http_operations
from memx_server.routes.http.events import EventsEndpoint
from memx_server.routes.ws.endpoints import Endpoint, WebSockets
from memx_server.services import Services
from memx_server.settings import Settings
from memx_server.signals import end_with_parent, on_shutdown_signal
from memx_server.storage.base import Store, StoreUnavailable
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore

_REVOCATION_CHECK = 2.0
"""Seconds between two looks at the API keys that hold a connection open."""

_log = logging.getLogger("memx_server")

_GC_THRESHOLDS = (50_000, 50, 100)
_OPENING_PATIENCE = 1.0
"""Seconds that a start waits for the store, before it serves without one."""


class MemxApp(FastAPI):
    """FastAPI, with the table's paths answered before its machinery starts.

    Attributes:
        services: What the routes work with.
    """

    def __init__(self, services: Services, **options: Any) -> None:
        super().__init__(**options)
        self.services = services
        self.state.services = services
        operations = http_operations(OPERATIONS, services)
        self._direct: dict[str, Endpoint] = dict(operations)
        self._direct[events.PATH] = EventsEndpoint(services, operations[events.PATH])
        self._sockets = WebSockets(services)
        self.mcp = mcp_endpoint.mcp_endpoint(self, services.settings)
        self._entry: Endpoint = self._route
        if origins := services.settings.allowed_origins:
            self._entry = CORSMiddleware(
                self._route,
                allow_origins=list(origins),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["x-api-key", "authorization", "x-memx-agent", "idempotency-key"],
                expose_headers=["Retry-After"],
            )

        if services.settings.known_hosts_only:
            self._entry = HostGuard(self._entry, services.settings.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or serve a socket."""
        await self._entry(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of the table, or a socket, directly; hand on all else."""
        direct: Endpoint | None = None
        if scope["type"] == "http":
            direct = self._direct.get(scope["path"])
            if direct is None and scope["path"] == mcp_endpoint.PATH:
                direct = self.mcp
        elif scope["type"] == "websocket":
            direct = self._sockets.find(scope["path"])
        if direct is not None:
            await direct(scope, receive, send)
            return
        await super().__call__(scope, receive, send)


def create_app(
    settings: Settings | None = None,
    *,
    store: Store | None = None,
    authenticator: Authenticator | None = None,
) -> MemxApp:
    """Build the application.

    Args:
        settings: What the operator has set; read from the environment where left out.
        store: Used in place of the one that the settings name.
        authenticator: Used in place of the ACL file.
    """
    settings = settings or Settings.from_env()
    store = store or open_store(settings.store_url, settings.limits.space_keys)
    schemas = SchemaCache(store)
    judges = EvaluationPool(settings.validation_deadline)
    presence = Presence(store.state)
    services = Services(
        settings=settings,
        authenticator=authenticator or open_authenticator(settings),
        schemas=schemas,
        judges=judges,
        memory=Memory(store, schemas, Evaluator(judges), settings),
        store=store,
        feed=Feed(store),
        sessions=OpenConnections(),
        presence=presence,
        presence_feed=PresenceFeed(presence),
        rates=RateLimiter(store.state, settings.rate_limit) if settings.rate_limit else None,
    )
    app = MemxApp(
        services,
        title="memX",
        version=__version__,
        summary="Shared memory for teams of LLM agents",
        lifespan=_lifespan,
        docs_url=None,  # the pages of `home` are instead: FastAPI's load theirs from elsewhere
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
    from memx_server.auth.supabase import SupabaseKeys
    from memx_server.auth.supabase_table import KeyTable

    return SupabaseKeys(
        KeyTable(supabase.url, supabase.service_key),
        cache_seconds=supabase.cache_seconds,
        grace_seconds=supabase.grace_seconds,
        plain_keys=supabase.plain_keys,
    )


def open_store(url: str, max_keys: int = 0) -> Store:
    """Make the store that ``url`` names; it connects when it is opened.

    Args:
        url: ``redis://...``, ``rediss://...``, ``unix://...`` or ``sqlite:PATH``.
        max_keys: Keys that a space may hold; 0 for as many as there is room for.

    Raises:
        ValueError: No store has such a URL.
    """
    scheme, _, path = url.partition(":")
    try:
        if scheme == "sqlite":
            if not Path(path).name:
                raise ValueError("name a file, as in sqlite:memory/memx.db")
            return SqliteStore(path, max_keys=max_keys)
        return RedisStore(url, max_keys=max_keys)
    except ValueError as error:
        raise ValueError(f"REDIS_URL (or MEMX_STORE_URL) cannot be used: {error}") from None


@asynccontextmanager
async def _lifespan(app: MemxApp) -> AsyncIterator[None]:
    services = app.services
    if services.settings.workers > 1:
        end_with_parent()
    opening = asyncio.create_task(_open(services.store))
    supabase = services.settings.supabase
    watching = asyncio.create_task(
        watch_revocations(
            services.authenticator,
            services.sessions,
            _REVOCATION_CHECK if supabase is None else supabase.cache_seconds / 2,
        )
    )
    try:
        await asyncio.wait({opening}, timeout=_OPENING_PATIENCE)
        if opening.done():
            opening.result()  # a file that cannot be used keeps the server from starting
        if services.settings.owns_process:
            _settle_collector()
        async with app.mcp.lifespan() if app.mcp else nullcontext():
            with on_shutdown_signal(services.sessions.end_all):
                yield
    finally:
        opening.cancel()
        watching.cancel()
        await asyncio.gather(opening, watching, return_exceptions=True)
        await services.feed.close()
        await services.presence.close()
        await services.store.close()
        services.judges.close()


async def _open(store: Store) -> None:
    """Open the store; where it does not answer yet, the server serves without it and keeps trying."""
    told: tuple[object, ...] = ()
    while True:
        try:
            await store.open()
        except StoreUnavailable as error:
            if error.args != told:
                told = error.args
                _log.warning("the store does not answer yet: %s; trying again", *told)
            await asyncio.sleep(0.5)
        else:
            return


def _settle_collector() -> None:
    """Keep what lives as long as the process out of the collector's way: its pauses own the tail."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def __getattr__(name: str) -> MemxApp:
    """Build ``app`` when it is first asked for, as ``uvicorn memx_server.app:app`` does."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = application = create_app()
    return application
