"""A server inside this process: the application on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from memx_sdk.errors import MemxClosedError
from memx_server.app import MemxApp, create_app
from memx_server.auth.acl_file import AclFile
from memx_server.auth.base import Authenticator
from memx_server.domain.access import Principal, Scopes
from memx_server.settings import Settings
from memx_server.storage.sqlite import SqliteStore

T = TypeVar("T")

DATABASE = "memx.db"
ACL_FILE = "acl.json"


class LocalAccess:
    """Who opens the folder of a store may do all that the folder's owner may.

    An API key is only asked about where the folder holds an ACL file, and where one is given.
    """

    def __init__(self, acl_file: Path) -> None:
        self._owner = Principal("local", Scopes.of(["*"], ["*"]), credential="local")
        self._acl: Authenticator | None = AclFile(acl_file) if acl_file.exists() else None

    async def authenticate(self, credential: str | None) -> Principal:
        """Return who ``credential`` stands for."""
        if credential is None or self._acl is None:
            return self._owner
        return await self._acl.authenticate(credential)

    async def current(self, credential: str) -> Principal | None:
        """Return who the API key of this digest stands for now."""
        if credential == self._owner.credential or self._acl is None:
            return self._owner
        return await self._acl.current(credential)


class EmbeddedServer:
    """Serves one folder to all contexts of this process that open it.

    Args:
        folder: Holds the database; None for a temporary one that goes with the server.
    """

    def __init__(self, folder: Path | None) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="memx-")
            folder = Path(self._temporary.name)
        folder.mkdir(parents=True, exist_ok=True)
        self.app: MemxApp = create_app(
            Settings(),
            store=SqliteStore(folder / DATABASE),
            authenticator=LocalAccess(folder / ACL_FILE),
        )
        self._loop = asyncio.new_event_loop()
        self.shares = False
        self._door: tuple[Callable[[], None], asyncio.Task[None]] | None = None
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
            CannotOpen: Another process has it open, or it cannot be used.
        """
        self._thread.start()
        self._started.result()

    def stop(self) -> None:
        """Finish what was begun and let go of the database."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._temporary is not None:
            self._temporary.cleanup()

    def when_stopping(self, end: Callable[[], None], work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` on the server's loop, where this is called, and ``end`` it before the server stops."""
        self._door = (end, asyncio.create_task(work))

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the server's loop, from a coroutine of another one.

        Raises:
            MemxClosedError: The server stopped before it was done.
        """
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # it is the caller who gives up
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
        async with self.app.router.lifespan_context(self.app):
            self._started.set_result(None)
            await self._stop.wait()
            if self._door is not None:
                end, work = self._door
                end()
                await asyncio.wait({work})


class EmbeddedServers:
    """The servers of this process by folder; each lives as long as somebody uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[Path, tuple[EmbeddedServer, int]] = {}

    def acquire(self, location: str) -> EmbeddedServer:
        """Return the server of a folder, started; each call wants one ``release``.

        Raises:
            CannotOpen: As ``EmbeddedServer.start``.
            OSError: The folder cannot be made.
        """
        if not location:
            return _started(None)
        folder = Path(location).resolve()
        with self._lock:
            server, users = self._users.get(folder) or (_started(folder), 0)
            self._users[folder] = (server, users + 1)
        return server

    def release(self, location: str, server: EmbeddedServer) -> None:
        """Give a server back; the last user's release stops it."""
        if location:
            folder = Path(location).resolve()
            with self._lock:
                _, users = self._users[folder]
                if users > 1:
                    self._users[folder] = (server, users - 1)
                    return
                del self._users[folder]
                server.stop()
        else:
            server.stop()


def _started(folder: Path | None) -> EmbeddedServer:
    server = EmbeddedServer(folder)
    server.start()
    return server
