"""The SDK's transport to a folder that several processes use: ``shared:FOLDER``.

The process that gets the folder's lock first, the *owner*, opens the database and answers the others over loopback.
Its address and a key stand in the lock file, which only the folder's owner can read. When that process ends, the
next request of another one takes its place.

How a process finds the folder's memory, again and again until it has it:

1. It tries the lock. This costs a system call and imports nothing. If it gets the lock, it is the owner: it starts
   the server, and puts the address into the lock file once the server answers.
2. If another process has the lock and its address is there, the memory is at that address.
3. If the address is not there yet, the owner is starting or stopping. The lock file says that it shares the folder,
   so there will be an address or a free lock soon.
4. If the lock file says no such thing for a moment, the owner is no sharing one (``embedded:`` or ``memx dev``), and
   never will be.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memx_sdk.errors import MemxClosedError, MemxConnectionError
from memx_sdk.transport import (
    AsyncMessageStream,
    AsyncTransport,
    Request,
    Response,
    TransportOptions,
    open_transport,
)
from memx_server.storage.lockfile import InUse
from memx_server.transports.embedded import EmbeddedTransport
from memx_server.transports.embedded_server import EmbeddedServers

OWNER_SECONDS = 60.0
"""How long a process waits for an owner that starts or stops; starting takes a second, or ten on a busy machine."""

_NOTE_SECONDS = 1.0
"""How long the note of a new owner may be missing: it is written right behind the lock."""

_PAUSE = 0.03


class SharedTransport:
    """Opens the folder, or calls the process that has it open.

    Args:
        options: Which folder, and whose API key.
        servers: The servers of this process.
    """

    def __init__(self, options: TransportOptions, servers: EmbeddedServers) -> None:
        self._options = options
        self._servers = servers
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        """Know nothing of where the memory is: at the start, and in a forked child."""
        self._pid = os.getpid()
        self._current: AsyncTransport | None = None
        self._finding = asyncio.Lock()

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
        if current is not None and self._pid == os.getpid():
            await current.close()

    async def _find(self) -> AsyncTransport:
        if self._pid != os.getpid():
            self._begin()  # without a word to what was found before: its connections are the parent's
        async with self._finding:
            if self._closed:
                raise MemxClosedError("closed", "the context was closed")
            if self._current is None:
                self._current = await self._open()
            return self._current

    async def _open(self) -> AsyncTransport:
        """Find the folder's memory; the steps are counted in the module's docstring."""
        begun = time.monotonic()
        while True:
            try:
                return await self._own()  # 1
            except MemxConnectionError as error:
                if not isinstance(error.__cause__, InUse):
                    raise
                holder = error.__cause__.holder
                if "address" in holder and "key" in holder:  # 2
                    return self._to(holder)
                waited = time.monotonic() - begun
                if waited > (OWNER_SECONDS if "shares" in holder else _NOTE_SECONDS):  # 3, 4
                    raise _refusal(error, holder, waited) from error.__cause__
            await asyncio.sleep(_PAUSE)

    async def _own(self) -> AsyncTransport:
        """Open the folder and answer the other processes.

        Raises:
            MemxConnectionError: Another process has it open (``InUse``), or it cannot be used.
        """
        own = EmbeddedTransport(self._options, self._servers, shares=True)
        try:
            server = await own.server()
        except MemxConnectionError:
            await own.close()
            raise
        # Only an owner needs the web server, which takes long to import.
        from memx_server.transports.folder_sharing import share

        await server.run(share(server))
        return own

    def _to(self, holder: dict[str, Any]) -> AsyncTransport:
        found = replace(self._options, base_url=holder["address"], api_key=holder["key"])
        return open_transport("http", found)

    async def _drop(self, current: AsyncTransport) -> None:
        """Look for the folder's memory anew at the next request."""
        if self._current is current:
            self._current = None
        await current.close()


def _refusal(
    error: MemxConnectionError, holder: dict[str, Any], waited: float
) -> MemxConnectionError:
    if "shares" not in holder:
        return error  # it says who has the folder, and what to do
    return MemxConnectionError(
        "connection",
        f"process {holder.get('pid')} has been opening this folder for {waited:.0f} s; "
        "try again, or stop that process if it hangs",
    )
