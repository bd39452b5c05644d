"""No API key and no ticket in a log, an answer, a header or the documentation, whatever is asked."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from memx_server.routes.api.operations import OPERATIONS
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.access.crossing import PUBLIC
from tests.cli.test_serving import wait_until_healthy
from tests.support.memx_server import MemxServer
from tests.support.redis_server import RedisServer, free_port

KEY, BLIND, UNKNOWN = "key-that-opens-a7d1f0", "key-that-is-blind-3c99e2", "key-of-nobody-55b0c4"
SPACED = 'key with spaces, a comma and a "quote" 91be77'
BASIC = base64.b64encode(b"ann:password-e21b44").decode()
VALUE = "value-that-is-nobodys-business-6fd02a"


@pytest.fixture(params=["sqlite", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[MemxServer]:
    command, environ = "dev", {"MEMX_LOG_LEVEL": "debug"}
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_any")
        command, environ = "serve", {**environ, "REDIS_URL": redis.url}
    acl = {KEY: ["*"], BLIND: {"write": ["a"], "admin": []}}
    with MemxServer(command, acl=acl, environ=environ) as server:
        yield server


def _ask_everything(http: httpx.Client) -> list[httpx.Response]:
    answers = []
    for each in OPERATIONS:
        if each.method == "POST":
            answers.append(http.post(each.path, json=each.example))
            bodies = (b"{", b"[1]", b'{"key":1}', b'{"key":"a","key":"b"}', b"\xff")
            answers += [http.post(each.path, content=body) for body in bodies]
        else:
            query = {name: str(value) for name, value in each.example.items()}
            answers.append(http.request(each.method, each.path, params=query))
            answers.append(http.request(each.method, each.path, params={"no": "such"}))
        answers.append(http.put(each.path))
    answers += [http.get(path) for path in [*sorted(PUBLIC), "/nothing/here", "/mcp", "/ws"]]
    return answers


def _talk(url: str, key: str) -> list[str]:
    address = url.replace("http", "ws", 1)
    try:
        with connect(f"{address}/ws", additional_headers={"x-api-key": key}) as socket:
            heard = [str(socket.recv(10))]
            for number, each in enumerate(OPERATIONS):
                frame = {"id": number, "op": each.name, **each.example}
                socket.send(json.dumps(frame))
                heard.append(str(socket.recv(10)))
            for text in ("{", "[]", '{"id":1}', '{"id":1,"op":"nonsense"}'):
                socket.send(text)
                heard.append(str(socket.recv(10)))
            return heard
    except InvalidStatus as refused:
        return [str(refused.response)]


def test_no_key_shows(server: MemxServer) -> None:
    texts: list[str] = []
    for headers in (
        {"x-api-key": KEY, "x-memx-agent": "ann"},
        {"authorization": f"Bearer {KEY}"},
        {"x-api-key": BLIND},
        {"x-api-key": UNKNOWN},
        {"x-api-key": KEY, "x-memx-agent": "\x7f"},
        {"x-api-key": KEY, "idempotency-key": "x" * 500},
        {"x-api-key": KEY, "origin": "https://evil.example", "host": "evil.example"},
    ):
        with httpx.Client(base_url=server.url, headers=headers, timeout=15, verify=False) as http:
            texts += [f"{each.headers} {each.text}" for each in _ask_everything(http)]
    for key in (KEY, BLIND, UNKNOWN):
        texts += _talk(server.url, key)
    address = server.url.replace("http", "ws", 1)
    made = httpx.post(f"{server.url}/ticket", json={}, headers={"x-api-key": KEY}).json()["ticket"]
    for _ in range(2):  # the second time it opens nothing
        try:
            with connect(f"{address}/ws?ticket={made}") as socket:
                texts.append(str(socket.recv(10)))
        except InvalidStatus as refused:
            texts.append(str(refused.response))
    assert server.stop() == 0

    log = server.log
    assert "DEBUG" in log  # it did log what it could
    assert "x-api-key: ***" in log  # the WebSocket library logs the headers that it reads
    for secret in (KEY, BLIND, UNKNOWN, made):
        assert [text for text in texts if secret in text] == []
        lines = [line for line in log.splitlines() if secret in line]
        assert lines == []


def _use_every_road(url: str) -> None:
    """Write and read a value over HTTP, sockets and /mcp, with credentials in every form."""
    address = url.replace("http", "ws", 1)
    written = {"key": "k", "value": {"deep": [VALUE]}, "reason": "why"}
    for headers in (
        {"x-api-key": KEY},
        {"x-api-key": SPACED},
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"Basic {BASIC}"},
        {"cookie": f"session={BASIC}"},
    ):
        with httpx.Client(base_url=url, headers=headers, timeout=15) as http:
            http.post("/set", json=written)
            http.get("/get", params={"key": "k"})
            http.get("/changes", params={"wait": 0})
            call = {"name": "memx_set", "arguments": {"key": "k", "value": VALUE}}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
            http.post("/mcp", json=body, headers={"accept": "application/json, text/event-stream"})
        try:
            with connect(f"{address}/ws", additional_headers=headers) as socket:
                socket.recv(10)
                socket.send(json.dumps({"id": 1, "op": "set", **written}))
                socket.recv(10)
                socket.send(json.dumps({"id": 2, "op": "get", "key": "k"}))
                socket.recv(10)
                socket.send(VALUE)
                socket.recv(10)
            with connect(
                f"{address}/subscribe/k?snapshot=true", additional_headers=headers
            ) as socket:
                socket.recv(10)
        except InvalidStatus:
            pass  # it is no API key


def _assert_silent(log: str) -> None:
    assert "DEBUG" in log
    assert "TEXT (" in log  # that a frame came is logged, but not what is in it
    pieces = [word for word in SPACED.split() if len(word) > 5]
    for secret in (KEY, *pieces, BASIC, "password-e21b44", VALUE):
        assert [line for line in log.splitlines() if secret in line] == []


def test_no_value_and_no_piece_of_a_credential_is_logged(redis_any: RedisServer) -> None:
    environ = {"MEMX_LOG_LEVEL": "debug", "REDIS_URL": redis_any.url}
    with MemxServer("serve", acl={KEY: ["*"], SPACED: ["*"]}, environ=environ) as server:
        _use_every_road(server.url)
        assert server.stop() == 0
        _assert_silent(server.log)


def test_the_same_under_a_uvicorn_of_ones_own(tmp_path: Path, redis_any: RedisServer) -> None:
    acl, log, port = tmp_path / "acl.json", tmp_path / "log", free_port()
    acl.write_text(json.dumps({KEY: ["*"], SPACED: ["*"]}))
    environ = {**os.environ, "MEMX_ACL_FILE": str(acl), "REDIS_URL": redis_any.url}
    command = [sys.executable, "-m", "uvicorn", "memx_server.app:app", "--port", str(port)]
    command += ["--log-level", "debug", "--ws", "websockets-sansio"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        _use_every_road(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(15)
    _assert_silent(log.read_text())
