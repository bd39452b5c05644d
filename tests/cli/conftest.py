"""Fixtures that run the real ``memx`` command."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from typer.testing import CliRunner

from memx_sdk.cli.app import build

MEMX = Path(sys.executable).with_name("memx")
TIMEOUT = 30.0


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Result]


@dataclass(frozen=True)
class Memx:
    """The ``memx`` command in an environment of its own."""

    environ: Mapping[str, str]
    folder: Path

    def __call__(self, *arguments: str, stdin: str = "", **environ: str) -> Result:
        ended = subprocess.run(
            [MEMX, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env={**self.environ, **environ},
            cwd=self.folder,
        )
        return Result(ended.returncode, ended.stdout, ended.stderr)

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [MEMX, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environ, **environ},
            cwd=self.folder,
        )


def clean_environ(folder: Path) -> dict[str, str]:
    """The tests' environment without settings for memX, and with a home of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MEMX_", "SUPABASE_", "REDIS_", "FORCE_COLOR", "XDG_"))
    }
    return kept | {"HOME": str(folder), "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture
def memx(tmp_path: Path) -> Memx:
    """The command, with no server to talk to."""
    return Memx(clean_environ(tmp_path), tmp_path)


@dataclass(frozen=True)
class DevServer:
    """A ``memx dev`` process."""

    url: str
    banner: str
    process: subprocess.Popen[str]


@contextmanager
def dev_server(memx: Memx, *arguments: str, **environ: str) -> Iterator[DevServer]:
    """Run ``memx dev`` on a free port; it is ready when this yields."""
    data = () if "--data" in arguments else ("--data", str(memx.folder / "data"))
    process = memx.start("dev", "--port", "0", *data, *arguments, **environ)
    try:
        assert process.stdout is not None
        lines = list(iter_until(process.stdout, "Ctrl-C ends it"))
        (url,) = [line.split()[1] for line in lines if line.strip().startswith("dashboard")]
        yield DevServer(url, "".join(lines), process)
    finally:
        end(process)


def iter_until(stream: IO[str], last: str) -> Iterator[str]:
    """Yield lines until one holds ``last``; the test's own timeout bounds it."""
    for line in stream:
        yield line
        if last in line:
            return
    raise AssertionError(f"the process ended before it printed {last!r}")


def end(process: subprocess.Popen[str]) -> str:
    """Stop a process, whatever state it is in; return its standard error."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.communicate(timeout=15)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[1]
    except ValueError:  # the pipes were read to their end before
        return ""


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """One server for all tests that only need one; each test uses keys of its own."""
    folder = tmp_path_factory.mktemp("server")
    with dev_server(Memx(clean_environ(folder), folder)) as server:
        yield server


@pytest.fixture
def online(memx: Memx, shared_server: DevServer) -> Memx:
    """The command, set up for a running server."""
    settings = {"MEMX_BASE_URL": shared_server.url, "MEMX_API_KEY": "local_dev_key"}
    return Memx({**memx.environ, **settings}, memx.folder)


@pytest.fixture
def here(shared_server: DevServer) -> Run:
    """The command in the test's own process, which takes a tenth of the time of one of its own."""
    app = build()
    environ = {"MEMX_BASE_URL": shared_server.url, "MEMX_API_KEY": "local_dev_key"}

    def run(*arguments: str, stdin: str = "") -> Result:
        ended = CliRunner().invoke(app, arguments, input=stdin, env=environ)
        return Result(ended.exit_code, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def prefix() -> str:
    """What this test's keys start with."""
    return f"{secrets.token_hex(4)}:"
