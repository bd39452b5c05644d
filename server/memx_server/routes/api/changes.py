"""``GET /changes``: what has changed, at once or as soon as something does (long poll)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from memx_server.domain.requests import ChangesRequest
from memx_server.routes.api.operation import Call


async def changes(call: Call, request: ChangesRequest) -> bytes:
    """Read what has changed after a cursor; with ``wait``, wait until something has."""
    answer = await call.memory.changes(call, request)
    if not request.wait or not _is_empty(answer):
        return answer
    feed, sessions = call.services.feed, call.services.sessions
    with suppress(TimeoutError):
        async with (
            feed.watch(call.principal, request.pattern, request.event) as rung,
            asyncio.timeout(request.wait) as patience,
        ):
            with sessions.track(call.principal, lambda *_: patience.reschedule(0)):
                while _is_empty(answer):
                    request = msgspec.structs.replace(request, since=_cursor_of(answer))
                    rung.clear()
                    answer = await call.memory.changes(call, request)
                    if _is_empty(answer):
                        await rung.wait()
    return answer


def _is_empty(answer: bytes) -> bool:
    return answer.startswith(b'{"changes":[],')


class _Page(msgspec.Struct):
    cursor: str


_decode_page = msgspec.json.Decoder(_Page).decode


def _cursor_of(answer: bytes) -> str:
    return _decode_page(answer).cursor
