"""``GET /changes``: the changes after a cursor, at once or as soon as there are some (long poll)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from memx_server.domain.memory.reads import ChangesPage
from memx_server.domain.requests import ChangesRequest
from memx_server.routes.api.operation import Call


async def changes(call: Call, request: ChangesRequest) -> bytes:
    """Read what has changed after a cursor; with ``wait``, wait until something has."""
    page = await call.memory.changes(call, request)
    if request.wait and not page.changes:
        page = await _wait(call, request, page)
    return page.text()


async def _wait(call: Call, request: ChangesRequest, page: ChangesPage) -> ChangesPage:
    """Return the first page that has a change, or the last one when the time has passed.

    The wait ends early, too, when the API key is revoked or the server stops.
    """
    feed, sessions = call.services.feed, call.services.sessions
    with suppress(TimeoutError):
        async with (
            feed.watch(call.principal, request.pattern, request.event) as changed,
            asyncio.timeout(request.wait) as patience,
        ):
            with sessions.track(call.principal, lambda *_: patience.reschedule(0)):
                while not page.changes:
                    request = msgspec.structs.replace(request, since=page.cursor)
                    # Cleared before the read: a change that comes during it sets the event again.
                    changed.clear()
                    page = await call.memory.changes(call, request)
                    if not page.changes:
                        await changed.wait()
    return page
