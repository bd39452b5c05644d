"""The SDK's transport to a folder that several processes use: ``shared:FOLDER``.

The first process opens the folder's database and answers the others over loopback, with an address and a key that
only the folder's owner can read in the lock file. When it ends, the next request of another one takes its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from memx_sdk.errors import MemxClosedError, MemxConnectionError
from memx_sdk.transport import (
    AsyncMessageStream,
    AsyncTransport,
    Request,
    Response,
    TransportOptions,
    open_transport,
)
from memx_server.storage.sqlite.lockfile import InUse
from memx_server.transports.embedded import EmbeddedTransport
from memx_server.transports.embedded_server import EmbeddedServers
from memx_server.transports.folder_sharing import share


class SharedTransport:
    """Opens the folder, or calls the process that has it open.

    Args:
        options: Which folder, and whose API key.
        servers: The servers of this process.
    """

    def __init__(self, options: TransportOptions, servers: EmbeddedServers) -> None:
        self._options = options
        self._servers = servers
        self._current: AsyncTransport | None = None
        self._finding = asyncio.Lock()
        self._closed = False

    async def request(self, request: Request) -> Response:
        """Send ``request`` once; see `AsyncTransport.request`."""
        current = await self._find()
        try:
            return await current.request(request)
        except MemxConnectionError:
            await self._drop(current)
            raise

    async def connect(self, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        """Open a stream; see `AsyncTransport.connect`."""
        current = await self._find()
        try:
            return await current.connect(path, query)
        except MemxConnectionError:
            await self._drop(current)
            raise

    async def close(self) -> None:
        """Release everything; see `AsyncTransport.close`."""
        self._closed = True
        current, self._current = self._current, None
        if current is not None:
            await current.close()

    async def _find(self) -> AsyncTransport:
        async with self._finding:
            if self._closed:
                raise MemxClosedError("closed", "the context was closed")
            if self._current is None:
                self._current = await self._open()
            return self._current

    async def _open(self) -> AsyncTransport:
        own = EmbeddedTransport(self._options, self._servers)
        try:
            server = await own.server()
        except MemxConnectionError as error:
            await own.close()
            if not isinstance(error.__cause__, InUse):
                raise
            holder = error.__cause__.holder
            if "address" not in holder or "key" not in holder:
                raise
            found = replace(self._options, base_url=holder["address"], api_key=holder["key"])
            return open_transport("http", found)
        await server.run(share(server))
        return own

    async def _drop(self, current: AsyncTransport) -> None:
        """Look for the folder's process anew at the next request."""
        if self._current is current:
            self._current = None
        await current.close()
