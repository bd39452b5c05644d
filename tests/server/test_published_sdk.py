"""The published memx-sdk 0.1.2 works against this server, unchanged."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from memx_server.storage.base import Store
from memx_server.storage.redis import RedisStore
from memx_server.storage.sqlite import SqliteStore

from tests.support.memx_server import serve_store
from tests.support.redis_server import RedisServer

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
