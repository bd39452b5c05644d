"""A memX server on a Redis of its own that holds a given number of each thing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import servers
from benchmarks.fanout_crowd import Crowd
from benchmarks.servers import API_KEY, Server

VALUE = {"text": "x" * 60, "votes": 3, "tags": ["a", "b"]}
SCHEMA = {"type": "object", "properties": {"votes": {"type": "integer"}}, "required": ["text"]}

_ELSEWHERE = "/subscribe/elsewhere:{number}:*"
_WRITES_AT_ONCE = 128
_CONNECTIONS = 8


@dataclass(frozen=True)
class Shape:
    """How much of each thing there is. Key ``n`` is asked for under API key ``n % api_keys``.

    Attributes:
        writes: How often keys are written before anything is measured; at least once each. Where
            two sizes are compared it is the same, so that their logs are as long.
        schemas: One for each family of keys; 0 is none, and one family.
        subscribers: Sockets that listen to other keys.
    """

    keys: int = 1000
    api_keys: int = 1
    spaces: int = 1
    schemas: int = 0
    subscribers: int = 0
    writes: int = 0

    @property
    def families(self) -> int:
        """How many first parts the keys' names have."""
        return max(1, self.schemas)

    def key(self, number: int) -> str:
        """Name a key."""
        return f"growth:{number % self.families}:{number}"

    def api_key(self, number: int) -> str:
        """Name the API key that a key is asked for under."""
        which = number % self.api_keys
        return f"growth-key-{which}" if which else API_KEY

    def acl(self) -> dict[str, Any]:
        """The ACL file's content."""
        return {
            self.api_key(each): {
                "space": f"space-{each % self.spaces}",
                "read": ["*"],
                "write": ["*"],
            }
            for each in range(self.api_keys)
        }

    def filling(self) -> Iterator[bytes]:
        """The requests that write the keys, as many at once as may be."""
        if self.api_keys > 1:
            for number in range(self.keys):
                body = {"key": self.key(number), "value": VALUE}
                yield _post("/set", self.api_key(number), body)
            return
        total = max(self.keys, self.writes)
        for first in range(0, total, _WRITES_AT_ONCE):
            numbers = {each % self.keys for each in range(first, first + _WRITES_AT_ONCE)}
            sets = [{"op": "set", "key": self.key(each), "value": VALUE} for each in numbers]
            yield _post("/txn", self.api_key(0), {"then": sets})

    def registering(self) -> Iterator[bytes]:
        """The requests that register the schemas."""
        for family in range(self.schemas):
            body = {"key": f"growth:{family}:*", "schema": SCHEMA}
            yield _post("/schema", self.api_key(0), body)


@dataclass(frozen=True)
class Site:
    """A server that holds what a shape says.

    Attributes:
        server_bytes: Resident memory of the server when it held all.
        redis_bytes: What Redis had allocated then.
    """

    shape: Shape
    server: Server
    server_bytes: int
    redis_bytes: int


@contextmanager
def running(shape: Shape) -> Iterator[Site]:
    """Start a server and bring everything into it."""
    with ExitStack() as stack:
        redis = stack.enter_context(servers.redis())
        server = stack.enter_context(servers.memx(redis.url, acl=shape.acl()))
        asyncio.run(_send(server.port, shape.registering()))
        asyncio.run(_send(server.port, shape.filling()))
        if shape.subscribers:
            stack.enter_context(Crowd([server.port], shape.subscribers, _ELSEWHERE))
        server.settle()  # new spaces are announced to other servers a while later
        with redis.client() as client:
            used: Any = client.info("memory")
        yield Site(shape, server, server.memory(), used["used_memory"])


def _post(path: str, api_key: str, body: Any) -> bytes:
    text = json.dumps(body, separators=(",", ":"))
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {api_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n{text}"
    ).encode()


async def _send(port: int, requests: Iterator[bytes]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_CONNECTIONS):
            tasks.create_task(_send_some(port, requests))


async def _send_some(port: int, requests: Iterator[bytes]) -> None:
    """Send what other connections leave, each request when the one before is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"content-length: ")
        answer = await reader.readexactly(int(length.split(b"\r\n")[0]))
        if b" 200 " not in head[:16]:
            raise RuntimeError(f"refused: {answer[:300]!r}")
    writer.close()
