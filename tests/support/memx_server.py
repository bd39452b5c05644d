"""memX servers for tests: in a thread for speed, as a real process where that is the point."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from memx_server import serving
from memx_server.app import MemxApp, create_app
from memx_server.auth.base import missing_credential, unknown_credential
from memx_server.domain.access import DEFAULT_SPACE, Principal, Scopes
from memx_server.settings import Settings
from memx_server.storage.base import Store

from tests.support.redis_server import free_port

START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0

_MEMX = "import typer; from memx_server.cli import commands; app = typer.Typer(); commands.commands(app); app()"
"""The server's commands, also where no distribution is installed."""


class Keys:
    """An authenticator that a test hands API keys out from."""

    def __init__(self) -> None:
        self._principals: dict[str, Principal] = {}

    def add(
        self,
        *,
        key: str | None = None,
        agent: str = "tester",
        space: str = DEFAULT_SPACE,
        read: tuple[str, ...] = ("*",),
        write: tuple[str, ...] = ("*",),
        admin: tuple[str, ...] | None = None,
        expires_at: float | None = None,
    ) -> str:
        """Make an API key; it opens at once."""
        key = key or secrets.token_urlsafe(9)
        scopes = Scopes.of(read, write, admin)
        self._principals[key] = Principal(agent, scopes, space, f"digest-{key}", expires_at)
        return key

    def remove(self, key: str) -> None:
        """Revoke an API key."""
        del self._principals[key]

    def space_of(self, key: str) -> str:
        """The space that an API key opens."""
        return self._principals[key].space

    async def current(self, credential: str) -> Principal | None:
        held = (p for p in self._principals.values() if p.credential == credential)
        return next(held, None)

    async def authenticate(self, credential: str | None) -> Principal:
        if credential is None:
            raise missing_credential()
        principal = self._principals.get(credential)
        if principal is None or (principal.expires_at or time.time() + 1) <= time.time():
            raise unknown_credential()
        return principal


@dataclass
class Served:
    """A server in a thread of this process.

    Attributes:
        url: Where it is reached.
        api_key: Opens everything in the default space.
        keys: Makes further API keys.
        app: The application.
    """

    url: str
    api_key: str
    keys: Keys
    app: MemxApp

    def fresh_key(self, **grant: Any) -> str:
        """Make an API key for a space of its own."""
        return self.keys.add(space=f"space-{secrets.token_hex(4)}", **grant)


@contextmanager
def running_app(app: Any) -> Iterator[str]:
    """Serve an ASGI application on a free loopback port; yields its URL."""
    config = serving.configure(app)
    config.lifespan = "on"
    server = uvicorn.Server(config)
    listener = serving.listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listener],), name="memx-test-server")
    thread.start()
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the application did not start")
            time.sleep(0.002)
        yield serving.url_of(listener)
    finally:
        server.should_exit = True
        thread.join(STOP_TIMEOUT)
        if thread.is_alive():
            server.force_exit = True
            thread.join(STOP_TIMEOUT)
        assert not thread.is_alive(), "the server did not stop"


@contextmanager
def serve_store(store: Store, settings: Settings | None = None) -> Iterator[Served]:
    """Serve memX on ``store``, with API keys that the test makes."""
    keys = Keys()
    api_key = keys.add(key="local_dev_key")
    app = create_app(settings or Settings(), store=store, authenticator=keys)
    with running_app(app) as url:
        yield Served(url, api_key, keys, app)


class MemxServer:
    """``memx dev`` or ``memx serve`` as a process on a free port.

    Args:
        command: ``dev`` (SQLite) or ``serve`` (Redis).
        acl: API keys and their grants, as in an ACL file.
        environ: Further environment variables, for example ``REDIS_URL``.
        arguments: Further command line arguments.
    """

    def __init__(
        self,
        command: str = "dev",
        *,
        acl: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="memx-server-")
        self.directory = Path(self._folder.name)
        self.acl_file = self.directory / "acl.json"
        self.acl_file.write_text(json.dumps(acl or {"local_dev_key": ["*"]}))
        if command == "dev":
            arguments = ("--data", str(self.directory), *arguments)
        self._command = [sys.executable, "-c", _MEMX, command, "--port", str(self.port)]
        self._command += ["--acl", str(self.acl_file), *arguments]
        self._environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.directory / "server.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it, or start it again on the same port and data; returns when it answers."""
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environ,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{self.log}")
            time.sleep(0.02)
        return self

    def stop(self) -> int:
        """End it as an operator would; returns its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._folder.cleanup()

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        try:
            return process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT)
            raise

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
