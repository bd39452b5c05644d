"""Other servers that agents keep shared values in: found where they are installed, and started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import servers
from benchmarks.servers import Server
from benchmarks.table import Sample
from tests.support.redis_server import free_port

ENVIRONMENT = Path(os.environ.get("MEMX_BENCH_PEERS", ".venv-peers"))
"""A virtual environment with the peers' Python packages, which do not go with memX's own."""


class NotInstalledError(Exception):
    """A peer is not here; the text says what to do about it."""


@contextmanager
def webdis(redis_url: str) -> Iterator[Server]:
    """Webdis, HTTP in front of Redis in C, with one thread."""
    program = _program("webdis", "apt install webdis")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "redis_host": "127.0.0.1",
            "redis_port": int(redis_url.rpartition(":")[2].split("/")[0]),
            "http_host": "127.0.0.1",
            "http_port": port,
            "threads": 1,
            "daemonize": False,
            "database": 0,
            "verbosity": 0,
            "logfile": f"{folder}/log",
        }
        config = Path(folder, "webdis.json")
        config.write_text(json.dumps(settings))
        with _serving(port, program, str(config)) as server:
            yield server


@contextmanager
def etcd() -> Iterator[Server]:
    """One etcd; it forces each write to the disk, which memX leaves to Redis's settings."""
    program = _program("etcd", "apt install etcd-server")
    port, peer = free_port(), f"http://127.0.0.1:{free_port()}"
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        options = ["--data-dir", folder, "--log-level", "error"]
        options += ["--listen-client-urls", url, "--advertise-client-urls", url]
        options += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        options += ["--initial-cluster", f"default={peer}"]
        with _serving(port, program, *options) as server:
            yield server


@contextmanager
def nats() -> Iterator[Server]:
    """One nats-server with JetStream, keeping its files in a folder of its own."""
    program = _program("nats-server", "apt install nats-server")
    python()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["-js", "-sd", folder, "-a", "127.0.0.1", "-p", str(port)]
        with _serving(port, program, *options, "-l", f"{folder}/log") as server:
            yield server


def drive_nats(server: Server, verb: str, value: str, seconds: float) -> Sample:
    """Read or write one key with many calls under way."""
    url = f"nats://127.0.0.1:{server.port}"
    command = [python(), "-m", "benchmarks.nats_client", url, verb, value, str(seconds)]
    before = server.processor_time()
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=seconds + 120, check=True)
    spent = server.processor_time() - before
    found = Sample(**json.loads(done.stdout))
    return replace(found, cpu=1e6 * spent / (found.rate * seconds))


def python() -> str:
    """The interpreter that has nats-py."""
    if not list(ENVIRONMENT.glob("lib/python*/site-packages/nats")):
        raise NotInstalledError(_environment_wants("nats-py uvloop"))
    return str(ENVIRONMENT / "bin/python")


def redis_mcp_server() -> str:
    """The Redis MCP server's command."""
    path = ENVIRONMENT / "bin/redis-mcp-server"
    if not path.exists():
        raise NotInstalledError(_environment_wants("redis-mcp-server"))
    return str(path)


def _environment_wants(packages: str) -> str:
    return f"not installed: python3 -m venv {ENVIRONMENT}; {ENVIRONMENT}/bin/pip install {packages}"


def _program(name: str, remedy: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise NotInstalledError(f"not installed: {remedy}")
    return path


@contextmanager
def _serving(port: int, *command: str) -> Iterator[Server]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with servers.program(*command, **quiet) as process:
        servers.wait_for(port)
        yield Server(f"http://127.0.0.1:{port}", (process.pid,))
