"""What fan-out costs at least: uvicorn and Starlette, sending each body to every socket.

Started by ``servers.py`` as ``python -m benchmarks.fanout_floor PORT``, with uvicorn set up as memX sets it up.
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

sockets: set[WebSocket] = set()


async def subscribe(socket: WebSocket) -> None:
    await socket.accept()
    sockets.add(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        sockets.discard(socket)


async def broadcast(request: Request) -> PlainTextResponse:
    text = (await request.body()).decode()
    for socket in tuple(sockets):
        await socket.send_text(text)
    return PlainTextResponse("ok")


app = Starlette(
    routes=[
        WebSocketRoute("/subscribe/{key:path}", subscribe),
        Route("/set", broadcast, methods=["POST"]),
        Route("/healthz", lambda _: PlainTextResponse("ok")),
    ]
)

if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
        backlog=2048,
    )
