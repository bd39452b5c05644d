"""The published memx-sdk 0.1.2 works against this server, unchanged."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from memx_server.storage.base import Store
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore

from memx_sdk import MemxError, memxContext
from tests.docs.python_blocks import ROOT, blocks
from tests.support.memx_server import serve_store
from tests.support.redis_server import RedisServer, free_port

PAGE = ROOT / "docs/migrating.md"
CLIENT = Path(__file__).with_name("published_client.py")


@pytest.fixture(scope="session")
def published_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment that holds memx-sdk 0.1.2 and what it requires."""
    folder = tmp_path_factory.mktemp("published")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60
    )
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "memx-sdk==0.1.2"], check=True, timeout=240)
    return python


def run_client(python: str, url: str, api_key: str) -> Any:
    done = subprocess.run(
        [python, "-I", str(CLIENT), url, api_key], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check(report: Any) -> None:
    assert report["version"] == "0.1.2"
    assert report["missing"] is None
    assert report["set"].items() >= {"ok": True, "updated": True}.items()
    assert report["get"]["value"] == {"x": 1}
    assert report["get"]["ts"] == report["set"]["ts"]
    for event in report["events"]:
        assert (event["event"], event["key"]) == ("value", "agent:goal")
    values = [event["value"] for event in report["events"]]
    assert values == [*range(values[0], values[0] + len(values) - 1), "last"]
    assert report["set_schema"]["ok"] is True
    assert report["get_schema"].keys() == {"key", "schema"}
    assert report["refused"]["status"] == 400
    assert "number" in report["refused"]["body"]["detail"]
    assert report["accepted"]["ok"] is report["delete_schema"]["ok"] is report["free"]["ok"] is True
    assert report["wrong_key"] == 403


@pytest.mark.timeout(360)
def test_the_published_sdk(published_python: str, tmp_path: Path, redis_any: RedisServer) -> None:
    """On both stores in one test, so that the environment is made once."""
    stores: list[Store] = [
        SqliteStore(tmp_path / "memx.db"),
        RedisStore(redis_any.url, prefix=f"test-{secrets.token_hex(6)}"),
    ]
    for store in stores:
        with serve_store(store) as served:
            check(run_client(published_python, served.url, served.api_key))
            for python in (published_python, sys.executable):
                check_the_readmes_program(python, served.url, served.api_key, tmp_path)
                check_the_example(python, served.url, served.api_key)


def check_the_readmes_program(python: str, url: str, api_key: str, folder: Path) -> None:
    """The program of the original's README, as ``docs/migrating.md`` has it, hears of a write."""
    (block,) = [each for each in blocks(PAGE) if "on_update" in each.text]
    program = folder / "program.py"
    text = block.text.replace("http://127.0.0.1:8000", url).replace("local_dev_key", api_key)
    program.write_text(f"{text}\nimport time\ntime.sleep(30)\n", encoding="utf-8")
    process = subprocess.Popen([python, "-Iu", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "{'x': 1, 'y': 7}\n"
        heard: list[str] = []
        reader = threading.Thread(target=lambda: heard.append(process.stdout.readline()))  # type: ignore[union-attr] # asserted above
        reader.start()
        with memxContext(api_key, url) as memory:
            deadline = time.monotonic() + 20
            while reader.is_alive():  # 0.1.2 does not say when it has subscribed
                assert time.monotonic() < deadline, "it heard nothing"
                memory.set("agent:goal", {"x": 2, "y": 3})
                reader.join(0.1)
        assert heard == ["update: {'x': 2, 'y': 3}\n"]
        with memxContext(api_key, url) as memory:
            memory.delete_schema("agent:goal")
    finally:
        process.kill()
        process.wait(10)


def check_the_example(python: str, url: str, api_key: str) -> None:
    environ = {"MEMX_BASE_URL": url, "MEMX_API_KEY": api_key}
    done = subprocess.run(
        [python, "-I", ROOT / "examples/test.py"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert len(shown) == 12
    assert shown[-1].startswith("agent:goal:9 ")
    assert "'x': 9" in shown[-1]
    assert "'y': 18" in shown[-1]


def test_uvicorn_starts_it_under_the_original_s_name(redis_any: RedisServer) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": redis_any.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        with memxContext("local_dev_key", f"http://127.0.0.1:{port}", max_retries=0) as memory:
            while True:
                try:
                    assert memory.whoami()["writer"].startswith("dev")
                    break
                except MemxError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(20)
