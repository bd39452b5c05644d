"""Clients that write and read under faults, and note each request with its start, end and outcome."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import httpx
import websockets

from tests.faults.history import Operation, Outcome

API_KEY = "chaos_key"
REQUEST_TIMEOUT = 8.0
PLAIN, COUNTERS, LISTS, TYPED, BRIEF = "plain", "counter", "list", "typed", "brief"
TYPED_PATTERN = f"{TYPED}:*"


class Answer(NamedTuple):
    """A server's answer to one request, whatever the road.

    Attributes:
        outcome: What became of it.
        body: The answer's object.
    """

    outcome: Outcome
    body: Any


class Road:
    """Sends operations to one of several servers; makes connections anew where they break."""

    def __init__(self, urls: Sequence[str], dice: random.Random) -> None:
        self._urls = list(urls)
        self._dice = dice

    async def ask(self, method: str, path: str, body: dict[str, Any], key: str | None) -> Answer:
        """Send one operation; never raises for what a fault may do."""
        raise NotImplementedError

    async def close(self) -> None:
        """Release connections."""


class HttpRoad(Road):
    """Operations over plain HTTP, each to a server that chance names."""

    def __init__(self, urls: Sequence[str], dice: random.Random) -> None:
        super().__init__(urls, dice)
        self._client = httpx.AsyncClient(timeout=REQUEST_TIMEOUT, headers={"x-api-key": API_KEY})

    async def ask(self, method: str, path: str, body: dict[str, Any], key: str | None) -> Answer:
        url = self._dice.choice(self._urls) + path
        headers = {} if key is None else {"Idempotency-Key": key}
        sent: dict[str, Any] = {"params": body} if method == "GET" else {"json": body}
        try:
            response = await self._client.request(method, url, headers=headers, **sent)
            found = response.json()
        except (httpx.HTTPError, ValueError):
            return Answer("unknown", None)
        return Answer(_outcome(response.status_code), found)

    async def close(self) -> None:
        await self._client.aclose()


class SocketRoad(Road):
    """Operations over one ``/ws`` socket, made anew after each fault, to a server that chance names."""

    _NAMES: ClassVar = {
        "/set": "set",
        "/get": "get",
        "/mget": "mget",
        "/update": "update",
        "/txn": "txn",
    }

    def __init__(self, urls: Sequence[str], dice: random.Random) -> None:
        super().__init__(urls, dice)
        self._socket: Any = None
        self._numbers = itertools.count(1)

    async def ask(self, method: str, path: str, body: dict[str, Any], key: str | None) -> Answer:
        operation = {"DELETE": "delete"}.get(method) or self._NAMES.get(path, "set_schema")
        frame = {"id": next(self._numbers), "op": operation, **body}
        if key is not None:
            frame["idempotency_key"] = key
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                answer = await self._exchange(frame)
        except (OSError, TimeoutError, websockets.WebSocketException):
            await self.close()
            return Answer("unknown", None)
        if answer["ok"]:
            return Answer("ok", answer.get("entry") if operation == "get" else answer)
        surely = answer["error"] not in {"unavailable", "internal"}
        return Answer("refused" if surely else "unknown", answer)

    async def _exchange(self, frame: dict[str, Any]) -> Any:
        if self._socket is None:
            url = self._dice.choice(self._urls).replace("http", "ws", 1) + "/ws"
            self._socket = await websockets.connect(
                url, additional_headers={"x-api-key": API_KEY}, max_size=None
            )
        await self._socket.send(json.dumps(frame))
        while True:
            answer = json.loads(await self._socket.recv())
            if answer.get("id") == frame["id"]:
                return answer

    async def close(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await asyncio.wait([asyncio.ensure_future(socket.close())], timeout=1)


def _outcome(status: int) -> Outcome:
    if status == 200:
        return "ok"
    return "refused" if 400 <= status < 500 else "unknown"


class Client:
    """One client: operations of every kind, on keys that it shares with all others.

    Args:
        name: What its tokens begin with.
        road: How it reaches the servers.
        dice: Chance, seeded.
        record: Takes each operation when it has ended.
        keys: How many keys of each kind there are.
    """

    def __init__(
        self,
        name: str,
        road: Road,
        dice: random.Random,
        record: Callable[[Operation], None],
        keys: int = 4,
    ) -> None:
        self._name = name
        self._road = road
        self._dice = dice
        self._record = record
        self._keys = keys
        self._numbers = itertools.count(1)
        self._known: dict[str, int] = {}

    async def run(self, until: Callable[[], bool], pause: float) -> None:
        """Work until told to end, at most one operation at a time."""
        kinds = {
            self._set: 20, self._get: 20, self._set_if: 12, self._increment: 10, self._append: 6,
            self._delete: 4, self._pair: 10, self._pair_read: 8, self._brief: 5, self._typed: 4, self._schema: 1,
        }  # fmt: skip
        while not until():
            (act,) = self._dice.choices(list(kinds), weights=list(kinds.values()))
            await act()
            await asyncio.sleep(self._dice.uniform(0, 2 * pause))
        await self._road.close()

    def _key(self, kind: str) -> str:
        return f"{kind}:{self._dice.randrange(self._keys)}"

    def _operation(self, kind: str, *keys: str, **arguments: Any) -> Operation:
        token = f"{self._name}-{next(self._numbers)}"
        return Operation(self._name, kind, keys, token, arguments)

    async def _send(
        self, operation: Operation, method: str, path: str, body: dict[str, Any]
    ) -> Any:
        """Send an operation, a write of two again where the first answer is lost; note what came of it."""
        key = f"k-{operation.token}" if operation.writes and self._dice.random() < 0.6 else None
        if operation.writes:
            body = {**body, "reason": operation.token}
        operation.start = time.monotonic()
        answer = await self._road.ask(method, path, body, key)
        if answer.outcome == "unknown" and key is not None:
            # The same key makes this one write, however often it is sent.
            answer = await self._road.ask(method, path, body, key)
        operation.end, operation.outcome = time.monotonic(), answer.outcome
        if answer.outcome == "ok" and operation.writes:
            operation.revision, operation.cursor = (
                answer.body.get("revision"),
                answer.body.get("cursor"),
            )
        self._record(operation)
        return answer.body if answer.outcome == "ok" else None

    async def _write(self, operation: Operation, key: str, **extra: Any) -> None:
        body = {"key": key, "value": operation.arguments["value"], **extra}
        if await self._send(operation, "POST", "/set", body) and operation.revision:
            self._known[key] = operation.revision

    async def _set(self) -> None:
        key = self._key(PLAIN)
        operation = self._operation("set", key)
        operation.arguments["value"] = {
            "by": operation.token,
            "pad": "x" * self._dice.choice((0, 0, 300)),
        }
        await self._write(operation, key)

    async def _set_if(self) -> None:
        key = self._key(PLAIN)
        revision = self._known.get(key, 0)
        operation = self._operation("set_if", key, if_revision=revision)
        operation.arguments["value"] = {"by": operation.token}
        await self._write(operation, key, if_revision=revision)
        if operation.outcome == "refused":
            await self._read(key)

    async def _brief(self) -> None:
        key = self._key(BRIEF)
        operation = self._operation("set", key, ttl=self._dice.choice((0.2, 0.5, 1.0)))
        operation.arguments["value"] = operation.token
        await self._write(operation, key, ttl=operation.arguments["ttl"])

    async def _typed(self) -> None:
        key = self._key(TYPED)
        operation = self._operation("set", key)
        operation.arguments["value"] = self._dice.choice((7, operation.token))
        await self._write(operation, key)

    async def _schema(self) -> None:
        schema = {"type": self._dice.choice(("integer", "string"))}
        operation = self._operation("set_schema", TYPED_PATTERN, schema=schema)
        operation.start = time.monotonic()
        answer = await self._road.ask(
            "POST", "/schema", {"key": TYPED_PATTERN, "schema": schema}, None
        )
        operation.end = time.monotonic()
        # A schema's change carries no reason, so the log cannot tell whose it is: it is not looked for there.
        operation.kind, operation.outcome = "schema_unchecked", answer.outcome
        self._record(operation)

    async def _get(self) -> None:
        kind = self._dice.choice((PLAIN, PLAIN, COUNTERS, BRIEF))
        await self._read(self._key(kind))

    async def _read(self, key: str) -> None:
        operation = self._operation("get", key)
        operation.start = time.monotonic()
        # A read shows an entry's expiry by the store's clock, which is this machine's.
        operation.arguments["wall"] = time.time()
        answer = await self._road.ask("GET", "/get", {"key": key}, None)
        operation.end, operation.outcome = time.monotonic(), answer.outcome
        if answer.outcome == "ok":
            operation.seen = {key: answer.body}
            operation.revision = 0 if answer.body is None else answer.body["revision"]
            self._known[key] = operation.revision or 0
        self._record(operation)

    async def _increment(self) -> None:
        key = self._key(COUNTERS)
        operation = self._operation("increment", key, by=1)
        await self._send(operation, "POST", "/update", {"key": key, "increment": 1})

    async def _append(self) -> None:
        key = self._key(LISTS)
        operation = self._operation("append", key)
        operation.arguments["item"] = operation.token
        await self._send(operation, "POST", "/update", {"key": key, "append": [operation.token]})

    async def _delete(self) -> None:
        key = self._key(self._dice.choice((PLAIN, LISTS)))
        operation = self._operation("delete", key)
        body = await self._send(operation, "DELETE", "/delete", {"key": key})
        if body is not None:
            operation.arguments["deleted"] = body["deleted"]
            self._known[key] = 0

    def _pair_keys(self) -> tuple[str, str]:
        number = self._dice.randrange(self._keys)
        return f"pair:{number}:a", f"pair:{number}:b"

    async def _pair(self) -> None:
        keys = self._pair_keys()
        operation = self._operation("pair", *keys)
        writes = [{"op": "set", "key": key, "value": operation.token} for key in keys]
        await self._send(operation, "POST", "/txn", {"then": writes})

    async def _pair_read(self) -> None:
        keys = self._pair_keys()
        operation = self._operation("pair_read", *keys)
        operation.start = time.monotonic()
        answer = await self._road.ask("POST", "/mget", {"keys": list(keys)}, None)
        operation.end, operation.outcome = time.monotonic(), answer.outcome
        if answer.outcome == "ok":
            operation.seen = answer.body["entries"]
        self._record(operation)
