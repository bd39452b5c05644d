"""What an HTTP call to Redis costs at least: plain ASGI, one Redis command, batched by loop turn.

Started by ``servers.py`` as ``python -m benchmarks.http_floor PORT REDIS_URL``, with uvicorn set up as memX
sets it up. It checks nothing, decodes nothing and answers with what Redis said. Over a WebSocket it does
the same, any number of requests at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from benchmarks.floor_commands import Batched, Command, commands

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_HEADERS = [(b"content-type", b"application/json")]


class Floor:
    """The application."""

    def __init__(self, url: str) -> None:
        self._redis = Batched(url)
        self._commands = commands(self._redis)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            command = self._commands[scope["path"][1:]]
            message = await receive()
            body = message["body"]
            while message["more_body"]:
                message = await receive()
                body += message["body"]
            answer = command.answer(await command.begin(body, scope["query_string"]))
            headers = [*_HEADERS, (b"content-length", b"%d" % len(answer))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})
        elif scope["type"] == "websocket":
            await self._serve_socket(receive, send)
        else:
            await self._live(receive, send)

    async def _serve_socket(self, receive: Receive, send: Send) -> None:
        """Answer ``{"id":1,"op":"get",...`` by ``{"id":1,"ok":true,"answer":...}``."""
        await receive()
        await send({"type": "websocket.accept"})
        tasks: set[asyncio.Task[None]] = set()
        while (message := await receive())["type"] == "websocket.receive":
            head, _, rest = message["text"].partition(',"op":"')
            command = self._commands[rest[: rest.index('"')]]
            task = asyncio.create_task(_answer(command, head, message["text"], send))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._redis.prepare()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _answer(command: Command, head: str, text: str, send: Send) -> None:
    answer = command.answer(await command.begin(text.encode(), b"")).decode()
    with contextlib.suppress(OSError):  # the client has left
        await send({"type": "websocket.send", "text": f'{head},"ok":true,"answer":{answer}}}'})


if __name__ == "__main__":
    uvicorn.run(
        Floor(sys.argv[2]),
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
    )
