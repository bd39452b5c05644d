"""``memx watch``: what it shows, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from memx_sdk import memxContext
from tests.cli.conftest import MEMX, DevServer, Memx, dev_server, end
from tests.support.redis_server import free_port


@pytest.fixture
def memory(shared_server: DevServer) -> Iterator[memxContext]:
    with memxContext("local_dev_key", shared_server.url, agent="writer") as context:
        yield context


@contextmanager
def watching(memx: Memx, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = memx.start("watch", *arguments)
    try:
        yield process
    finally:
        end(process)


def lines(stream: IO[str] | None, count: int) -> list[str]:
    assert stream is not None
    return [stream.readline() for _ in range(count)]


def test_it_shows_the_present_then_changes_as_they_happen(
    online: Memx, memory: memxContext, prefix: str
) -> None:
    memory.set(f"{prefix}a", 1)
    with watching(online, f"{prefix}*", "--snapshot", "--count", "4") as process:
        (present,) = lines(process.stdout, 1)
        memory.set(f"{prefix}b", {"n": 2}, reason="to be seen")
        memory.delete(f"{prefix}a")
        memory.set_schema(f"{prefix}*", {})
        memory.set(f"{prefix}c", "last")
        shown = lines(process.stdout, 3)
        assert process.wait(10) == 0
    assert f"{prefix}a = 1" in present
    assert "dev/writer" in shown[0]
    assert f'{prefix}b = {{"n":2}}  ("to be seen")' in shown[0]
    assert f"{prefix}a deleted" in shown[1]
    assert f'{prefix}c = "last"' in shown[2]


def test_json_lines_resume_from_their_cursor(
    online: Memx, memory: memxContext, prefix: str
) -> None:
    before = memory.cursor()
    for n in range(3):
        memory.set(f"{prefix}k", n)

    first = online("watch", f"{prefix}*", "--since", before, "--count", "1", "--json").document
    rest = online("watch", f"{prefix}*", "--since", first["cursor"], "-n", "2", "--json").documents

    assert [change["value"] for change in (first, *rest)] == [0, 1, 2]
    assert first["writer"] == "dev/writer"


def test_schemas_can_be_watched(online: Memx, memory: memxContext, prefix: str) -> None:
    before = memory.cursor()
    memory.set_schema(f"{prefix}*", {"type": "object"})
    shown = online("watch", f"{prefix}*", "--event", "schema", "--since", before, "-n", "1")

    assert f'{prefix}* schema {{"type":"object"}}' in shown.out


def test_ctrl_c_ends_it_quietly(online: Memx, memory: memxContext, prefix: str) -> None:
    memory.set(f"{prefix}k", 1)
    with watching(online, f"{prefix}*", "--snapshot") as process:
        lines(process.stdout, 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_reader_that_leaves_ends_it_quietly(
    online: Memx, memory: memxContext, prefix: str
) -> None:
    for n in range(50):
        memory.set(f"{prefix}{n}", "x" * 4000)
    shell = subprocess.run(
        ["sh", "-c", f"'{MEMX}' watch '{prefix}*' --snapshot | head -n 1"],
        env=dict(online.environ),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert shell.returncode == 0
    assert "Traceback" not in shell.stderr


def test_it_goes_on_when_the_server_comes_back(memx: Memx) -> None:
    port, data = str(free_port()), str(memx.folder / "data")
    options = {"MEMX_API_KEY": "local_dev_key", "MEMX_BASE_URL": f"http://127.0.0.1:{port}"}
    online = Memx({**memx.environ, **options}, memx.folder)
    with dev_server(memx, "--port", port, "--data", data):
        online("set", "k", "1")
        process = online.start("watch", "--snapshot", "--json")
        assert json.loads(lines(process.stdout, 1)[0])["value"] == 1
    try:
        with dev_server(memx, "--port", port, "--data", data):
            online("set", "k", "2")
            assert json.loads(lines(process.stdout, 1)[0])["value"] == 2
    finally:
        end(process)


def test_a_refusal_ends_it(online: Memx, prefix: str) -> None:
    assert online("watch", prefix, MEMX_API_KEY="wrong").code == 6
    assert online("watch", "[").code == 5
    assert online("watch", prefix, "--since", "nonsense").code == 5


def test_no_server_at_the_start_ends_it(memx: Memx) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ended = memx("watch", "--url", url, "--api-key", "k", "--timeout", "1")

    assert ended.code == 7
    assert len(ended.err.splitlines()) <= 2
    assert "memx doctor" in ended.err
