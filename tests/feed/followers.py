"""Subscribers that survive whatever happens to their server, and writers that get everything in."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import websockets

from tests.feed.sockets import Reachable, address, api_key
from tests.feed.test_events import streaming

_RETRY = 0.05
_LOST = (
    OSError,
    EOFError,
    ValueError,
    TimeoutError,
    AssertionError,
    websockets.WebSocketException,
)
"""What a connection may die of, also halfway through its first answer."""

Seen = tuple[int, str, Any]
"""Revision, key and value of a change."""


@dataclass
class Follower:
    """Follows everything from a cursor on, on one server, and comes back whenever it is cut off.

    Attributes:
        pause: Seconds that it takes over each frame.
        seen: What it was told, in order.
        resets: Reasons for which it was told to start over.
        connections: How often it had to connect.
    """

    server: Reachable
    cursor: str
    pause: float = 0.0
    seen: list[Seen] = field(default_factory=list)
    resets: list[str] = field(default_factory=list)
    connections: int = 0
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            group: list[Seen] = []
            try:
                self.connections += 1
                async with aclosing(self.frames()) as frames:
                    async for frame in frames:
                        self._take(frame, group)
                        if self.pause:
                            await asyncio.sleep(self.pause)
            except _LOST:
                pass
            await asyncio.sleep(_RETRY)

    async def sees(self, count: int) -> None:
        """Wait until it was told of ``count`` changes."""
        while len(self.seen) < count:
            self._moved.clear()
            await self._moved.wait()

    def _take(self, frame: dict[str, Any], group: list[Seen]) -> None:
        if frame["event"] == "reset":
            self.resets.append(frame["reason"])
        if frame["event"] == "value":
            group.append((frame["revision"], frame["key"], frame["value"]))
        if "cursor" in frame:
            self.cursor = frame["cursor"]
            self.seen += group
            group.clear()
            self._moved.set()

    async def frames(self) -> AsyncGenerator[dict[str, Any]]:
        """The frames of one connection."""
        options: dict[str, Any] = {"max_queue": 1} if self.pause else {}
        async with websockets.connect(
            address(self.server, "/subscribe/*", {"since": self.cursor}),
            additional_headers=api_key(self.server, None),
            open_timeout=3,
            **options,
        ) as connection:
            async for text in connection:
                yield msgspec.json.decode(text)


class MultiplexedFollower(Follower):
    """Follows over ``/ws``."""

    async def frames(self) -> AsyncGenerator[dict[str, Any]]:
        """The frames of one subscription."""
        async with websockets.connect(
            address(self.server, "/ws"),
            additional_headers=api_key(self.server, None),
            open_timeout=3,
        ) as connection:
            ask = {"id": 1, "op": "subscribe", "pattern": "*", "since": self.cursor}
            await connection.send(msgspec.json.encode(ask))
            async for text in connection:
                frame = msgspec.json.decode(text)
                if "sub" in frame and "event" in frame:
                    yield frame


class EventFollower(Follower):
    """Follows over Server-Sent Events."""

    async def frames(self) -> AsyncGenerator[dict[str, Any]]:
        """The events of one response."""
        async with streaming(self.server, last_event_id=self.cursor) as events:
            while True:
                yield (await events.receive())[1]


@dataclass
class Writer:
    """Writes numbers one after the other, each until it is acknowledged.

    Attributes:
        acknowledged: The revisions that it was given.
    """

    name: str
    servers: Sequence[Reachable]
    acknowledged: list[int] = field(default_factory=list)
    stopped: bool = False
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def acknowledges(self, count: int) -> None:
        """Wait until ``count`` of its writes are in."""
        while len(self.acknowledged) < count:
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Write until stopped."""
        async with httpx.AsyncClient(timeout=5, headers=api_key(self.servers[0], None)) as http:
            number = 0
            while not self.stopped:
                self.acknowledged.append(await self._write(http, number))
                self._moved.set()
                number += 1
                await asyncio.sleep(0.005)

    async def _write(self, http: httpx.AsyncClient, number: int) -> int:
        path, body = self._request(number)
        headers = {"idempotency-key": secrets.token_hex(8)}
        for attempt in range(1000):
            server = self.servers[attempt % len(self.servers)]
            try:
                answer = await http.post(server.url + path, json=body, headers=headers)
                if answer.status_code == 200:
                    return int(answer.json()["revision"])
                assert answer.status_code == 503, answer.text
            except httpx.TransportError:
                pass
            await asyncio.sleep(_RETRY)
        raise AssertionError(f"{self.name} could not write number {number}")

    def _request(self, number: int) -> tuple[str, dict[str, Any]]:
        """A plain write, or now and then a transaction on several keys."""
        if number % 5:
            return "/set", {"key": f"{self.name}:{number % 3}", "value": number}
        keys = [f"{self.name}:{part}" for part in "abc"]
        return "/txn", {"then": [{"op": "set", "key": key, "value": number} for key in keys]}
