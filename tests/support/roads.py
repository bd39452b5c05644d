"""Every road by which a request reaches memX: each makes requests and returns the code of each response."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import websockets

DEADLINE = 10.0

Headers = Mapping[str, str]
Ask = Callable[[str, Headers, int], Awaitable[list[str]]]


@dataclass(frozen=True)
class Road:
    """One road.

    Attributes:
        name: What it is called.
        operation: What the server's counters call its requests.
        ask: Given the server's URL, headers and a number, makes so many requests one behind the other; returns ``ok``
            or the error's code for each. Where the connection itself is refused, that is the only one.
        handshakes: Requests that the road makes before those: those of a socket's handshake.
        succeeds: Whether the requests are good ones; else they are ``invalid_request``.
    """

    name: str
    operation: str
    ask: Ask
    handshakes: int = 0
    succeeds: bool = True

    @property
    def outcome(self) -> str:
        """What each request is answered where nothing stands in its way."""
        return "ok" if self.succeeds else "invalid_request"


def code_of(status: int, body: bytes) -> str:
    """The code of a whole HTTP response."""
    return "ok" if status < 400 else str(json.loads(body)["error"])


def _http(method: str, path: str, body: Any = None) -> Ask:
    async def ask(url: str, headers: Headers, count: int) -> list[str]:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE) as http:
            answers = [await http.request(method, path, json=body) for _ in range(count)]
        return [code_of(each.status_code, each.content) for each in answers]

    return ask


async def _event_streams(url: str, headers: Headers, count: int) -> list[str]:
    found = []
    headers = {**headers, "accept": "text/event-stream"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE) as http:
        for _ in range(count):
            async with http.stream("GET", "/changes") as answer:
                body = await answer.aread() if answer.status_code >= 400 else b""
                found.append(code_of(answer.status_code, body))
    return found


def _connections(path: str) -> Ask:
    async def ask(url: str, headers: Headers, count: int) -> list[str]:
        found = []
        for _ in range(count):
            async with _socket(url, path, headers) as opened:
                found.append(opened if isinstance(opened, str) else "ok")
        return found

    return ask


def _frames(frame: Mapping[str, Any]) -> Ask:
    """Frames of ``/ws`` that are sent at once, so that those which can share a batch do."""

    async def ask(url: str, headers: Headers, count: int) -> list[str]:
        async with _socket(url, "/ws", headers) as socket:
            if isinstance(socket, str):
                return [socket]
            for number in range(count):
                await socket.send(json.dumps({"id": number, **frame}))
            codes: dict[int, str] = {}
            while len(codes) < count:
                answer = json.loads(await socket.recv())
                if "id" in answer:
                    codes[answer["id"]] = answer.get("error", "ok")
            return [codes[number] for number in range(count)]

    return ask


@asynccontextmanager
async def _socket(url: str, path: str, headers: Headers) -> Any:
    """A WebSocket, or the code of its refusal."""
    address = urlsplit(url)
    others = {name: value for name, value in headers.items() if name != "host"}
    # The header Host comes from the URL; where the connection goes to is said beside it.
    opening = websockets.connect(
        f"ws://{headers.get('host', address.netloc)}{path}",
        host=address.hostname,
        port=address.port,
        additional_headers=others,
    )
    try:
        socket = await opening
    except websockets.InvalidStatus as refused:
        yield code_of(refused.response.status_code, refused.response.body or b"")
        return
    try:
        yield socket
    finally:
        await socket.close()


_SET = {"key": "road", "value": 1}
_ALONE = {"if": [{"key": "road", "exists": False}], "then": [{"op": "set", **_SET}]}

ROADS: tuple[Road, ...] = (
    Road("GET", "get", _http("GET", "/get?key=road")),
    Road("POST", "set", _http("POST", "/set", _SET)),
    Road("DELETE", "delete", _http("DELETE", "/delete?key=road")),
    Road("HTTP, malformed", "set", _http("POST", "/set", {"key": "road"}), succeeds=False),
    Road("POST /ticket", "ticket", _http("POST", "/ticket", {})),
    Road("long poll", "changes", _http("GET", "/changes?wait=0.01")),
    Road("event stream", "subscribe", _event_streams),
    Road("/subscribe", "subscribe", _connections("/subscribe/road")),
    Road("/ws", "connect", _connections("/ws")),
    Road("/ws read", "keys", _frames({"op": "keys"}), 1),
    Road("/ws reads together", "get", _frames({"op": "get", "key": "road"}), 1),
    Road("/ws write alone", "txn", _frames({"op": "txn", **_ALONE}), 1),
    Road("/ws writes together", "set", _frames({"op": "set", **_SET}), 1),
    Road("/ws subscribe", "subscribe", _frames({"op": "subscribe", "pattern": "road"}), 1),
    Road("/ws ping", "ping", _frames({"op": "ping"}), 1),
    Road("/ws, malformed", "set", _frames({"op": "set", "key": "road"}), 1, succeeds=False),
    Road("/ws, no such op", "unknown", _frames({"op": "sing"}), 1, succeeds=False),
)


def by_name(roads: Iterable[Road]) -> list[str]:
    """The names of roads, for the ids of a parametrized test."""
    return [road.name for road in roads]
