"""The callers of the MCP server: a memX context for each, kept for its next request."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcp.server.context import ServerRequestContext

from memx_mcp.admission import SUBJECT
from memx_mcp.watcher import OutageLog, Watcher
from memx_sdk import AsyncMemxContext
from memx_sdk.tools import AsyncAgentKeys, AsyncToolRunner

_MOST_CALLERS = 1000
_CHECK_HOLDS = 3.0
"""Seconds for which an API key that was good is taken to be so; memX checks it at each call all the same."""


@dataclass(frozen=True)
class Credentials:
    """The API key and agent name that a request carries; all None on stdio.

    Attributes:
        api_key: The credential.
        agent: What the caller calls itself.
        subject: Whom a verified token names, in place of an API key: ``oauth:<sub>``.
    """

    api_key: str | None = field(default=None, repr=False)
    agent: str | None = None
    subject: str | None = None


OpenContext = Callable[[Credentials], AsyncMemxContext]
"""Gives a caller their context; called once for each caller while they are active."""


class Caller:
    """A caller's context, and what is derived from it."""

    def __init__(self, context: AsyncMemxContext, outage: OutageLog, *, reserved: bool) -> None:
        self.context = context
        self.tools = AsyncToolRunner(context, reserved=reserved)
        self.keys = AsyncAgentKeys(context, reserved=reserved)
        self.watcher = Watcher(context, self.keys.sees, outage)
        self._checked_until = 0.0

    async def check(self) -> None:
        """Verify every few seconds that memX still takes the API key.

        Raises:
            ForbiddenError: It is not.
            MemxError: memX does not answer.
        """
        # Two requests may both find the time run out: both ask, which does no harm.
        if time.monotonic() >= self._checked_until:
            await self.context.whoami()
            self._checked_until = time.monotonic() + _CHECK_HOLDS

    async def close(self) -> None:
        """Stop watching and close the context."""
        await self.watcher.close()
        await self.context.aclose()


class Callers:
    """Finds the caller of each request; the longest idle ones are closed when there are too many.

    Args:
        open_context: Gives a caller their memX context.
        reserved: Whether callers reach programs' own records too: see ``memx_sdk.collections.RESERVED_PREFIX``.
    """

    def __init__(self, open_context: OpenContext, *, reserved: bool = False) -> None:
        self._open_context = open_context
        self._reserved = reserved
        self._by_credentials: OrderedDict[Credentials, Caller] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._outage = OutageLog()

    def of(self, request: ServerRequestContext[Any, Any]) -> Caller:
        """Find the caller of an MCP request.

        Raises:
            MemxError: No context can be opened (no API key is configured).
        """
        return self.with_credentials(credentials_of(request.request))

    def with_credentials(self, credentials: Credentials) -> Caller:
        """Find or open the caller with these credentials."""
        caller = self._by_credentials.get(credentials)
        if caller is None:
            caller = Caller(self._open_context(credentials), self._outage, reserved=self._reserved)
            self._by_credentials[credentials] = caller
            self._close_the_longest_idle()
        self._by_credentials.move_to_end(credentials)
        return caller

    async def close(self) -> None:
        """Close every caller."""
        # Taken out first: a request that still comes opens a context anew rather than getting a closed one.
        callers = list(self._by_credentials.values())
        self._by_credentials.clear()
        await asyncio.gather(*(caller.close() for caller in callers), *self._closing)

    def _close_the_longest_idle(self) -> None:
        if len(self._by_credentials) <= _MOST_CALLERS:
            return
        # A caller whose watcher is in use has an open stream: closing it would cut a client off. The others lose
        # nothing, for their next request opens a new context.
        for credentials, caller in self._by_credentials.items():
            if not caller.watcher.active:
                del self._by_credentials[credentials]
                task = asyncio.create_task(caller.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
                return


def credentials_of(request: Any) -> Credentials:
    """Read the API key (``x-api-key`` or Bearer) and agent name from an HTTP request, if it is one."""
    headers = getattr(request, "headers", None)
    if headers is None:
        return Credentials()
    if subject := request.scope.get(SUBJECT):
        return Credentials(None, headers.get("x-memx-agent"), subject)
    api_key = headers.get("x-api-key")
    if not api_key:
        kind, _, token = headers.get("authorization", "").partition(" ")
        api_key = token.strip() if kind.lower() == "bearer" else None
    return Credentials(api_key or None, headers.get("x-memx-agent"))
