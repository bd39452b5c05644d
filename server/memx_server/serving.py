"""The server process: its socket, its logging, and uvicorn in one process or in several."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from memx_server.log_redaction import JsonFormatter, RedactingFormatter, RedactionFilter
from memx_server.routes.http.protocol import HttpProtocol, WireBounds
from memx_server.routes.observing.access_log import LOGGER as ACCESS_LOGGER
from memx_server.routes.ws.protocol import WireProtocol
from memx_server.settings import Settings

_log = logging.getLogger("memx_server")

BACKLOG = 2048
"""Connections that may wait to be accepted."""
WORKER_PATIENCE = 20
"""Seconds without a sign of life after which the supervisor replaces a worker. A start counts too: on a busy machine
uvicorn's own 5 seconds would replace each worker before it is up, for ever."""
_OTHER_FILES = 256
"""Files that a process may open beside its connections."""
GRACE = 2
"""Seconds that open requests and sockets get to finish at a shutdown."""


class CancellationFilter(logging.Filter):
    """Drops the traceback of a request that a shutdown has cancelled."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log ``record``."""
        return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _log_config(level: int, form: str) -> dict[str, Any]:
    """Return the configuration of logging for a server's process.

    Below INFO only memX's own loggers and uvicorn's speak. Other libraries log there what they are given, which may be
    the value of an entry.
    """
    own = {name: {"level": level} for name in ("memx_sdk", "memx_server", "memx_mcp")}
    # It speaks only where MEMX_ACCESS_LOG asks for it, and then at whatever level the others do.
    own[ACCESS_LOGGER] = {"level": logging.INFO}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {"()": JsonFormatter},
            "text": {
                "()": RedactingFormatter,
                "fmt": "%(asctime)s %(levelname)s %(name)s: %(message)s",
            },
        },
        "filters": {"ended": {"()": CancellationFilter}, "redacted": {"()": RedactionFilter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": form,
                "filters": ["ended", "redacted"],
            }
        },
        "loggers": own,
        "root": {"handlers": ["stderr"], "level": max(level, logging.INFO)},
    }


