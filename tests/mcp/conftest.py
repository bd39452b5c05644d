"""MCP servers over a real memX, and clients of both protocol eras over every transport."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from memx_mcp import create_app
from memx_mcp.callers import Callers
from memx_mcp.server import create_server

from memx_sdk import AsyncMemxContext
from tests.support.memx_server import Served, running_app

Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def api_key(served: Served) -> str:
    """An API key that may do everything in a space that nobody else uses."""
    return served.fresh_key()


@pytest.fixture
async def memx(served: Served, api_key: str) -> AsyncIterator[AsyncMemxContext]:
    """Another agent in the same space."""
    async with AsyncMemxContext(api_key, served.url, agent="other") as context:
        yield context


@pytest.fixture(params=["legacy", "auto"])
def mode(request: pytest.FixtureRequest) -> str:
    """The protocol era: a handshake (2025-11-25 and before), or none (2026-07-28)."""
    return str(request.param)


@pytest.fixture(params=["memory", "http"])
def transport(request: pytest.FixtureRequest) -> str:
    """How the client reaches the server; ``test_stdio.py`` has the third way."""
    return str(request.param)


@pytest.fixture
def connect(transport: str, served: Served, api_key: str, mode: str) -> Connect:
    """Opens an MCP client to a memx-mcp server; ``key`` and client options may be given."""
    open_client = {"memory": _memory, "stdio": _stdio, "http": _http}[transport]

    @asynccontextmanager
    async def opened(key: str | None = None, **options: Any) -> AsyncIterator[Client]:
        async with open_client(served.url, key or api_key, mode=mode, **options) as client:
            yield client

    return opened


@asynccontextmanager
async def _memory(url: str, key: str, **options: Any) -> AsyncIterator[Client]:
    server = create_server(Callers(lambda _: AsyncMemxContext(key, url, agent="mcp")))
    async with Client(server, **options) as client:
        yield client


@asynccontextmanager
async def _stdio(url: str, key: str, **options: Any) -> AsyncIterator[Client]:
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "memx_mcp", "--agent", "mcp"],
        env={"MEMX_API_KEY": key, "MEMX_BASE_URL": url},
    )
    async with Client(program, **options) as client:
        yield client


@asynccontextmanager
async def _http(url: str, key: str, **options: Any) -> AsyncIterator[Client]:
    app = create_app(lambda caller: AsyncMemxContext(caller.api_key, url, agent=caller.agent))
    headers = {"Authorization": f"Bearer {key}", "x-memx-agent": "mcp"}
    with running_app(app) as address:
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            transport = streamable_http_client(f"{address}/mcp", http_client=http)
            async with Client(transport, **options) as client:
                yield client
