"""What anybody can do who reaches the port, without an API key or a proxy in between: each of it has a bound."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from memx_server.app import create_app
from memx_server.routes.http import protocol
from memx_server.settings import Limits, Settings
from memx_server.storage.sqlite import SqliteStore
from websockets.sync.client import connect

from tests.support.memx_server import Keys, Served, serve_store
from tests.support.wire import SOON, Wire, handshake, head_of, post, refused, until

HEAD_BYTES = 4096
HEAD_SECONDS, BODY_SECONDS = 0.6, 0.8
LIMITS = Limits(head_bytes=HEAD_BYTES, bodies_bytes=1024 * 1024)
SETTINGS = Settings(limits=LIMITS, head_timeout=HEAD_SECONDS, body_timeout=BODY_SECONDS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_store(SqliteStore(tmp_path_factory.mktemp("memx") / "memx.db"), SETTINGS) as server:
        yield server


# Heads


_START = b"GET / HTTP/1.1\r\nhost: localhost\r\n"


@pytest.mark.parametrize(
    ("start", "repeated", "end"),
    [
        (b"GET /get?key=", b"a", b" HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        (_START + b"x-long: ", b"a", b"\r\n\r\n"),
        (_START, b"x-many: 1\r\n", b"\r\n"),
        (_START, b"x", b": 1\r\n\r\n"),
    ],
    ids=["path", "value", "headers", "name"],
)
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "unfinished"])
def test_a_head_that_is_too_large(
    served: Served, start: bytes, repeated: bytes, end: bytes, is_whole: bool
) -> None:
    # The whole one fits into one piece of what the server reads: there is nothing to see of it before its end.
    size = 100_000 if is_whole else 500_000
    head = start + repeated * (size // len(repeated)) + (end if is_whole else b"")
    with Wire(served.url) as wire:
        with suppress(OSError):
            wire.send(head)
        refused(wire, 431, "head_too_large", "head_bytes")


def test_a_head_just_below_the_limit_is_read_in_whatever_pieces(served: Served) -> None:
    head = head_of("/healthz", "x-filler: " + "a" * (HEAD_BYTES - 200), "connection: close")
    for pieces in (1, 7, 400):
        with Wire(served.url) as wire:
            assert b"200 OK" in wire.drip(head, HEAD_SECONDS / 4, pieces=pieces).all()


def test_a_head_behind_a_large_body_is_measured_alone(served: Served) -> None:
    body = json.dumps({"key": "a", "value": "a" * 200_000}).encode()
    key = served.fresh_key()
    requests = post(key, f"content-length: {len(body)}") + body
    requests += head_of("/healthz", "connection: close")
    with Wire(served.url) as wire:
        assert wire.send(requests).all().count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", b"GET", head_of()[:-2]])
def test_a_head_that_does_not_come(served: Served, sent: bytes) -> None:
    begun = time.monotonic()
    with Wire(served.url) as wire:
        wire.send(sent)
        if sent.strip():
            refused(wire, 408, "request_timeout", "head_seconds")
        else:
            assert wire.all() == b""  # nothing was requested, so nothing is answered
    assert time.monotonic() - begun < HEAD_SECONDS + SOON


@pytest.mark.parametrize("sent", [head_of("/healthz", "x: " + "a" * 400), b"\r\n" * 400])
def test_a_head_that_comes_byte_by_byte(served: Served, sent: bytes) -> None:
    """Each byte is progress, and moves no deadline (Slowloris)."""
    with Wire(served.url) as wire:
        wire.drip(sent, HEAD_SECONDS * 3)
        assert b"200 OK" not in wire.all()


def test_the_second_request_of_a_connection_has_a_deadline_too(served: Served) -> None:
    with Wire(served.url) as wire:
        wire.send(head_of("/healthz"))
        assert b"200 OK" in wire.socket.recv(65536)
        wire.send(head_of("/healthz")[:20])
        refused(wire, 408, "request_timeout", "head_seconds")


def test_what_takes_its_time_on_the_servers_side_has_no_deadline(served: Served) -> None:
    """Long polls, event streams and sockets live on when the deadlines of their heads have passed."""
    key = served.fresh_key()
    wait = 2 * (HEAD_SECONDS + BODY_SECONDS)
    with ExitStack() as stack:
        poll = stack.enter_context(Wire(served.url))
        poll.send(head_of(f"/changes?wait={wait}", f"x-api-key: {key}", "connection: close"))
        stream = stack.enter_context(Wire(served.url))
        stream.send(head_of("/changes", f"x-api-key: {key}", "accept: text/event-stream"))
        address = served.url.replace("http", "ws", 1)
        ws = stack.enter_context(connect(f"{address}/ws", additional_headers={"x-api-key": key}))
        assert json.loads(ws.recv(SOON))["event"] == "hello"
        assert b'"changes":[]' in poll.all()
        ws.send(json.dumps({"id": 1, "op": "set", "key": "a", "value": 1}))
        assert json.loads(ws.recv(SOON))["ok"]
        while b'"value":1' not in stream.received:
            stream.received += stream.socket.recv(65536)


# Bodies


@pytest.mark.parametrize("framing", ["content-length: 1000", "transfer-encoding: chunked"])
@pytest.mark.parametrize("sent", [b"", b"3e8\r\n" + b'{"key":"a","value":"'])
def test_a_body_that_does_not_come(served: Served, framing: str, sent: bytes) -> None:
    with Wire(served.url) as wire:
        wire.send(post(served.fresh_key(), framing), sent)
        refused(wire, 408, "request_timeout", "body_seconds")


def test_a_body_that_comes_byte_by_byte(served: Served) -> None:
    body = json.dumps({"key": "a", "value": "a" * 400}).encode()
    with Wire(served.url) as wire:
        wire.send(post(served.fresh_key(), f"content-length: {len(body)}"))
        wire.drip(body, BODY_SECONDS * 3)
        refused(wire, 408, "request_timeout", "body_seconds")


def test_a_body_that_comes_in_time_is_taken(served: Served) -> None:
    body = json.dumps({"key": "a", "value": "a" * 300_000}).encode()
    with Wire(served.url) as wire:
        wire.send(post(served.fresh_key(), f"content-length: {len(body)}", "connection: close"))
        assert b"200 OK" in wire.drip(body, BODY_SECONDS / 3).all()
    assert served.app.services.bodies.held == 0


def test_a_body_without_a_key_is_refused_unread_and_its_connection_ends(served: Served) -> None:
    with Wire(served.url) as wire:
        wire.send(post("made-up", "content-length: 8000000"))
        begun = time.monotonic()
        wire.drip(b"a" * 8_000_000, BODY_SECONDS * 4)
        assert wire.all().count(b"HTTP/1.1 ") == 1
        assert b"403" in wire.received.split(b"\r\n")[0]
    assert time.monotonic() - begun < BODY_SECONDS * 4 + SOON


@pytest.mark.parametrize(
    "framing",
    [b"2;" + b"x" * 500_000, b"0\r\nx-trailer: " + b"a" * 500_000, b"0\r\n" + b"x: 1\r\n" * 90_000],
    ids=["extension", "trailer", "trailers"],
)
def test_what_frames_a_body_is_bounded_too(served: Served, framing: bytes) -> None:
    with Wire(served.url) as wire:
        wire.send(post(served.fresh_key(), "transfer-encoding: chunked"), b"2\r\n{}\r\n")
        with suppress(OSError):
            wire.drip(framing, 0.1, pieces=8)
        refused(wire, 431, "head_too_large", "head_bytes")


def test_a_body_in_chunks_of_one_byte_is_taken(served: Served) -> None:
    body = json.dumps({"key": "a", "value": "a" * 5000}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = post(served.fresh_key(), "transfer-encoding: chunked", "connection: close")
    with Wire(served.url) as wire:
        assert b"200 OK" in wire.send(head).drip(chunks, 0.1, pieces=9).all()


def test_a_trailer_is_no_header(served: Served) -> None:
    """A proxy that checks the headers does not look at the trailers."""
    head = head_of("/whoami", "transfer-encoding: chunked", "connection: close", method="GET")
    trailers = f"0\r\nx-api-key: {served.fresh_key()}\r\nhost: other\r\n\r\n".encode()
    with Wire(served.url) as wire:
        assert b"401" in wire.send(head + trailers).all().split(b"\r\n")[0]


def test_bodies_under_way_hold_no_more_than_the_budget(served: Served) -> None:
    """Half of it for one space; whoever sends small bodies meanwhile is not held up."""
    keys = [served.fresh_key() for _ in range(4)]
    budget = served.app.services.bodies
    statuses = []
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(served.url)) for _ in range(16)]
        for number, wire in enumerate(wires):
            wire.send(post(keys[number % 4], "content-length: 400000"))
            wire.send(b'{"key":"a","value":"' + b"a" * 300_000)
        small = httpx.post(
            f"{served.url}/set", json={"key": "k", "value": 1}, headers={"x-api-key": keys[0]}
        )
        assert small.status_code == 200
        assert 0 < budget.held <= LIMITS.bodies_bytes
        statuses = [wire.response() for wire in wires]
    assert {status for status, _ in statuses} == {408, 503}
    refusal = next(error for status, error in statuses if status == 503)
    assert (refusal["limit"], refusal["retry_after"]) == ("bodies_bytes", 1.0)
    assert budget.held == 0


def test_the_budget_of_one_space_is_half_of_all(served: Served) -> None:
    key, other = served.fresh_key(), served.fresh_key()
    value = "a" * 300_000
    body = json.dumps({"key": "a", "value": value}).encode()
    with ExitStack() as stack:
        for _ in range(4):
            wire = stack.enter_context(Wire(served.url))
            wire.send(post(key, "content-length: 400000"), body[:-50])
        large = httpx.post(
            f"{served.url}/set", json={"key": "k", "value": value}, headers={"x-api-key": other}
        )
        assert large.status_code == 200


def test_a_body_that_is_given_up_leaves_nothing_behind(served: Served) -> None:
    key = served.fresh_key()
    for _ in range(8):
        with Wire(served.url) as wire:
            wire.send(post(key, "content-length: 400000"), b"a" * 200_000)
    until(lambda: served.app.services.bodies.held == 0)


def test_another_server_keeps_the_deadline_of_bodies_too(tmp_path: Path) -> None:
    """Under ``uvicorn memx_server.app:app`` the server's own protocols are not in use."""
    keys = Keys()
    key = keys.add()
    app = create_app(SETTINGS, store=SqliteStore(tmp_path / "memx.db"), authenticator=keys)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="on", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        with Wire(f"http://{host}:{port}") as wire:
            wire.send(post(key, "content-length: 1000", "connection: close"), b"{")
            refused(wire, 408, "request_timeout", "body_seconds")
    finally:
        server.should_exit = True
        thread.join(10)


