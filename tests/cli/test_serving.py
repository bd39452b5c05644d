"""Servers as processes: how they begin, what they say, how they end."""

from __future__ import annotations

import json
import select
import signal
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from websockets.sync.client import connect

from memx_sdk import UnavailableError, memxContext
from tests.cli.conftest import MEMX, Memx, dev_server, end, iter_until
from tests.support.redis_server import RedisServer, free_port, newest_redis

pytestmark = pytest.mark.timeout(180)  # a start with workers takes a while on a busy machine

ENDS_WITHIN = 6.0
"""Seconds from the signal to the end of the process, with everything open."""

KEY = "local_dev_key"


def test_dev_says_where_to_go_and_makes_a_key(memx: Memx) -> None:
    with dev_server(memx) as server:
        assert f"{server.url}/docs" in server.banner
        assert KEY in server.banner
        assert "made just now" in server.banner
        for command in ("memx set", "memx watch"):
            assert command in server.banner
        with memxContext(KEY, server.url) as memory:
            assert memory.set("k", 1).updated
    acl = memx.folder / "data/acl.json"
    assert stat.S_IMODE(acl.stat().st_mode) == 0o600


def test_devs_commands_work_as_printed(memx: Memx) -> None:
    with dev_server(memx) as server:
        lines = [line.strip() for line in server.banner.splitlines()]
        export = next(line for line in lines if line.startswith("export "))
        hello = next(line for line in lines if line.startswith("memx set "))
        shell = {**memx.environ, "PATH": f"{MEMX.parent}:{memx.environ['PATH']}"}
        ran = subprocess.run(
            ["sh", "-c", f"{export}\n{hello}"],
            env=shell,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert (ran.returncode, ran.stdout) == (0, '"hello"\n')


def test_dev_keeps_the_memory_and_the_key(memx: Memx) -> None:
    with dev_server(memx) as server, memxContext(KEY, server.url) as memory:
        memory.set("k", "kept")
    with dev_server(memx) as server, memxContext(KEY, server.url) as memory:
        assert "made just now" not in server.banner
        entry = memory.get("k")
    assert entry is not None
    assert entry.value == "kept"


def test_dev_survives_kill_9(memx: Memx) -> None:
    with dev_server(memx) as server, memxContext(KEY, server.url) as memory:
        memory.set("k", "kept")
        server.process.kill()
        server.process.wait(10)
    with dev_server(memx) as server, memxContext(KEY, server.url) as memory:
        assert memory.keys() == ["k"]


def test_dev_takes_the_acl_file_it_is_given(memx: Memx) -> None:
    acl = memx.folder / "keys.json"
    acl.write_text(json.dumps({"mine": {"agent": "me", "read": ["*"]}}))
    with dev_server(memx, "--acl", str(acl)) as server:
        assert "local_dev_key" not in server.banner
        with memxContext("mine", server.url) as memory:
            assert memory.whoami()["principal"] == "me"
    assert not (memx.folder / "data/acl.json").exists()


def test_dev_takes_the_sample_keys_of_the_folder_it_is_started_in(memx: Memx) -> None:
    (memx.folder / "config").mkdir()
    (memx.folder / "config/acl.json").write_text(json.dumps({"sample": ["*"]}))
    with dev_server(memx) as server, memxContext("sample", server.url) as memory:
        assert memory.keys() == []


def test_a_second_server_on_the_same_memory_is_refused(memx: Memx) -> None:
    with dev_server(memx) as server:
        refused = memx("dev", "--port", "0", "--data", str(memx.folder / "data"))
        assert refused.code == 1
        assert refused.out == ""
        (line,) = refused.err.splitlines()
        assert f"in use by process {server.process.pid} (it answers at {server.url})" in line


@pytest.mark.parametrize("command", ["dev", "serve"])
def test_a_port_in_use_is_one_line(memx: Memx, command: str) -> None:
    acl = memx.folder / "acl.json"
    acl.write_text('{"key": ["*"]}')
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        refused = memx(command, "--port", str(port), "--acl", str(acl))
    assert refused.code == 1
    (line,) = refused.err.splitlines()
    assert f"port {port} is in use" in line
    assert "--port" in line


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "does not exist"),
        ("", "no ACL file"),
        ("[]", "no ACL file"),
        ('{"k": 1}', "no ACL file"),
        ('{"k": ["[a"]}', "unbalanced"),
        ('{"k": ["a"], "k": ["b"]}', "twice"),
        ("{}", "holds no API key"),
    ],
)
def test_an_acl_file_that_cannot_be_used_is_one_line(
    memx: Memx, text: str | None, fault: str
) -> None:
    acl = memx.folder / "acl.json"
    if text is not None:
        acl.write_text(text)
    refused = memx("serve", "--port", "0", "--acl", str(acl))
    assert refused.code == 1
    (line,) = refused.err.splitlines()
    assert "acl.json" in line
    assert fault in line


