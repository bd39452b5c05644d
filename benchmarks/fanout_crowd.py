"""A crowd of sockets in one thread: cheap enough not to be what is measured."""

from __future__ import annotations

import base64
import os
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from typing import Self

_HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
    "x-api-key: local_dev_key\r\n\r\n"
)
_PATIENCE = 60.0
_TEXT, _PING, _PONG = 0x81, 0x89, 0x8A


class Crowd:
    """Subscribers on some servers, and one publisher to each server.

    Args:
        ports: Where the servers listen, on this machine.
        count: How many subscribers, dealt out to the servers.
        path: What they open; ``{number}`` in it is the subscriber's own.

    Attributes:
        arrivals: When each frame came, in seconds of ``perf_counter``, over all sockets.
    """

    def __init__(self, ports: Sequence[int], count: int, path: str) -> None:
        self.arrivals: list[float] = []
        self._selector = selectors.DefaultSelector()
        self._pending: dict[socket.socket, bytes] = {}
        self._publishers = [_Publisher(port) for port in ports]
        for number in range(count):
            each = _connect(ports[number % len(ports)], path.format(number=number))
            self._pending[each] = b""
            self._selector.register(each, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._pending:
            each.close()
        for publisher in self._publishers:
            publisher.close()
        self._selector.close()

    def publish(self, body: bytes, *, to_all: bool) -> None:
        """Send ``POST /set``; to one server, or to each where they do not know of each other."""
        for publisher in self._publishers if to_all else self._publishers[:1]:
            publisher.send(body)

    def hear(self, frames: int) -> None:
        """Take frames until ``frames`` have come in all."""
        deadline = time.perf_counter() + _PATIENCE
        while len(self.arrivals) < frames:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{frames - len(self.arrivals)} of {frames} frames are missing")
            for key, _ in self._selector.select(1.0):
                self._read(key.fileobj)  # type: ignore[arg-type]  # only sockets are registered

    def _read(self, each: socket.socket) -> None:
        data = self._pending[each] + each.recv(1 << 18)
        now = time.perf_counter()
        start, length = 0, len(data)
        while length - start >= 4:
            size, head = data[start + 1], 2
            if size == 126:
                size, head = int.from_bytes(data[start + 2 : start + 4], "big"), 4
            elif size == 127:
                (size,), head = struct.unpack_from("!Q", data, start + 2), 10
            if length - start < head + size:
                break
            if data[start] == _TEXT:
                self.arrivals.append(now)
            elif data[start] == _PING:
                each.send(bytes([_PONG, 0x80 | size, 0, 0, 0, 0]) + data[start + 2 :][:size])
            else:
                raise RuntimeError(f"the server says {data[start : start + 64]!r}")
            start += head + size
        self._pending[each] = data[start:]


class _Publisher:
    """One keep-alive connection that posts without waiting for the answer of the post before."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = (
            f"POST /set HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nx-api-key: local_dev_key\r\n"
            "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        self._outstanding = 0

    def send(self, body: bytes) -> None:
        self._drain()
        self._socket.sendall((self._head % len(body)).encode() + body)
        self._outstanding += 1

    def close(self) -> None:
        self._socket.close()

    def _drain(self) -> None:
        """Read answers away; the last may still be on its way."""
        self._socket.setblocking(False)
        try:
            data = self._socket.recv(1 << 18)
            if data.count(b"HTTP/1.1 ") != data.count(b"HTTP/1.1 200"):
                raise RuntimeError(f"a post failed: {data[:300]!r}")
        except BlockingIOError:
            pass
        finally:
            self._socket.setblocking(True)


def _connect(port: int, path: str) -> socket.socket:
    each = socket.create_connection(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    each.sendall(_HANDSHAKE.format(path=path, port=port, key=key).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += each.recv(4096)
    if b" 101 " not in answer[:16]:
        raise RuntimeError(f"refused: {answer[:300]!r}")
    each.setblocking(False)
    return each
