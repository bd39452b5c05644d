"""memX's operations as bare Redis commands, batched by turn of the event loop: what they cost at least."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import redis.asyncio

_COMMIT = """
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'ts', ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'data', ARGV[1])
redis.call('PUBLISH', KEYS[3], ARGV[1])
return 1
"""
_CONDITIONAL = """
local key, revision = string.match(ARGV[1], '"key":"([^"]+)","if_revision":(%d+)')
if (redis.call('HGET', key, 'revision') or '0') ~= revision then return '{"ok":false}' end
local newest = string.format('%.0f', redis.call('INCR', KEYS[1]))
redis.call('HSET', key, 'value', ARGV[1], 'revision', newest)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'data', ARGV[1])
redis.call('PUBLISH', KEYS[3], ARGV[1])
return '{"ok":true,"key":"' .. key .. '","revision":' .. newest .. '}'
"""
_INCREMENT = """
redis.call('HINCRBY', KEYS[1], 'votes', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'data', ARGV[1])
redis.call('PUBLISH', KEYS[3], ARGV[1])
return 1
"""
_TXN = """
local value = string.sub(ARGV[1], 1, 100)
for number = 1, 10 do
  redis.call('HSET', KEYS[1] .. number, 'value', value, 'ts', ARGV[2])
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'data', ARGV[1])
redis.call('PUBLISH', KEYS[3], ARGV[1])
return 1
"""
_SCRIPTS = {"set": _COMMIT, "conditional": _CONDITIONAL, "increment": _INCREMENT, "txn": _TXN}
_KEYS = {"set": "hash", "conditional": "head", "increment": "hot", "txn": "txn"}
_PAGE = [f"floor:page:{number}" for number in range(50)]
_MANY = [f"floor:many:{number:06}" for number in range(100_000)]
_TEXT = b"x" * 250


@dataclass(frozen=True)
class Command:
    """One operation.

    Attributes:
        begin: From a body and a query string to what Redis will say.
        answer: From that to a body.
    """

    begin: Callable[[bytes, bytes], Awaitable[Any]]
    answer: Callable[[Any], bytes]


class Batched:
    """Sends the commands of one turn of the event loop as one pipeline."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.from_url(url)
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []

    def execute(self, *command: Any) -> asyncio.Future[Any]:
        """Send a command with the others of this turn."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if not self._waiting:
            loop.call_soon(lambda: loop.create_task(self._flush()))
        self._waiting.append((command, answer))
        return answer

    async def prepare(self) -> None:
        """Store what the commands read."""
        for script in _SCRIPTS.values():
            await self._client.script_load(script)
        await self._client.set("floor:entry", _TEXT)
        await self._client.mset(dict.fromkeys([*_PAGE, *_MANY[:100]], _TEXT))
        await self._client.zadd("floor:names", dict.fromkeys(_MANY, 0))

    async def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        pipeline = self._client.pipeline(transaction=False)
        for command, _ in batch:
            pipeline.execute_command(*command)
        for (_, answer), result in zip(batch, await pipeline.execute(), strict=True):
            answer.set_result(result)


def commands(batched: Batched) -> dict[str, Command]:
    """The operations by name."""
    execute = batched.execute

    async def keys(_body: bytes, _query: bytes) -> list[bytes]:
        bounds = "[floor:many:000", "(floor:many:000\xff"
        names = await execute("ZRANGEBYLEX", "floor:names", *bounds, "LIMIT", 0, 101)
        await execute("MGET", *names[:100])
        found: list[bytes] = names[:100]
        return found

    return {
        "get": Command(lambda _, query: execute("GET", b"floor:entry" + query), bytes),
        "mget": Command(lambda _body, _query: execute("MGET", *_PAGE), _array),
        "keys": Command(keys, _array),
        **{name: _scripted(execute, name) for name in _SCRIPTS},
    }


def _scripted(execute: Callable[..., asyncio.Future[Any]], name: str) -> Command:
    sha = hashlib.sha1(_SCRIPTS[name].encode()).hexdigest()
    names = f"floor:{_KEYS[name]}", "floor:log", "floor:news"
    return Command(lambda body, _: execute("EVALSHA", sha, 3, *names, body, "0"), _written)


def _written(said: Any) -> bytes:
    return b'{"ok":true}' if said == 1 else bytes(said)


def _array(items: list[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"