# Requests that say two things


_KEY, _BEARER = "x-api-key: {key}", "authorization: Bearer {key}"
_PATHS = ["/whoami", "/", "/docs", "/healthz", "/metrics", "/mcp", "/nowhere"]


@pytest.mark.parametrize("path", _PATHS)
@pytest.mark.parametrize(
    "lines",
    [
        ("host: localhost",),
        ("host: evil.example",),
        (_KEY, _KEY),
        (_KEY, "x-api-key: other"),
        (_BEARER, _BEARER),
    ],
)
def test_a_head_that_names_two_of_one_thing(served: Served, path: str, lines: tuple[str]) -> None:
    key = served.fresh_key()
    head = head_of(path, *(line.format(key=key) for line in lines), "connection: close")
    with Wire(served.url) as wire:
        wire.send(head)
        refused(wire, 400, "invalid_request")


@pytest.mark.parametrize("path", ["/ws", "/subscribe/a", "/nowhere"])
def test_a_handshake_that_names_two_of_one_thing(served: Served, path: str) -> None:
    key = served.fresh_key()
    for lines in ([f"x-api-key: {key}"] * 2, [f"x-api-key: {key}", "host: other"]):
        with Wire(served.url) as wire:
            wire.send(handshake(path, *lines))
            refused(wire, 400, "invalid_request")


