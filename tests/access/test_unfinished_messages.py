"""What a peer of a WebSocket leaves unfinished or unread has a bound."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from memx_server.settings import Limits, Settings
from memx_server.storage.sqlite import SqliteStore
from websockets.sync.client import connect

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
