"""What a peer of a WebSocket leaves unfinished or unread has a bound."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from memx_server.settings import Limits, Settings
from memx_server.storage.sqlite import SqliteStore
from websockets.sync.client import connect

from tests.access.loop_watch import watched_loop
from tests.support.memx_server import Keys, MemxServer, Served, serve_store
from tests.support.wire import SOON, Wire, handshake

BODY_SECONDS = 0.8
SETTINGS = Settings(limits=Limits(bodies_bytes=1024 * 1024), body_timeout=BODY_SECONDS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_store(SqliteStore(tmp_path_factory.mktemp("memx") / "memx.db"), SETTINGS) as server:
        yield server


_MASK = b"mask"


def _opened(served: Served, key: str, path: str = "/ws") -> Wire:
    wire = Wire(served.url)
    wire.send(handshake(path, f"x-api-key: {key}"))
    while b"\r\n\r\n" not in wire.received:
        wire.received += wire.socket.recv(65536)
    assert b" 101 " in wire.received
    return wire


def _frame_head(opcode: int, length: int, *, final: bool = True) -> bytes:
    first = (0x80 if final else 0) | opcode
    if length < 126:
        return bytes((first, 0x80 | length)) + _MASK
    return struct.pack("!BBQ", first, 0xFF, length) + _MASK


def test_a_message_that_does_not_come(served: Served) -> None:
    with _opened(served, served.fresh_key()) as wire:
        wire.send(_frame_head(1, 1000), b"abc")
        assert wire.close_code() == 1008


def test_a_message_in_fragments_that_does_not_end(served: Served) -> None:
    with _opened(served, served.fresh_key()) as wire:
        wire.send(_frame_head(1, 0, final=False))
        wire.drip(_frame_head(0, 0, final=False) * 200, BODY_SECONDS * 3)
        assert wire.close_code() == 1008


def test_a_message_in_too_many_fragments(served: Served) -> None:
    with _opened(served, served.fresh_key()) as wire:
        with suppress(OSError):
            wire.send(_frame_head(1, 0, final=False), _frame_head(0, 0, final=False) * 20_000)
        assert wire.close_code() == 1008


@pytest.mark.parametrize("path", ["/ws", "/subscribe/a"])
def test_unfinished_messages_hold_no_more_than_the_budget(served: Served, path: str) -> None:
    key = served.fresh_key()
    budget = served.app.services.bodies
    with ExitStack() as stack:
        wires = [stack.enter_context(_opened(served, key, path)) for _ in range(6)]
        for wire in wires:
            with suppress(OSError):
                wire.send(_frame_head(1, 400_000), b"a" * 300_000)
        codes = {wire.close_code() for wire in wires}
    assert codes == {1008, 1013}
    assert budget.held == 0


def test_frames_ahead_of_the_response_to_the_handshake_are_not_read(served: Served) -> None:
    with Wire(served.url) as wire:
        with suppress(OSError):
            wire.send(handshake("/ws", "x-api-key: made-up"), b"a" * 5_000_000)
        assert b" 403 " in wire.all()


def test_every_ping_of_a_peer_that_reads_is_answered(served: Served) -> None:
    key = served.fresh_key()
    address = served.url.replace("http", "ws", 1)
    with connect(f"{address}/ws", additional_headers={"x-api-key": key}) as ws:
        pongs = [ws.ping(str(number)) for number in range(100)]
        assert all(pong.wait(SOON) for pong in pongs)


def test_pongs_do_not_pile_up_for_a_peer_that_does_not_read() -> None:
    """The newest is kept (RFC 6455, section 5.5.3)."""
    ping = _frame_head(9, 125) + b"p" * 125
    with MemxServer("dev") as server:
        memory = _memory(server.pid)
        served = Served(server.url, "local_dev_key", Keys(), None)  # type: ignore[arg-type]  # it has no app here
        with _opened(served, "local_dev_key") as wire:
            for _ in range(400):
                wire.send(ping * 1000)
            assert _memory(server.pid) - memory < 20 * 1024 * 1024


def _memory(pid: int) -> int:
    text = Path(f"/proc/{pid}/statm").read_text()
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


PINGS = (_frame_head(9, 0)) * 40_000
EMPTY_MESSAGES = (_frame_head(1, 0)) * 40_000
MALFORMED = (_frame_head(1, 2) + bytes(a ^ b for a, b in zip(b"{}", _MASK, strict=False))) * 4_000


@pytest.mark.parametrize(
    ("path", "flood"),
    [
        ("/ws", PINGS),
        ("/ws", MALFORMED),
        ("/subscribe/a", PINGS),
        ("/subscribe/a", EMPTY_MESSAGES),
    ],
    ids=["pings", "malformed", "pings-subscribe", "empty-subscribe"],
)
def test_a_flood_of_small_frames_lets_others_in(served: Served, path: str, flood: bytes) -> None:
    """What one read of a socket brings, 256 KB, may be 40,000 frames."""
    key = served.fresh_key()
    with ExitStack() as stack:
        wires = [stack.enter_context(_opened(served, key, path)) for _ in range(4)]
        readers = [threading.Thread(target=_flood, args=(wire, flood)) for wire in wires]
        with watched_loop(served, longest=0.05):
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join(SOON * 4)
        assert not any(reader.is_alive() for reader in readers)


def _flood(wire: Wire, flood: bytes) -> None:
    """Send a flood, and read what comes back until the peer has closed."""
    closing = _frame_head(8, 0)
    sender = threading.Thread(target=wire.send, args=(flood, closing))
    sender.start()
    wire.all()
    sender.join(SOON)


def test_what_comes_in_one_piece_takes_effect_in_order(served: Served) -> None:
    """Small frames, one larger than what is parsed at once, and pings between them."""
    address = served.url.replace("http", "ws", 1)
    values = ["a" * (300_000 if number % 50 == 7 else 40) for number in range(200)]
    with connect(
        f"{address}/ws",
        additional_headers={"x-api-key": served.fresh_key()},
        max_size=None,
        compression=None,
    ) as ws:
        ws.recv(SOON)  # hello
        texts = [
            json.dumps({"id": number, "op": "set", "key": f"k{number}", "value": value})
            for number, value in enumerate(values)
        ]
        ws.socket.sendall(b"".join(_masked(text.encode()) + _frame_head(9, 0) for text in texts))
        answers = [json.loads(ws.recv(SOON)) for _ in texts]
        answers.sort(key=lambda answer: answer["id"])
        assert [answer["id"] for answer in answers] == list(range(200))
        revisions = [answer["revision"] for answer in answers]
        assert revisions == sorted(revisions)
        assert all(answer["ok"] for answer in answers)
        ws.send(json.dumps({"id": 1, "op": "get", "key": "k7"}))
        assert values[7] in str(ws.recv(SOON))


def _masked(text: bytes) -> bytes:
    mask = (_MASK * (len(text) // 4 + 1))[: len(text)]
    masked = (int.from_bytes(text) ^ int.from_bytes(mask)).to_bytes(len(text))
    return _frame_head(1, len(text)) + masked
