"""The server as a process: started as its users start it, killed under load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from tests.support.memx_server import MemxServer
from tests.support.redis_server import RedisServer, free_port


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"x-api-key": "local_dev_key"}, timeout=10)


class Writers:
    """Threads that set numbered keys until the server is gone; they note what was acknowledged."""

    def __init__(self, url: str, count: int) -> None:
        self.acknowledged: list[str] = []
        self._url = url
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _write(self, number: int) -> None:
        with client(self._url) as http:
            for n in range(1_000_000):
                key = f"k:{number}:{n}"
                try:
                    answer = http.post("/set", json={"key": key, "value": n})
                except httpx.TransportError:
                    return
                assert answer.status_code == 200, answer.text
                self.acknowledged.append(key)

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 20
        while len(self.acknowledged) < count:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)


def test_kill_9_under_load_loses_no_acknowledged_write() -> None:
    with MemxServer("dev") as server:
        writers = Writers(server.url, 4)
        writers.wait_for(300)
        server.kill()
        writers.join()
        server.start()
        with client(server.url) as http:
            for start in range(0, len(writers.acknowledged), 500):
                keys = writers.acknowledged[start : start + 500]
                entries: Any = http.post("/mget", json={"keys": keys}).json()["entries"]
                assert [key for key in keys if entries[key] is None] == []


def test_sigterm_ends_the_server_soon_though_clients_keep_their_connections() -> None:
    with MemxServer("dev") as server, client(server.url) as http:
        assert http.get("/whoami").status_code == 200
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
        assert "Traceback" not in server.log


def test_uvicorn_serves_the_module(redis_any: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    acl = tmp_path / "acl.json"
    acl.write_text('{"local_dev_key": ["*"]}')
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "REDIS_URL": redis_any.url,
        "MEMX_ACL_FILE": str(acl),
    }
    command = [sys.executable, "-m", "uvicorn", "memx_server.app:app", "--port", str(port)]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE)
    try:
        with client(f"http://127.0.0.1:{port}") as http:
            deadline = time.monotonic() + 20
            while True:
                try:
                    assert http.post("/set", json={"key": "u", "value": 1}).status_code == 200
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                else:
                    break
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
    assert b"Traceback" not in errors
