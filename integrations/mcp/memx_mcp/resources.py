"""The shared keys as MCP resources, and the subscriptions to them."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from memx_mcp.callers import Callers
from memx_mcp.uris import URI_TEMPLATE, key_of, uri_of
from memx_mcp.watcher import Watcher
from memx_sdk import Entry, MemxError, RequestError
from memx_sdk.tools import explain_error
from memx_sdk.tools.json_value import one_line

log = logging.getLogger(__name__)

_PAGE = 100
_RESOURCE_NOT_FOUND = -32002
"""MCP specification up to 2025-11-25, server/resources, error handling; later ones say INVALID_PARAMS (SEP-2164)."""


class Resources:
    """Answers everything about resources; one instance serves all sessions of a server.

    Args:
        callers: Whose keys.
        keeps_sessions: False where each request may reach another worker: then a client of the older
            protocol cannot subscribe, and gets an error that says so.
    """

    def __init__(self, callers: Callers, *, keeps_sessions: bool) -> None:
        self._callers = callers
        self._keeps_sessions = keeps_sessions
        self._pushers: dict[int, _SessionPusher] = {}

    async def list(
        self, ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """List readable keys, a page at a time; the MCP cursor is memX's page cursor."""
        cursor = params.cursor if params else None
        # Before the list is read: a key that comes meanwhile is then told of.
        if pusher := self._pushers.get(id(_connection(ctx))):
            pusher.knows_list = True
        try:
            caller = self._callers.of(ctx)
            page = await caller.context.key_page(limit=_PAGE, after=cursor)
            # Pages of programs' own records alone are passed over: an empty page ends the list for some hosts.
            while page.next is not None and not any(map(caller.keys.sees, page.items)):
                page = await caller.context.key_page(limit=_PAGE, after=page.next)
            keys = [key for key in page.items if caller.keys.sees(key)]
            entries = await caller.context.mget(keys) if keys else {}
        except MemxError as error:
            raise _as_mcp_error(error) from None
        return types.ListResourcesResult(
            resources=[_resource(entry) for entry in entries.values() if entry is not None],
            next_cursor=page.next,
        )

    async def list_templates(
        self, ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        """Name the one template that covers all keys."""
        template = types.ResourceTemplate(
            name="key",
            title="A shared key",
            uri_template=URI_TEMPLATE,
            description="What one key of the shared memory holds, as JSON.",
            mime_type="application/json",
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read(
        self, ctx: ServerRequestContext[Any, Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """Read a key's value as JSON text."""
        uri = str(params.uri)
        try:
            key = self._key(ctx, uri)
            entry = await self._callers.of(ctx).context.get(key)
        except MemxError as error:
            raise _as_mcp_error(error) from None
        if entry is None:
            raise _not_found(ctx, f"there is no key {key!r}", uri)
        text = json.dumps(entry.value, ensure_ascii=False, default=str)
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=text)
        return types.ReadResourceResult(contents=[contents])

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one ``subscriptions/listen`` stream (2026-07-28)."""
        try:
            watcher = self._callers.of(ctx).watcher
        except MemxError as error:
            raise _as_mcp_error(error) from None
        # A client that has the acknowledgement misses no change: so memX's feed must be live before it is sent.
        # This listener keeps the watcher running until ListenHandler has added its own, and as long as it has one.
        leave = watcher.subscribe(lambda _: None)
        try:
            await watcher.ready()
            return await ListenHandler(watcher)(ctx, params)
        finally:
            leave()

    async def subscribe(
        self, ctx: ServerRequestContext[Any, Any], params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        """Begin to notify a session of the older protocol of one resource, also of one that is not there yet."""
        uri = str(params.uri)
        pusher = self._pusher(ctx)
        try:
            key = self._key(ctx, uri)
            await self._callers.of(ctx).context.get(key)
        except (
            RequestError
        ) as error:  # a key that may not be read would never be notified: refuse it now
            raise _as_mcp_error(error) from None
        except MemxError:
            log.info("subscribed to %s while memX is away", uri)
        # The URI counts before the feed is awaited: a change that arrives while this request is being answered is
        # notified, at worst once too often.
        pusher.uris.add(uri)
        await self._callers.of(ctx).watcher.ready()
        return types.EmptyResult()

    async def unsubscribe(
        self, ctx: ServerRequestContext[Any, Any], params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        """End what ``subscribe`` began."""
        self._pusher(ctx).uris.discard(str(params.uri))
        return types.EmptyResult()

    async def initialized(
        self, ctx: ServerRequestContext[Any, Any], params: types.NotificationParams | None
    ) -> None:
        """Begin to tell a session of the older protocol when keys come and go."""
        if self._keeps_sessions:
            with suppress(MemxError):
                self._pusher(ctx)

    def _key(self, ctx: ServerRequestContext[Any, Any], uri: str) -> str:
        """Read the key out of a URI.

        Raises:
            MCPError: It names none.
            ForbiddenError: The key is one of programs' own records.
        """
        key = key_of(uri)
        if key is None:
            raise _not_found(ctx, f"no shared key has this URI; their form is {URI_TEMPLATE}", uri)
        self._callers.of(ctx).keys.check([key])
        return key

    def _pusher(self, ctx: ServerRequestContext[Any, Any]) -> _SessionPusher:
        if not self._keeps_sessions:
            raise MCPError(
                types.INVALID_REQUEST,
                "this server keeps no sessions, so it cannot notify a client of this protocol version; "
                "use subscriptions/listen (2026-07-28), or the memx_wait tool",
            )
        connection = _connection(ctx)
        # One pusher for each session, found by its connection; the exit stack of the connection ends the pusher
        # and forgets it, before the id can be given to another connection.
        pusher = self._pushers.get(id(connection))
        if pusher is None:
            pusher = _SessionPusher(self._callers.of(ctx).watcher, ctx.session)
            self._pushers[id(connection)] = pusher
            connection.exit_stack.callback(self._pushers.pop, id(connection), None)
            connection.exit_stack.callback(pusher.close)
        return pusher


def _connection(ctx: ServerRequestContext[Any, Any]) -> Connection:
    return ctx.session._connection  # noqa: SLF001 - the SDK has no public way to a session's end


class _SessionPusher:
    """Notifies one session of the older protocol; ends with it.

    It tells of keys that come and go once for each list that the session has read: whoever has read none, or knows
    that theirs is out of date, has nothing to learn from it.

    The watcher delivers on its own task and must not wait for a slow client. So events are noted here, the same
    event once, and a task of the session sends them at the client's pace: what a client has not taken yet is
    bounded by the number of keys that it subscribed to.
    """

    def __init__(self, watcher: Watcher, session: ServerSession) -> None:
        self.uris: set[str] = set()
        self.knows_list = False
        self._session = session
        self._pending: dict[ServerEvent, None] = {}
        self._arrived = asyncio.Event()
        self._unsubscribe = watcher.subscribe(self._deliver)
        self._task = asyncio.create_task(self._send())

    def close(self) -> None:
        self._unsubscribe()
        self._task.cancel()

    def _deliver(self, event: ServerEvent) -> None:
        if isinstance(event, ResourceUpdated) and event.uri not in self.uris:
            return
        if isinstance(event, ResourcesListChanged):
            if not self.knows_list:
                return
            self.knows_list = False
        self._pending[event] = None
        self._arrived.set()

    async def _send(self) -> None:
        while True:
            await self._arrived.wait()
            # No await between these two lines and the wait: what is delivered from here on sets the flag again.
            self._arrived.clear()
            pending, self._pending = self._pending, {}
            for event in pending:
                if isinstance(event, ResourceUpdated):
                    await self._session.send_resource_updated(event.uri)
                elif isinstance(event, ResourcesListChanged):
                    await self._session.send_resource_list_changed()


def _not_found(ctx: ServerRequestContext[Any, Any], text: str, uri: str) -> MCPError:
    modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    return MCPError(types.INVALID_PARAMS if modern else _RESOURCE_NOT_FOUND, text, {"uri": uri})


def _resource(entry: Entry) -> types.Resource:
    modified = datetime.fromtimestamp(entry.ts, UTC).isoformat(timespec="seconds")
    return types.Resource(
        uri=uri_of(entry.key),
        name=entry.key,
        description=f"Version {entry.version}, last written by {one_line(entry.writer)}.",
        mime_type="application/json",
        size=len(json.dumps(entry.value, ensure_ascii=False, default=str).encode()),
        annotations=types.Annotations(last_modified=modified),
    )


def _as_mcp_error(error: MemxError) -> MCPError:
    return MCPError(types.INTERNAL_ERROR, explain_error(error), {"error": error.code})
