"""What an HTTP call to Redis costs at least: plain ASGI, one Redis command, batched by loop turn.

Started by ``http_rows.py`` as ``python http_floor.py PORT REDIS_URL``, with uvicorn set up as memX sets
it up. It checks nothing, decodes nothing and answers with what Redis said.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
import uvicorn

_COMMIT = """
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'ts', ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'data', ARGV[1])
redis.call('PUBLISH', KEYS[3], ARGV[1])
return 1
"""
_SHA = hashlib.sha1(_COMMIT.encode()).hexdigest()
_HEADERS = [(b"content-type", b"application/json")]


class Batched:
    """Sends the commands of one turn of the event loop as one pipeline."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.from_url(url)
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []

    def execute(self, *command: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if not self._waiting:
            loop.call_soon(lambda: loop.create_task(self._flush()))
        self._waiting.append((command, answer))
        return answer

    async def prepare(self) -> None:
        await self._client.script_load(_COMMIT)
        await self._client.set("floor:entry", b"x" * 250)

    async def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        pipeline = self._client.pipeline(transaction=False)
        for command, _ in batch:
            pipeline.execute_command(*command)
        for (_, answer), result in zip(batch, await pipeline.execute(), strict=True):
            answer.set_result(result)


class Floor:
    """The application."""

    def __init__(self, url: str) -> None:
        self._redis = Batched(url)

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["path"] == "/set":
            body = (await receive())["body"]
            await self._redis.execute(
                "EVALSHA", _SHA, 3, "floor:hash", "floor:log", "floor:news", body, "0"
            )
            answer = b'{"ok":true}'
        else:
            answer = await self._redis.execute("GET", "floor:entry")
        headers = [*_HEADERS, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        await self._redis.prepare()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    uvicorn.run(
        Floor(sys.argv[2]),
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="warning",
    )
