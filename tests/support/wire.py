"""A connection on which a test sends what bytes it likes, and reads what comes back."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

SOON = 5.0
"""Seconds after which a server must have acted, on a busy machine."""


class Wire:
    """A connection on which a test sends what bytes it likes."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), SOON)
        self.received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> Self:
        for part in parts:
            self.socket.sendall(part)
        return self

    def drip(self, data: bytes, seconds: float, *, pieces: int = 40) -> Self:
        """Send data in small pieces over a time, until it is all sent or the connection is closed."""
        size = max(1, len(data) // pieces)
        with suppress(OSError):
            for start in range(0, len(data), size):
                self.socket.sendall(data[start : start + size])
                time.sleep(seconds / pieces)  # the slowness of the sender is what is tested
        return self

    def close_code(self) -> int:
        """Read the frames of a WebSocket up to its close frame; return the code in that."""
        text = self.all()
        at = text.rindex(b"\x88")
        return int(struct.unpack("!H", text[at + 2 : at + 4])[0])

    def all(self) -> bytes:
        """Everything until the server closes the connection; it must do so soon."""
        with suppress(ConnectionResetError):
            while piece := self.socket.recv(65536):
                self.received += piece
        return self.received

    def response(self) -> tuple[int, dict[str, Any]]:
        """The status and the error of the last response before the server closes the connection."""
        *_, last = re.finditer(rb"HTTP/1.1 \d", self.all())
        head, _, body = self.received[last.start() :].partition(b"\r\n\r\n")
        assert b"content-type: application/json" in head
        return int(head.split()[1]), json.loads(body)


def head_of(
    path: str = "/healthz", *lines: str, method: str = "GET", host: str = "localhost"
) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"host: {host}", *lines, "", ""]).encode()


def post(key: str, *lines: str, path: str = "/set") -> bytes:
    json_body = "content-type: application/json"
    return head_of(path, f"x-api-key: {key}", json_body, *lines, method="POST")


def handshake(path: str, *lines: str) -> bytes:
    nonce = base64.b64encode(os.urandom(16)).decode()
    return head_of(
        path,
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-version: 13",
        f"sec-websocket-key: {nonce}",
        *lines,
    )


def refused(wire: Wire, status: int, code: str, limit: str | None = None) -> None:
    """Assert that the server answers so and closes the connection."""
    found, error = wire.response()
    assert (found, error["error"]) == (status, code), error
    assert error["detail"]
    if limit is not None:
        assert error["limit"] == limit


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
