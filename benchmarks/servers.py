"""The servers that are measured: started for a group of rows, and gone after it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from tests.support.memx_server import MemxServer
from tests.support.redis_server import RedisServer, free_port, newest_redis

API_KEY = "local_dev_key"
_PATIENCE = 20.0
_SETTLE_STEP = 0.5
_IDLE = 0.1
"""The share of a processor that an idle server may take."""


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        url: Where, as ``http://127.0.0.1:PORT``.
        pids: Its processes; what they start counts as theirs.
    """

    url: str
    pids: tuple[int, ...]

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.url.rpartition(":")[2])

    def processor_time(self) -> float:
        """Seconds of processor time that it has spent so far."""
        times = [process.cpu_times() for process in self._processes()]
        return sum(each.user + each.system for each in times)

    def memory(self) -> int:
        """Bytes of resident memory."""
        return sum(process.memory_info().rss for process in self._processes())

    def settle(self) -> None:
        """Wait until it does next to nothing, or for the longest time that is worth it."""
        give_up = time.monotonic() + _PATIENCE
        while time.monotonic() < give_up:
            before = self.processor_time()
            time.sleep(_SETTLE_STEP)
            if self.processor_time() - before < _IDLE * _SETTLE_STEP:
                return

    def _processes(self) -> list[psutil.Process]:
        parents = [psutil.Process(pid) for pid in self.pids]
        return parents + [child for each in parents for child in each.children(recursive=True)]


def redis_alone(redis: RedisServer) -> Server:
    """Redis as a server that is measured itself."""
    return Server(f"redis://127.0.0.1:{redis.port}", (redis.pid,))


@contextmanager
def redis() -> Iterator[RedisServer]:
    """The newest Redis here, empty and without persistence."""
    with RedisServer(newest_redis()) as server:
        yield server


@contextmanager
def memx(
    redis_url: str | None, *, workers: int = 1, acl: Mapping[str, Any] | None = None
) -> Iterator[Server]:
    """MemX as ``memx serve`` on Redis, or as ``memx dev`` where there is no Redis."""
    if redis_url is None:
        server = MemxServer("dev", acl=acl)
    else:
        environ, arguments = {"REDIS_URL": redis_url}, ("--workers", str(workers))
        server = MemxServer("serve", acl=acl, environ=environ, arguments=arguments)
    with server:
        yield Server(server.url, (server.pid,))


@contextmanager
def python(module: str, *arguments: str) -> Iterator[Server]:
    """A server of ours that is run as ``python -m MODULE PORT ARGUMENTS``."""
    port = free_port()
    with program(sys.executable, "-m", module, str(port), *arguments) as process:
        server = Server(f"http://127.0.0.1:{port}", (process.pid,))
        wait_for(port)
        yield server


@contextmanager
def program(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def wait_for(port: int) -> None:
    """Wait until a server listens.

    Raises:
        TimeoutError: It does not.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")
