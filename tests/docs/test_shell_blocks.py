"""Every command in the documentation runs, and every command that its text names exists."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.docs.shell_blocks import ROOT, Block, blocks, documents
from tests.support.redis_server import RedisServer, free_port

pytestmark = pytest.mark.timeout(150)

ALL = [block for path in documents() for block in blocks(path)]
RUN = [block for block in ALL if block.how == "run"]
FOLLOWERS = [block for block in ALL if block.how == "until Ctrl-C"]
SERVERS = [block for block in ALL if block.how == "in the background"]

BINARIES = Path(sys.executable).parent
ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost):8000")
BLOCK_SECONDS = 120
START_SECONDS = 20
INTERRUPTED = (0, 130, -signal.SIGINT)

STAND_INS = {
    "pip": 'exec "{python}" {root}/tests/docs/pip_stand_in.py "$@"',
    "uvx": 'exec "{binaries}/$1" --help',
}
"""For commands that would fetch what is not published yet."""


@dataclass(frozen=True)
class Reader:
    """Someone who tries the blocks: a home of their own, the installed commands, a server."""

    home: Path
    url: str
    redis_url: str

    def env(self) -> dict[str, str]:
        return {
            "PATH": f"{self.home / 'bin'}:{BINARIES}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "REDIS_URL": self.redis_url,
            "MEMX_BASE_URL": self.url,
            "TERM": "dumb",
        }

    def copy(self, block: Block, stderr: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        """Start a block with this reader's server and files in place of those it names."""
        script = ADDRESS.sub(self.url.removeprefix("http://"), block.script)
        return self.start(script.replace("keys.json", f"{self.home}/keys.json"), stderr)

    def start(self, script: str, stderr: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        # The environment of this run, which `make` may have been told to make elsewhere.
        script = script.replace(". .venv/bin/activate", f". {BINARIES}/activate")
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env={**os.environ, **self.env()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, redis_any: RedisServer) -> Iterator[Reader]:
    home = tmp_path_factory.mktemp("reader")
    (home / "bin").mkdir()
    for name, text in STAND_INS.items():
        path = home / "bin" / name
        text = text.format(python=sys.executable, root=ROOT, binaries=BINARIES)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    port = free_port()
    reader = Reader(home, f"http://127.0.0.1:{port}", redis_any.url)
    server = reader.start(f"exec memx dev --port {port} --data {home}/data")
    wait_until_healthy(reader.url, server)
    yield reader
    stop(server)


@pytest.mark.parametrize("block", RUN, ids=[block.place for block in RUN])
def test_a_block_runs_as_it_stands(block: Block, reader: Reader) -> None:
    process = reader.copy(block)
    try:
        output, _ = process.communicate(timeout=BLOCK_SECONDS)
    finally:
        kill(process)
    assert process.returncode == 0, f"{block.place}\n{block.script}\n---\n{output}"


@pytest.mark.parametrize("block", SERVERS, ids=[block.place for block in SERVERS])
def test_a_server_block_starts_answers_and_stops(block: Block, reader: Reader) -> None:
    port = free_port()
    *before, command = block.script.rstrip().splitlines()
    process = reader.start("\n".join([*before, f"exec {command} --port {port}"]))
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
    finally:
        stop(process)


@pytest.mark.parametrize("block", FOLLOWERS, ids=[block.place for block in FOLLOWERS])
def test_a_block_that_follows_prints_what_happens(block: Block, reader: Reader) -> None:
    process = reader.copy(block, subprocess.DEVNULL)
    assert process.stdout
    output = b""
    try:
        deadline = time.monotonic() + START_SECONDS
        body = {"key": "team:goal", "value": "followed"}
        while b"followed" not in output:
            assert process.poll() is None, output
            assert time.monotonic() < deadline, output
            httpx.post(f"{reader.url}/set", json=body, headers={"x-api-key": "local_dev_key"})
            if select.select([process.stdout], [], [], 0.1)[0]:
                output += os.read(process.stdout.fileno(), 65_536)
    finally:
        stop(process)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_in_the_text_exists(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8"))) <= targets


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_memx_command_in_the_text_exists(path: Path, known_commands: set[str]) -> None:
    named = set(re.findall(r"`memx ([a-z-]+)", path.read_text(encoding="utf-8")))
    assert named <= known_commands


@pytest.fixture(scope="module")
def known_commands() -> set[str]:
    shown = subprocess.run(
        [BINARIES / "memx", "--help"],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return set(re.findall(r"^[│|\s]*([a-z-]+)\s{2,}", shown, re.MULTILINE))


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_into_the_repository_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)", text)
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (path.parent / link).exists()] == []


def wait_until_healthy(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            assert httpx.get(f"{url}/healthz", timeout=2).status_code == 200
        except httpx.TransportError:
            gone = process.poll() is not None or time.monotonic() > deadline
            if gone:
                kill(process)
                pytest.fail(f"no server at {url}:\n{process.communicate()[0]}")
            time.sleep(0.05)
        else:
            return


def stop(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C, at which a command ends cleanly."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=15)
    finally:
        kill(process)
    assert process.returncode in INTERRUPTED, output
    assert "Traceback" not in output


def kill(process: subprocess.Popen[str]) -> None:
    """End what is left of the block's process group, which this module started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