@pytest.mark.parametrize("path", _PATHS)
def test_a_host_is_asked_for_by_http_1_1_alone(served: Served, path: str) -> None:
    for version, is_refused in ((b"1.1", True), (b"1.0", False)):
        with Wire(served.url) as wire:
            wire.send(b"GET %b HTTP/%b\r\nconnection: close\r\n\r\n" % (path.encode(), version))
            assert (b"send the header Host" in wire.all()) == is_refused


def test_a_handshake_without_a_host_is_refused(served: Served) -> None:
    head = handshake("/ws", f"x-api-key: {served.fresh_key()}")
    with Wire(served.url) as wire:
        wire.send(head.replace(b"host: localhost\r\n", b""))
        refused(wire, 400, "invalid_request")


# Requests one behind the other


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    paths = ["/healthz", "/nowhere"] * 10
    with Wire(served.url) as wire:
        wire.send(b"".join(head_of(path) for path in paths))
        wire.send(head_of("/healthz", "connection: close"))
        text = wire.all()
    statuses = [part.split()[0] for part in text.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"404"] * 10 + [b"200"]


def test_requests_behind_one_that_waits_are_bounded(served: Served) -> None:
    poll = head_of("/changes?wait=3", f"x-api-key: {served.fresh_key()}")
    with Wire(served.url) as wire:
        wire.send(poll + head_of("/healthz") * 5000)
        # The client would take any response for the one to its first request.
        assert wire.all() == b""


# Responses


def test_a_response_that_nobody_reads_ends_its_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_UNREAD_SECONDS", 0.3)
    key, count, size = served.fresh_key(), 150, 200_000
    with httpx.Client(base_url=served.url, headers={"x-api-key": key}) as http:
        for number in range(count):
            body = {"key": f"k{number}", "value": "a" * size}
            assert http.post("/set", json=body).status_code == 200
    with Wire(served.url) as wire:
        wire.send(head_of("/keys?values=true&limit=1000", f"x-api-key: {key}"))
        time.sleep(2)  # reading is what keeps it open; the kernel holds a part of the response
        assert len(wire.all()) < count * size


def test_the_limits_are_settings_and_shown() -> None:
    settings = Settings.from_env(
        {
            "MEMX_MAX_HEAD_BYTES": "1000",
            "MEMX_MAX_BODIES_BYTES": "2000",
            "MEMX_HEAD_TIMEOUT": "3",
            "MEMX_BODY_TIMEOUT": "4.5",
        }
    )
    limits = replace(Limits(), head_bytes=1000, bodies_bytes=2000)
    assert (settings.limits, settings.head_timeout, settings.body_timeout) == (limits, 3, 4.5)
    assert settings.limits.as_dict()["head_bytes"] == 1000
