"""Pipelined requests over WebSockets, by frames made by hand: cheap enough not to be what is measured.

Started as ``python -m benchmarks.socket_client JSON``, JSON being a ``Task``; prints a ``Found`` as JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import uvloop

_HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nx-api-key: {api_key}\r\n\r\n"
)
_PATIENCE = 10.0
_TEXT = 0x81
_HEAD = bytes([_TEXT])
_NO_MASK = bytes(4)
_REVISION = re.compile(rb'"revision":(\d+)')
_ID = b'{"id":'
_HERE = "the revision belongs here"


@dataclass(frozen=True)
class Task:
    """What to send.

    Attributes:
        fields: The request's members behind ``id``.
        own_keys: Whether each request under way is about a key of its own: one key's reads would
            be answered by one command, and its writes wait for each other.
        conditional: Whether each names the revision that the answer before told.
        in_flight: Requests under way on each connection.
    """

    port: int
    api_key: str
    fields: dict[str, Any]
    own_keys: bool
    conditional: bool
    connections: int
    in_flight: int
    seconds: float


@dataclass
class Found:
    """What came back, and the share of a processor that it took to ask."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0

    def summary(self, seconds: float, spent: float) -> dict[str, float]:
        """The figures: rate per second, p99 in ms, failed requests, the client's share."""
        ordered = sorted(self.latencies)
        return {
            "rate": len(ordered) / seconds,
            "p99": 1000 * ordered[int(len(ordered) * 0.99)] if ordered else 0.0,
            "requests": len(ordered),
            "failed": self.failed,
            "client": spent / seconds,
        }


class Connection(asyncio.Protocol):
    """Keeps its requests under way; the ``id`` of each is the number of its slot."""

    def __init__(self, task: Task, found: Found) -> None:
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = task
        self._found = found
        self._pending = b""
        self._name = secrets.token_hex(4)
        self._started = [0.0] * task.in_flight
        self._requests = [self._request(slot) for slot in range(task.in_flight)]
        self._frames = [_frame(b"0".join(request)) for request in self._requests]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        key = "bWVtWCBiZW5jaG1hcmtzIQ=="
        head = _HANDSHAKE.format(port=self._task.port, key=key, api_key=self._task.api_key)
        self._transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        self._pending += data
        if not self.open.done():
            head, end, rest = self._pending.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.open.set_exception(RuntimeError(f"refused: {self._pending[:300]!r}"))
                return
            self._pending = rest
            self.open.set_result(None)
        self._take(time.perf_counter())

    def start(self) -> None:
        """Send the first requests."""
        self._started = [time.perf_counter()] * len(self._started)
        self._transport.write(b"".join(self._frames))

    def stop(self) -> None:
        """Leave at once; what is under way is not counted."""
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(error or ConnectionError("the server hung up"))

    def _take(self, now: float) -> None:
        """Note the answers, and send the next request of each one's slot in one go."""
        frames: list[bytes] = []
        for text in self._texts():
            if not text.startswith(_ID):
                continue  # the server's greeting
            slot = int(text[len(_ID) : text.index(b",")])
            self._found.latencies.append(now - self._started[slot])
            if text.find(b'"ok":true', 0, 32) < 0:
                self._found.failed += 1
            elif self._task.conditional and (revision := _REVISION.search(text)):
                self._frames[slot] = _frame(revision[1].join(self._requests[slot]))
            self._started[slot] = now
            frames.append(self._frames[slot])
        if frames:
            self._transport.write(b"".join(frames))

    def _texts(self) -> Iterator[bytes]:
        data, start, length = self._pending, 0, len(self._pending)
        while length - start >= 2:
            size, head = data[start + 1], 2
            if size == 126:
                size, head = int.from_bytes(data[start + 2 : start + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(data[start + 2 : start + 10], "big"), 10
            if length - start < head + size:
                break
            if data[start] != _TEXT:
                raise RuntimeError(f"the server says {data[start : start + 64]!r}")
            yield data[start + head : start + head + size]
            start += head + size
        self._pending = data[start:]

    def _request(self, slot: int) -> list[bytes]:
        """The request of a slot, split where the revision belongs if it is conditional."""
        fields = dict(self._task.fields)
        if self._task.own_keys:
            fields["key"] += f":{slot}"
        if self._task.conditional:
            fields["key"] += f":{self._name}"
            fields["if_revision"] = _HERE
        text = json.dumps({"id": slot, **fields}, separators=(",", ":")).encode()
        return text.split(json.dumps(_HERE).encode())


def _frame(payload: bytes) -> bytes:
    """Make a text frame under the mask that changes nothing."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    if size > 0xFFFF:
        length = b"\xff" + size.to_bytes(8, "big")
    return b"".join((_HEAD, length, _NO_MASK, payload))


async def run(task: Task) -> dict[str, float]:
    """Ask for a while.

    Raises:
        RuntimeError: The server refused a connection.
    """
    loop = asyncio.get_running_loop()
    found = Found()
    connections = []
    for _ in range(task.connections):
        _, connection = await loop.create_connection(
            lambda: Connection(task, found), "127.0.0.1", task.port
        )
        await asyncio.wait_for(connection.open, _PATIENCE)
        connections.append(connection)
    start, spent = time.perf_counter(), time.process_time()
    for connection in connections:
        connection.start()
    await asyncio.sleep(task.seconds)
    summary = found.summary(time.perf_counter() - start, time.process_time() - spent)
    for connection in connections:
        connection.stop()
    return summary


def command(task: Task) -> list[str]:
    """How to start it as a process of its own."""
    return [sys.executable, "-m", "benchmarks.socket_client", json.dumps(asdict(task))]


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(Task(**json.loads(sys.argv[1]))))))