def test_serve_without_keys_says_how_to_name_them(memx: Memx) -> None:
    refused = memx("serve", "--port", "0")
    assert refused.code == 1
    assert "--acl" in refused.err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MEMX_WRITE_DEADLINE", "soon"),
        ("REDIS_URL", "mysql://x"),
        ("MEMX_MAX_VALUE_BYTES", "-1"),
        ("MEMX_LOG_LEVEL", "chatty"),
        ("MEMX_STORE_URL", "sqlite:/dev/null/memx.db"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(memx: Memx, variable: str, value: str) -> None:
    (memx.folder / "acl.json").write_text('{"key": ["*"]}')
    refused = memx("serve", "--port", "0", "--acl", "acl.json", **{variable: value})
    assert refused.code == 1
    assert len(refused.err.splitlines()) == 1
    assert "Traceback" not in refused.err


def test_several_workers_on_sqlite_are_one_line(memx: Memx) -> None:
    (memx.folder / "acl.json").write_text('{"key": ["*"]}')
    command = ("serve", "--port", "0", "--acl", "acl.json", "--workers", "2")
    refused = memx(*command, MEMX_STORE_URL="sqlite:memx.db")
    assert refused.code == 1
    (line,) = refused.err.splitlines()
    assert "--workers" in line


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_dev_ends_quickly_with_streams_open(memx: Memx, how: signal.Signals, code: int) -> None:
    with dev_server(memx) as server, streams_open(server.url):
        assert ended(server.process, how) == (code, "")


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.parametrize("workers", [1, 2])
def test_serve_ends_quickly_with_streams_open(
    memx: Memx, redis_any: RedisServer, workers: int, how: signal.Signals, code: int
) -> None:
    with serving(memx, redis_any.url, workers) as (url, process), streams_open(url):
        assert ended(process, how) == (code, "")


def test_workers_end_with_a_supervisor_that_was_killed(memx: Memx, redis_any: RedisServer) -> None:
    with serving(memx, redis_any.url, workers=2) as (url, process):
        process.kill()
        process.wait(10)
        deadline = time.monotonic() + 10
        while ready(url):
            assert time.monotonic() < deadline, "the workers hold the port for ever"
            time.sleep(0.05)


def test_what_is_under_way_is_cut_short_without_a_traceback(memx: Memx) -> None:
    with dev_server(memx) as server, requests_open(server.url):
        code, stderr = ended(server.process, signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in stderr


def test_serve_with_workers_shares_one_memory(memx: Memx, redis_any: RedisServer) -> None:
    with serving(memx, redis_any.url, workers=2) as (url, _):
        contexts = [memxContext(KEY, url) for _ in range(4)]
        try:
            contexts[0].set("cli:shared", "seen by all")
            for context in contexts:
                entry = context.get("cli:shared")
                assert entry is not None
                assert entry.value == "seen by all"
        finally:
            for context in contexts:
                context.close()


def test_serve_starts_without_redis_says_so_and_recovers(memx: Memx) -> None:
    redis = RedisServer(newest_redis())
    try:
        with serving(memx, redis.url) as (url, process):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{url}/readyz", timeout=5)
            assert refused.value.code == 503
            with memxContext(KEY, url, max_retries=0) as memory:
                with pytest.raises(UnavailableError):
                    memory.set("k", 1)
                redis.start()
                deadline = time.monotonic() + 10
                while not ready(url) and time.monotonic() < deadline:
                    time.sleep(0.05)
                assert memory.set("k", 1).updated
            stderr = end(process)
        assert f"127.0.0.1:{redis.port}" in stderr
        assert "Traceback" not in stderr
    finally:
        redis.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_says_that_it_is_ready_when_it_is(memx: Memx, workers: int) -> None:
    redis = RedisServer(newest_redis())
    try:
        with serving(memx, redis.url, workers) as (url, process):
            assert process.stdout is not None
            assert process.stderr is not None
            list(iter_until(process.stderr, "is not ready"))
            assert not ready(url)
            assert select.select([process.stdout], [], [], 0) == (
                [],
                [],
                [],
            )  # not a word until then
            redis.start()
            list(iter_until(process.stdout, "memX is ready"))
            assert ready(url)
    finally:
        redis.close()


def test_serve_is_not_ready_while_redis_refuses_it(memx: Memx) -> None:
    with RedisServer(newest_redis()) as redis, redis.client() as client:
        client.config_set("requirepass", "another")
        with serving(memx, redis.url) as (_, process):
            assert process.stdout is not None
            assert process.stderr is not None
            list(iter_until(process.stderr, "is not ready"))
            client.execute_command("AUTH", "another")
            client.config_set("requirepass", "")
            list(iter_until(process.stdout, "memX is ready"))


@contextmanager
def serving(
    memx: Memx, redis_url: str, workers: int = 1, acl: dict[str, Any] | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``memx serve`` on a free port; it answers when this yields."""
    (memx.folder / "acl.json").write_text(json.dumps(acl or {KEY: ["*"]}))
    port = free_port()
    command = ("serve", "--port", str(port), "--workers", str(workers), "--acl", "acl.json")
    process = memx.start(*command, REDIS_URL=redis_url)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(url, process)
        yield url, process
    finally:
        end(process)


def wait_until_healthy(url: str, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
        except OSError:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(json.load(answer)["ok"])
    except OSError:
        return False


@contextmanager
def streams_open(url: str) -> Iterator[None]:
    """Hold a subscription, an event stream and an idle connection open."""
    host, port = url.removeprefix("http://").split(":")
    key = {"x-api-key": KEY}
    websocket = connect(f"ws://{host}:{port}/subscribe/*", additional_headers=key)
    events = urllib.request.Request(
        f"{url}/changes", headers={**key, "accept": "text/event-stream"}
    )
    with (
        closing(socket.create_connection((host, int(port)))),
        closing(urllib.request.urlopen(events, timeout=10)),
    ):
        yield
    websocket.close_socket()


@contextmanager
def requests_open(url: str) -> Iterator[None]:
    """Hold a long poll and a half-sent request open."""
    host, port = url.removeprefix("http://").split(":")
    with (
        closing(socket.create_connection((host, int(port)))) as poll,
        closing(socket.create_connection((host, int(port)))) as half,
    ):
        key = f"host: x\r\nx-api-key: {KEY}\r\n"
        poll.sendall(f"GET /changes?wait=20&pattern=none HTTP/1.1\r\n{key}\r\n".encode())
        half.sendall(f"POST /set HTTP/1.1\r\n{key}content-length: 9\r\n\r\n{{".encode())
        assert ready(url)  # and so both have been read
        yield


def ended(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str]:
    """Send a signal; return the exit code and the standard error."""
    process.send_signal(how)
    try:
        _, stderr = process.communicate(timeout=ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, stderr