class CannotListenError(Exception):
    """The address cannot be listened on; the text says why and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Open the socket that a server, or all of its workers, accept from.

    Args:
        host: A name or address of this machine.
        port: 0 takes a free one.

    Raises:
        CannotListenError: The address is in use, not permitted, or not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListenError(f"cannot listen on {host!r}: {error.strerror}") from None
    try:
        # Without it a restart would fail while connections of the last run are in TIME_WAIT. On Windows
        # the option means something else: two servers could share the port.
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListenError(_refusal(error, host, port)) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL at which ``listener`` is reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def log_level() -> int:
    """Return the level of ``MEMX_LOG_LEVEL`` (default: ``warning``).

    Raises:
        ValueError: It names no level.
    """
    name = os.environ.get("MEMX_LOG_LEVEL") or "warning"
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise ValueError(f"MEMX_LOG_LEVEL must be debug, info, warning or error, not {name!r}")
    return level


def log_form() -> str:
    """Return the form of log lines, ``text`` or ``json``, of ``MEMX_LOG_FORMAT``.

    Raises:
        ValueError: It names no form.
    """
    form = os.environ.get("MEMX_LOG_FORMAT", "").lower() or "text"
    if form not in ("text", "json"):
        raise ValueError(f"MEMX_LOG_FORMAT must be text or json, not {form!r}")
    return form


def configure(app: Any, *, workers: int = 1) -> uvicorn.Config:
    """Make uvicorn's settings.

    Args:
        app: The application; for several workers the name to import it by.
        workers: Processes.

    Raises:
        ValueError: ``MEMX_LOG_LEVEL`` names no level, or ``MEMX_LOG_FORMAT`` no form.
    """
    level = log_level()
    return uvicorn.Config(
        app,
        workers=workers,
        loop="auto",  # uvloop wherever it exists
        http=cast(Any, partial(HttpProtocol, bounds=_bounds_of(app))),
        ws=WireProtocol,
        ws_per_message_deflate=False,  # it halves the fan-out
        lifespan="on" if workers > 1 else "off",  # `Server` runs the lifespan by itself
        access_log=False,
        proxy_headers=False,  # the application's `HeadGuard` has them read where there are any
        server_header=False,
        backlog=BACKLOG,
        log_config=_log_config(level, log_form()),
        log_level=level,
        timeout_graceful_shutdown=GRACE,
        timeout_worker_healthcheck=WORKER_PATIENCE,
    )


def _bounds_of(app: Any) -> WireBounds:
    """Return the bounds of an application's requests; workers read theirs from the environment, as this does."""
    services = getattr(app, "services", None)
    if services is not None:
        settings: Settings = services.settings
    else:
        settings = Settings.from_env() if isinstance(app, str) else Settings()
    limits = settings.limits
    connections = min(limits.connections, _most_connections())
    return WireBounds(
        limits.head_bytes,
        settings.head_timeout,
        settings.body_timeout,
        connections,
        min(limits.unknown_connections, max(1, connections // 2)),
    )


def _most_connections() -> int:
    """Return how many connections leave enough files for the store, the evaluation processes and the log.

    A process that can open no more files accepts nobody, and cannot even tell why.
    """
    if sys.platform == "win32":
        return 2**31
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else max(soft // 2, soft - _OTHER_FILES)


class Server(uvicorn.Server):
    """A uvicorn server in this process that reports when it is ready and raises what keeps it from starting.

    It enters the application's lifespan by itself. uvicorn would log a traceback in place of the exception, where
    the command prints one sentence.

    Args:
        app: The application.
        on_ready: Called once the server accepts connections.
    """

    def __init__(self, app: FastAPI, on_ready: Callable[[], None]) -> None:
        super().__init__(configure(app))
        self._lifespan = app.router.lifespan_context(app)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept."""
        await self._lifespan.__aenter__()
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the connections, then end the application."""
        await super().shutdown(sockets)
        await self._lifespan.__aexit__(None, None, None)


def run(app: FastAPI, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve in this process until a signal ends it.

    Raises:
        KeyboardInterrupt: The signal was SIGINT (Ctrl-C).
        CannotOpen: The store's file cannot be used.
    """
    # uvicorn raises the signal once more after its shutdown. SIGTERM is the regular way to end a
    # server, so the process must then exit with 0 and not by the signal.
    signal.signal(signal.SIGTERM, lambda *_: None)
    Server(app, on_ready).run([listener])


STUCK_WORKER = 30
"""Seconds that a worker gets to end once it is told to; it ends itself sooner (see ``StuckProcessWatch``) unless
a single call into C holds its interpreter."""


class WorkerSupervisor(Multiprocess):
    """uvicorn's supervisor, which also remembers whether Ctrl-C ended it.

    Attributes:
        interrupted: Whether SIGINT arrived.
    """

    interrupted = False

    def handle_int(self) -> None:
        """Note the signal and stop the workers."""
        self.interrupted = True
        super().handle_int()

    def join_all(self) -> None:
        """Wait for the workers; one that does not end by itself is killed."""
        ends = time.monotonic() + STUCK_WORKER
        for each in self.processes:
            each.process.join(max(0.0, ends - time.monotonic()))
            if each.exitcode is None:
                _log.critical("a worker has not ended by itself; killing it")
                each.process.kill()
            each.process.join()


def run_workers(workers: int, listener: socket.socket, on_ready: Callable[[], None]) -> int:
    """Serve in several processes, which read their settings from the environment.

    Returns:
        The exit code.

    Raises:
        KeyboardInterrupt: The signal was SIGINT (Ctrl-C).
    """
    listener.set_inheritable(True)
    supervisor = WorkerSupervisor(configure("memx_server.app:app", workers=workers), [listener])
    on_ready()
    supervisor.run()
    if supervisor.interrupted:
        raise KeyboardInterrupt
    return int(any(each.exitcode == STARTUP_FAILURE for each in supervisor.processes))


def _refusal(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use by another program; choose another one with --port"
    if error.errno == errno.EACCES:
        return (
            f"port {port} needs more rights (ports below 1024 do); choose another one with --port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; choose another one with --host"
    return f"cannot listen on {host} port {port}: {error.strerror}"


@contextmanager
def background_server(app: FastAPI) -> Iterator[str]:
    """Serve ``app`` on a free port from a thread of its own; yields its URL."""
    listener = listen("127.0.0.1", 0)
    server = Server(app, on_ready=lambda: None)
    thread = threading.Thread(target=server.run, args=([listener],), name="memx-server")
    thread.start()
    try:
        # The socket takes connections already; they are answered once the server is up.
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join()
