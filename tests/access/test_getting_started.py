"""A server with sample keys that others could reach says so when it starts, whatever started it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from memx_server import exposure
from memx_server.auth.grants import digest_of
from memx_server.auth.sample_keys import SAMPLE_CREDENTIALS, is_loopback

from tests.cli.conftest import clean_environ
from tests.support.redis_server import RedisServer, free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SAMPLES = {"local_dev_key": ["*"], f"sha256:{digest_of('guest_key').hex()}": ["a"], "own": ["*"]}

MEMX_SERVE = (str(BIN / "memx"), "serve")
UVICORN = (sys.executable, "-m", "uvicorn", "memx_server.app:app")


@contextmanager
def started(
    folder: Path, command: tuple[str, ...], redis: RedisServer, **environ: str
) -> Iterator[str]:
    """Run a server until it answers; the context yields the file of its log."""
    log = folder / "log"
    settings = {"MEMX_ACL_FILE": str(folder / "acl.json"), "REDIS_URL": redis.url, **environ}
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env=clean_environ(folder) | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
        )
    try:
        wait_for(lambda: answers(port), process, log)
        yield str(log)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
    except OSError:
        return False
    return True


def wait_for(holds: object, process: subprocess.Popen[bytes], log: Path) -> None:
    assert callable(holds)
    deadline = time.monotonic() + 40
    while not holds():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("command", [MEMX_SERVE, UVICORN], ids=["memx serve", "uvicorn"])
def test_on_an_address_of_the_network_it_warns(
    command: tuple[str, ...], tmp_path: Path, redis_any: RedisServer
) -> None:
    (tmp_path / "acl.json").write_text(json.dumps(SAMPLES))
    with started(tmp_path, (*command, "--host", "0.0.0.0"), redis_any) as name:
        log = Path(name)
        deadline = time.monotonic() + 15
        while "sample API keys" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
    (line,) = [line for line in log.read_text().splitlines() if "sample API keys" in line]
    assert "0.0.0.0" in line
    assert "holds 2 sample API keys" in line
    assert "memx api-keys create" in line
    assert "local_dev_key" not in line


@pytest.mark.parametrize(
    ("host", "acl", "environ"),
    [
        ("127.0.0.1", SAMPLES, {}),
        ("0.0.0.0", {"own": ["*"]}, {}),
        ("0.0.0.0", SAMPLES, {"MEMX_PUBLISHED_ON_LOOPBACK": "1"}),
    ],
    ids=["on loopback", "without sample keys", "published on loopback"],
)
def test_else_it_does_not(
    host: str,
    acl: dict[str, list[str]],
    environ: dict[str, str],
    tmp_path: Path,
    redis_any: RedisServer,
) -> None:
    (tmp_path / "acl.json").write_text(json.dumps(acl))
    with started(tmp_path, (*MEMX_SERVE, "--host", host), redis_any, **environ) as name:
        time.sleep(0.5)  # a warning would come within a tenth of a second of listening
    assert "sample API keys" not in Path(name).read_text()


def test_every_key_of_the_sample_file_is_known_as_one() -> None:
    keys = json.loads((ROOT / "config/acl.json").read_text())
    assert {digest_of(key).hex() for key in keys} == SAMPLE_CREDENTIALS


def test_loopback_addresses() -> None:
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "192.168.0.1", "memx.example.org", ""):
        assert not is_loopback(host)


def test_looking_for_the_address_keeps_no_file_open() -> None:
    """It is done again and again until the server listens."""
    with socket.create_server(("127.0.0.1", 0)):
        open_before = len(list(Path("/dev/fd").iterdir()))
        for _ in range(20):
            assert "127.0.0.1" in set(exposure._listening_hosts())
        assert len(list(Path("/dev/fd").iterdir())) == open_before
