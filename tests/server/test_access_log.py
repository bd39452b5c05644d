"""The access log: a line for each request over every road, ids, and nothing that an agent could forge."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from memx_server.routes.observing.access_log import AccessLog, Observation, hash_of
from memx_server.routes.observing.request_ids import RequestId
from memx_server.settings import Settings
from memx_server.unknown_settings import unknown_settings
from websockets.sync.client import connect

from tests.support.memx_server import MemxServer

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def logging_server() -> Iterator[MemxServer]:
    environ = {
        "MEMX_ACCESS_LOG": "on",
        "MEMX_LOG_FORMAT": "json",
        "MEMX_ALOWED_HOSTS": "memx.example.org",
    }
    with MemxServer("dev", environ=environ) as server:
        yield server


def logged(server: MemxServer, count: int, **wanted: Any) -> list[dict[str, Any]]:
    """Wait for so many lines of the access log with these fields."""
    deadline = time.monotonic() + 10
    while True:
        lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
        found = [line for line in lines if wanted.items() <= line.items()]
        if len(found) >= count or time.monotonic() > deadline:
            assert len(found) == count, lines
            return found
        time.sleep(0.02)


def api(server: MemxServer, **headers: str) -> httpx.Client:
    return httpx.Client(
        base_url=server.url, headers={"x-api-key": "local_dev_key", **headers}, timeout=10
    )


def test_a_request_is_one_line_with_its_id_and_no_key(logging_server: MemxServer) -> None:
    ids = {"x-request-id": "proxy-7", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    with api(logging_server, **ids) as client:
        answer = client.post("/set", json={"key": "plan:secret-name", "value": "secret-value"})
    assert answer.headers["x-request-id"] == "proxy-7"

    (line,) = logged(logging_server, 1, request_id="proxy-7")
    assert line["logger"] == "memx_server.access"
    assert (line["operation"], line["outcome"], line["status"]) == ("set", "ok", 200)
    assert line["trace_id"] == TRACE
    assert line["duration_ms"] > 0
    assert line["key_hashes"] == hash_of("plan:secret-name")
    assert "secret-name" not in logging_server.log
    assert "secret-value" not in logging_server.log


def test_refusals_and_foreign_ids(logging_server: MemxServer) -> None:
    with api(logging_server, **{"x-api-key": "wrong", "x-request-id": "a b"}) as client:
        answer = client.get("/get", params={"key": "k"})
    made = answer.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{16}", made)

    (line,) = logged(logging_server, 1, request_id=made)
    assert (line["outcome"], line["status"]) == ("forbidden", 403)
    assert "writer" not in line
    assert "wrong" not in json.dumps(line)


def test_frames_of_a_socket_are_lines_of_its_id(logging_server: MemxServer) -> None:
    url = logging_server.url.replace("http", "ws")
    headers = {"x-api-key": "local_dev_key", "x-request-id": "socket-1"}
    with connect(f"{url}/ws", additional_headers=headers, proxy=None) as socket:
        assert socket.response is not None
        assert socket.response.headers["x-request-id"] == "socket-1"
        socket.recv()
        socket.send(json.dumps({"id": 1, "op": "set", "key": "a", "value": 1}))
        socket.recv()
        socket.send(json.dumps({"id": 2, "op": "mget", "keys": ["a", "b"]}))
        socket.recv()

    lines = logged(logging_server, 3, request_id="socket-1")
    assert [line["operation"] for line in lines] == ["connect", "set", "mget"]
    assert lines[2]["key_hashes"] == f"{hash_of('a')} {hash_of('b')}"


def test_a_misspelt_variable_is_named_with_the_nearest_one(logging_server: MemxServer) -> None:
    assert "MEMX_ALOWED_HOSTS is no setting of memX" in logging_server.log
    assert "did you mean MEMX_ALLOWED_HOSTS?" in " ".join(logging_server.log.split())


def test_what_an_agent_chose_stays_one_line(caplog: pytest.LogCaptureFixture) -> None:
    class Asked:
        key = "k\u2028two words"

    seen = Observation(RequestId("r"), "get", Asked(), None, b"null", 0.001)
    caplog.set_level("INFO", "memx_server.access")
    AccessLog(with_keys=True).note(seen)
    AccessLog(with_keys=False).note(seen._replace(result=None))

    named, hashed = (record.getMessage() for record in caplog.records)
    assert "\u2028" not in named
    assert 'keys="' in named
    assert "two words" not in hashed
    assert "outcome=client_gone status=499" in hashed


def test_every_variable_that_the_code_reads_is_known() -> None:
    root = Path(__file__).resolve().parents[2]
    sources = [*(root / "server/memx_server").rglob("*.py"), *(root / "memx_sdk").rglob("*.py")]
    named = {
        name
        for path in [*sources, root / "docker-compose.yml"]
        for name in re.findall(r"\bMEMX_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))
    }
    unknown = [line.split()[0] for line in unknown_settings(dict.fromkeys(named, "1"))]
    assert unknown == [], "name them in memx_server/unknown_settings.py"


def test_a_limit_that_cannot_be_changed_says_so() -> None:
    assert Settings.from_env({"MEMX_MAX_KEY_BYTES": "512"}).limits.key_bytes == 512
    with pytest.raises(ValueError, match="MEMX_MAX_KEY_BYTES cannot be changed"):
        Settings.from_env({"MEMX_MAX_KEY_BYTES": "1024"})
