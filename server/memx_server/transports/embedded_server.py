"""Servers inside this process: a folder's application, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from memx_sdk.errors import MemxClosedError
from memx_server.storage.lockfile import DatabaseLock
from memx_server.transports.forks import forget_after_fork
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


class Companion(Protocol):
    """Work that goes on beside a server for as long as it lives."""

    async def run(self) -> None:
        """Work until ``end`` is called."""

    def end(self) -> None:
        """Have ``run`` return soon."""

    def forget_in_child(self) -> None:
        """Let go of the parent's sockets in a forked child."""


class EmbeddedServer:
    """Serves one folder to all contexts of this process that open it.

    The lock of the folder is taken first, before the application is even made: making it imports the
    whole server, which takes a second or several, and a process that is refused should not pay for that.

    Args:
        folder: Holds the database; None for a temporary one that goes with the server.
        make_application: Makes what is served.
        note: What other processes can read in the lock file; see ``DatabaseLock.announce``.

    Attributes:
        app: The application.
        lock: Keeps other processes out of the folder.
        pid: The process that it belongs to.

    Raises:
        CannotOpen: Another process has the folder open (``InUse``).
        OSError: The folder cannot be made.
    """

    def __init__(
        self, folder: Path | None, make_application: ApplicationFactory, **note: Any
    ) -> None:
        self.pid = os.getpid()
        self._remove_folder: Callable[[], object] = _keep
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="memx-"))
            # It goes with the object or the process, whichever ends first.
            self._remove_folder = weakref.finalize(self, _remove, folder, self.pid)
        folder.mkdir(parents=True, exist_ok=True)
        database = folder / DATABASE
        self.lock = DatabaseLock(database)
        self.lock.acquire(**note)
        try:
            self.app = make_application(database, self.lock)
        except BaseException:
            self.lock.release()
            raise
        self._loop = asyncio.new_event_loop()
        self._companion: tuple[Companion, asyncio.Task[None]] | None = None
        self._started: Future[None] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="memx-embedded", daemon=True)
        forget_after_fork(self)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The server's event loop."""
        return self._loop

    @property
    def has_companion(self) -> bool:
        """Whether ``accompany`` has been called."""
        return self._companion is not None

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
        self._remove_folder()

    def accompany(self, companion: Companion) -> None:
        """Run ``companion`` on the server's loop until the server stops; call this on that loop, once."""
        self._companion = (companion, asyncio.create_task(companion.run()))

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

    def forget_in_child(self) -> None:
        """Let go of the parent's lock and sockets in a forked child.

        The thread and its loop do not exist there. What is left of them is never touched: the database
        connections because SQLite forbids it, the loop because its wake-up pipe is the parent's too.
        """
        self.lock.forget_in_child()
        if self._companion is not None:
            self._companion[0].forget_in_child()

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
            if self._companion is not None:
                companion, work = self._companion
                companion.end()
                await asyncio.wait({work})


class EmbeddedServers:
    """The servers of this process by folder; each lives as long as a transport uses it.

    Args:
        make_application: Makes what each of them serves.
    """

    def __init__(self, make_application: ApplicationFactory) -> None:
        self._make_application = make_application
        self.forget_in_child()
        forget_after_fork(self)

    def forget_in_child(self) -> None:
        """Begin anew: in a forked child the servers are the parent's, and the lock may be held for ever."""
        # Held while a server starts or stops: two threads that ask for one folder must get one server,
        # and a start must not find the lock of a server that is still stopping.
        self._lock = threading.Lock()
        self._users: dict[Path, tuple[EmbeddedServer, int]] = {}

    def acquire(self, location: str, **note: Any) -> EmbeddedServer:
        """Return the server of a folder, started; each call wants one ``release``.

        Args:
            location: The folder; empty for a temporary one.
            note: For the lock file, where the server is made by this call.

        Raises:
            CannotOpen: Another process has the folder open (``InUse``), or it cannot be used.
            OSError: The folder cannot be made.
        """
        if not location:
            return self._started(None, note)
        folder = Path(location).resolve()
        with self._lock:
            server, users = self._users.get(folder) or (self._started(folder, note), 0)
            self._users[folder] = (server, users + 1)
        return server

    def release(self, location: str, server: EmbeddedServer) -> None:
        """Give a server back; the last user's release stops it. A parent's server is left alone."""
        if server.pid != os.getpid():
            return
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

    def _started(self, folder: Path | None, note: dict[str, Any]) -> EmbeddedServer:
        server = EmbeddedServer(folder, self._make_application, **note)
        server.start()
        return server


def _keep() -> None:
    """Leave a folder that is not temporary."""


def _remove(folder: Path, pid: int) -> None:
    """Remove a temporary folder, in the process that made it: a forked child ends too, and earlier."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
