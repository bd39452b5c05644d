"""The SDK's transport for code that runs in the server itself, on its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from memx_sdk.transport import TransportOptions
from memx_server.transports.embedded import EmbeddedTransport
from memx_server.transports.in_process import Application, ServingHost

T = TypeVar("T")


class LocalTransport(EmbeddedTransport):
    """Calls an application from a coroutine of its own event loop.

    Args:
        app: The application.
        options: Whose API key.
    """

    def __init__(self, app: Application, options: TransportOptions) -> None:
        super().__init__(options)
        self._host = _ThisLoop(app)

    async def close(self) -> None:
        """Release nothing: the application lives on."""

    async def _here(self) -> ServingHost:
        return self._host


class _ThisLoop:
    def __init__(self, app: Application) -> None:
        self.app = app

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        return await work
