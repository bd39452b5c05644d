"""Servers inside this process: a folder's application, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from memx_sdk.errors import MemxClosedError
from memx_server.storage.sqlite.lockfile import DatabaseLock
from memx_server.transports.in_process import Application

T = TypeVar("T")

DATABASE = "memx.db"
"""The database's name in its folder."""


class EmbeddedApplication(Application, Protocol):
    """An application that opens its store when it begins to serve, and closes it when it ends."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Hold what the application needs while it serves."""


ApplicationFactory = Callable[[Path, DatabaseLock], EmbeddedApplication]
"""Makes the application of a database; the lock is held, by the server that calls the factory."""


class EmbeddedServer:
    """Serves one folder to all contexts of this process that open it.

    Args:
        folder: Holds the database; None for a temporary one that goes with the server.
        make_application: Makes what is served.

    Attributes:
        app: The application.
        lock: Keeps other processes out of the folder.
    """

    def __init__(self, folder: Path | None, make_application: ApplicationFactory) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="memx-")
            folder = Path(self._temporary.name)
        folder.mkdir(parents=True, exist_ok=True)
        database = folder / DATABASE
        self.lock = DatabaseLock(database)
        self.lock.acquire()
        try:
            self.app = make_application(database, self.lock)
        except BaseException:
            self.lock.release()
            raise
        self._loop = asyncio.new_event_loop()
        self._before_stop: tuple[Callable[[], None], asyncio.Task[None]] | None = None
        self._started: Future[None] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="memx-embedded", daemon=True)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The server's event loop."""
        return self._loop

    def start(self) -> None:
        """Open the database and begin to serve.

        Raises:
            CannotOpen: The database cannot be used.
        """
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._thread.join()
            self.lock.release()
            raise

    def stop(self) -> None:
        """Finish what was begun and let go of the database."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        # Only now is the file closed: another process may have it from here on.
        self.lock.release()
        if self._temporary is not None:
            self._temporary.cleanup()

    def run_until_stop(self, work: Coroutine[Any, Any, None], end: Callable[[], None]) -> None:
        """Run ``work`` on the server's loop; call ``end`` and wait for it before the server stops.

        Call this on that loop, and once.
        """
        self._before_stop = (end, asyncio.create_task(work))

    @property
    def is_shared(self) -> bool:
        """Whether ``run_until_stop`` has been called."""
        return self._before_stop is not None

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the server's loop, from a coroutine of another one.

        Raises:
            MemxClosedError: The server stopped before it was done.
        """
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            # Two parties cancel: the caller, who gives up, and the runner, which at its end cancels
            # every task that is left. Only the caller's own cancellation is passed on as one.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise MemxClosedError("closed", "the context was closed meanwhile") from None

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:
                if self._started.done():
                    raise
                self._started.set_exception(error)

    async def _serve(self) -> None:
        async with self.app.running():
            self._started.set_result(None)
            await self._stop.wait()
            if self._before_stop is not None:
                end, work = self._before_stop
                end()
                await asyncio.wait({work})


class EmbeddedServers:
    """The servers of this process by folder; each lives as long as a transport uses it.

    Args:
        make_application: Makes what each of them serves.
    """

    def __init__(self, make_application: ApplicationFactory) -> None:
        self._make_application = make_application
        # Held while a server starts or stops: two threads that ask for one folder must get one server,
        # and a start must not find the lock of a server that is still stopping.
        self._lock = threading.Lock()
        self._users: dict[Path, tuple[EmbeddedServer, int]] = {}

    def acquire(self, location: str) -> EmbeddedServer:
        """Return the server of a folder, started; each call wants one ``release``.

        Args:
            location: The folder; empty for a temporary one.

        Raises:
            CannotOpen: Another process has the folder open (``InUse``), or it cannot be used.
            OSError: The folder cannot be made.
        """
        if not location:
            return self._started(None)
        folder = Path(location).resolve()
        with self._lock:
            server, users = self._users.get(folder) or (self._started(folder), 0)
            self._users[folder] = (server, users + 1)
        return server

    def release(self, location: str, server: EmbeddedServer) -> None:
        """Give a server back; the last user's release stops it."""
        if not location:
            server.stop()
            return
        folder = Path(location).resolve()
        with self._lock:
            _, users = self._users[folder]
            if users > 1:
                self._users[folder] = (server, users - 1)
                return
            del self._users[folder]
            server.stop()

    def _started(self, folder: Path | None) -> EmbeddedServer:
        server = EmbeddedServer(folder, self._make_application)
        server.start()
        return server
