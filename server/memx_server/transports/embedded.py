"""The SDK's transport to a folder that this process has for itself: ``embedded:FOLDER``.

``AsyncMemxContext(base_url="embedded:FOLDER")`` keeps its memory in that folder, ``embedded:`` in a
temporary one. All contexts of a process that name one folder share one server.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from memx_sdk.errors import MemxClosedError, MemxConnectionError
from memx_sdk.transport import AsyncMessageStream, Request, Response, TransportOptions
from memx_server.storage.errors import CannotOpen
from memx_server.transports.embedded_server import EmbeddedServer, EmbeddedServers
from memx_server.transports.in_process import InProcessCalls


class EmbeddedTransport:
    """Calls the application of a folder directly; starts its server at the first request.

    Args:
        options: Which folder, and whose API key.
        servers: The servers of this process.
        note: For the lock file, where this transport's first request makes the server.
    """

    def __init__(self, options: TransportOptions, servers: EmbeddedServers, **note: Any) -> None:
        self._options = options
        self._servers = servers
        self._note = note
        self._calls = InProcessCalls(options)
        self._server: EmbeddedServer | None = None
        self._opening: asyncio.Future[EmbeddedServer] | None = None
        self._pid = os.getpid()
        self._closed = False

    async def request(self, request: Request) -> Response:
        """Send ``request`` once; see `AsyncTransport.request`."""
        return await self._calls.request(await self.server(), request)

    async def connect(self, path: str, query: Mapping[str, str]) -> AsyncMessageStream:
        """Open a stream; see `AsyncTransport.connect`."""
        return await self._calls.connect(await self.server(), path, query)

    async def close(self) -> None:
        """Release everything; see `AsyncTransport.close`."""
        self._closed = True
        if self._pid != os.getpid():
            return  # all of it is the parent's
        if self._opening is not None:
            # A start that is under way cannot be called back; its server is given back when it is up.
            await asyncio.wait({self._opening})
            if self._opening.exception() is None:
                self._server = self._opening.result()
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(self._servers.release, self._options.location, server)

    async def server(self) -> EmbeddedServer:
        """Return the folder's server, started.

        Raises:
            MemxClosedError: The transport was closed, or its temporary memory is a forked parent's.
            MemxConnectionError: The folder cannot be opened; ``__cause__`` is the CannotOpen.
        """
        if self._closed:
            raise MemxClosedError("closed", "the context was closed")
        if self._pid != os.getpid():
            self._adopt_in_child()
        if self._server is not None:
            return self._server
        # The start runs in a thread. Many first requests wait for the same one, and the one of them
        # that is cancelled must not take it away from the others: hence the shield.
        if self._opening is None:
            opening = asyncio.to_thread(self._servers.acquire, self._options.location, **self._note)
            self._opening = asyncio.ensure_future(opening)
        try:
            self._server = await asyncio.shield(self._opening)
        except (CannotOpen, OSError) as error:
            self._opening = None  # the next request tries again
            raise MemxConnectionError("connection", str(error)) from error
        self._opening = None
        return self._server

    def _adopt_in_child(self) -> None:
        """Begin anew in a forked child, where the server's thread does not exist.

        A folder is opened again: while the parent has it, that is refused with the parent's process id.
        A temporary memory has no name under which the child could find it, and an empty one in its place
        would be a silent loss.
        """
        if not self._options.location and (self._server or self._opening):
            raise MemxClosedError(
                "closed",
                f"this temporary memory belongs to process {self._pid}, of which this one is a fork; "
                "use shared:FOLDER for a memory of several processes, or open a context after the fork",
            )
        self._server = self._opening = None
        self._pid = os.getpid()
