"""The SDK's transport for code that runs in the server itself, on its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from memx_sdk.transport import AsyncMessageStream, Request, Response, TransportOptions
from memx_server.transports.in_process import Application, InProcessCalls

T = TypeVar("T")


class LocalTransport:
    """Calls an application from a coroutine of its own event loop.

    Args:
        app: The application.
        options: Whose API key.
        oauth_subject: Whom a checked token names, in place of an API key.
    """

    def __init__(
        self, app: Application, options: TransportOptions, oauth_subject: str | None = None
    ) -> None:
        self._calls = InProcessCalls(options, oauth_subject)
        self._host = _ThisLoop(app)

    async def request(self, request: Request) -> Response:
        """Send ``request`` once; see `AsyncTransport.request`."""
        return await self._calls.request(self._host, request)

    async def connect(self, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        """Open a stream; see `AsyncTransport.connect`."""
        return await self._calls.connect(self._host, path, query)

    async def close(self) -> None:
        """Release nothing: the application lives on."""


class _ThisLoop:
    """An application on the event loop that calls it."""

    def __init__(self, app: Application) -> None:
        self.app = app

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        return await work
