"""Raw WebSocket clients for tests: what goes over the wire, without the SDK's help."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

import httpx
import websockets

DEADLINE = 10.0

Frame = dict[str, Any]


class Reachable(Protocol):
    """A server that can be talked to."""

    url: str
    api_key: str


@dataclass
class Address:
    """Where a server is, and a key that opens it."""

    url: str
    api_key: str = "local_dev_key"


class Socket:
    """One WebSocket; every wait is bounded."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection

    async def receive(self) -> Frame:
        """The next frame."""
        frame = json.loads(await asyncio.wait_for(self.connection.recv(), DEADLINE))
        assert isinstance(frame, dict)
        return frame

    async def until(self, **members: Any) -> list[Frame]:
        """Frames up to the first that has ``members``."""
        frames = [await self.receive()]
        while not members.items() <= frames[-1].items():
            frames.append(await self.receive())
        return frames

    async def silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing comes for a while."""
        try:
            await asyncio.wait_for(self.connection.recv(), seconds)
        except TimeoutError:
            return True
        return False

    async def send(self, **frame: Any) -> None:
        """Send an object."""
        await self.connection.send(json.dumps(frame))

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait for the server to close it; the code and the reason."""
        await asyncio.wait_for(self.connection.wait_closed(), DEADLINE)
        return self.connection.close_code, self.connection.close_reason


class Multiplexed(Socket):
    """A ``/ws`` socket, past its ``hello``."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        super().__init__(connection)
        self.ids = itertools.count(1)

    async def ask(self, op: str, **fields: Any) -> Frame:
        """Send a request and return its answer; frames of subscriptions before it are dropped."""
        number = next(self.ids)
        await self.send(id=number, op=op, **fields)
        return (await self.until(id=number))[-1]


def address(served: Reachable, path: str, query: Mapping[str, Any] | None = None) -> str:
    """The WebSocket URL of a path."""
    url = served.url.replace("http", "ws", 1) + path
    return f"{url}?{urlencode(query)}" if query else url


def api_key(served: Reachable, key: str | None, agent: str | None = None) -> dict[str, str]:
    """The headers of a caller."""
    headers = {"x-api-key": key or served.api_key}
    return headers if agent is None else {**headers, "x-memx-agent": agent}


@asynccontextmanager
async def subscribed(
    served: Reachable,
    pattern: str = "*",
    *,
    key: str | None = None,
    agent: str | None = None,
    options: Mapping[str, Any] | None = None,
    **query: Any,
) -> AsyncIterator[Socket]:
    """A socket on ``/subscribe``."""
    async with websockets.connect(
        address(served, f"/subscribe/{pattern}", query),
        additional_headers=api_key(served, key, agent),
        **(options or {}),
    ) as connection:
        yield Socket(connection)


@asynccontextmanager
async def multiplexed(
    served: Reachable, *, key: str | None = None, agent: str | None = None, **options: Any
) -> AsyncIterator[Multiplexed]:
    """A socket on ``/ws``."""
    async with websockets.connect(
        address(served, "/ws"), additional_headers=api_key(served, key, agent), **options
    ) as connection:
        socket = Multiplexed(connection)
        assert (await socket.receive())["event"] == "hello"
        yield socket


@asynccontextmanager
async def client(served: Reachable, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client."""
    async with httpx.AsyncClient(
        base_url=served.url, headers=api_key(served, key), timeout=DEADLINE
    ) as http:
        yield http


async def refusal(served: Reachable, path: str, **options: Any) -> tuple[int, Frame]:
    """Try to open a socket that is refused; the HTTP status and the error object."""
    try:
        async with websockets.connect(address(served, path), **options):
            raise AssertionError("it was not refused")
    except websockets.InvalidStatus as error:
        return error.response.status_code, json.loads(error.response.body)
