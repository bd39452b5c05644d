"""Agents: handlers that run when keys change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from memx_sdk._async._concurrency import Event
from memx_sdk._async.agents.handler import AsyncHandler, HandlerOptions
from memx_sdk._async.feed.durable import AsyncDurableClaim
from memx_sdk._async.feed.reader import AsyncReader
from memx_sdk.core.forks import watch_forks
from memx_sdk.core.subscription import EventName, FeedRequest
from memx_sdk.errors import MemxClosedError
from memx_sdk.models import Change

log = logging.getLogger("memx_sdk")

OpenReader = Callable[[FeedRequest, str | None], tuple[AsyncReader, AsyncDurableClaim | None]]
Function = TypeVar("Function", bound=Callable[[Change], Any])

_STOPPING_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Registration:
    """A handler that is to run: what it watches, under which durable name, and what it does."""

    request: FeedRequest
    durable: str | None
    options: HandlerOptions


class AsyncAgent:
    """Runs handlers on changes: several at a time, those of one key one after the other.

    ::

        critic = ctx.agent("critic")

        @critic.on("research:*", durable=True)
        async def review(change):
            await ctx.set(f"critique:{change.key}", await success_body(change.value))

        await critic.run()

    Args:
        open_reader: Opens a feed, durable if it is given a name.
        name: Names its durable subscriptions.
        concurrency: How many changes each handler may work on at the same time.
    """

    def __init__(self, open_reader: OpenReader, name: str, *, concurrency: int = 4) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency!r}")
        self.name = name
        self._open_reader = open_reader
        self._concurrency = concurrency
        self._registrations: list[_Registration] = []
        # Empty while the agent does not run. A handler whose own worker called `stop` stays in it,
        # so that the agent is not started a second time while that worker is still at its change.
        self._handlers: list[AsyncHandler] = []
        self._ended = Event()
        self._failure: BaseException | None = None
        watch_forks(self)

    def on(
        self,
        pattern: str,
        *,
        event: EventName = "value",
        since: str | None = None,
        snapshot: bool = False,
        conflate: bool = False,
        durable: bool | str = False,
        retries: int = 2,
        on_error: Callable[[Change, Exception], Any] | None = None,
        on_reset: Callable[[str], Any] | None = None,
    ) -> Callable[[Function], Function]:
        """Register the decorated function as a handler for changes under ``pattern``.

        The first six arguments are as for `subscribe`.

        Args:
            pattern: A key or a pattern.
            event: Which kinds of change.
            since: The cursor behind which to begin.
            snapshot: Begin with the present entries.
            conflate: Where the agent is behind, skip to the newest value of each key.
            durable: Take up where the agent of this name had got to: at least once. True names the
                durable subscription ``<agent>:<pattern>``; a text is its name.
            retries: How many more times a change is tried whose handling raised. The key's later
                changes wait meanwhile.
            on_error: Is called with a change that was given up, and the last exception; without
                it they are logged. The change then counts as dealt with. What ``on_error``
                raises stops the agent, and a durable handler gets the change again at the next
                start.
            on_reset: Is called with the reason where changes may have been missed, before the
                present entries come as a snapshot; see `Reset`.

        Raises:
            RuntimeError: The agent runs already.
        """
        if self._handlers:
            raise RuntimeError("register handlers before the agent starts")
        request = FeedRequest(pattern, event, since, snapshot, conflate)
        # The durable name contains the pattern, so that two handlers of one agent with different
        # patterns keep two cursors. With one they would take the name over from each other.
        name = f"{self.name}:{pattern}" if durable is True else durable or None

        def register(function: Function) -> Function:
            options = HandlerOptions(function, retries, on_error, on_reset)
            self._registrations.append(_Registration(request, name, options))
            return function

        return register

    async def start(self, timeout: float | None = None) -> Self:
        """Start the handlers in the background; return once they miss nothing from now on.

        Args:
            timeout: Seconds to wait for that; None waits for ever.

        Raises:
            MemxTimeout: The server could not be reached in time.
            RequestError: The server refuses a subscription.
        """
        if self._handlers:
            raise RuntimeError(f"the agent {self.name!r} runs already")
        # New for each start: an agent that was stopped may be started again, and must not find the
        # old flag set.
        self._ended, self._failure = Event(), None
        self._handlers = [self._handler(registration) for registration in self._registrations]
        for handler in self._handlers:
            handler.start()
        for handler in self._handlers:
            # Every handler runs already here. Waiting comes second, so that their subscriptions
            # open at the same time and the slowest alone decides how long this takes.
            await handler.ready(timeout)
        return self

    async def run(self) -> None:
        """Handle changes until `stop` is called or something fails.

        Raises:
            TakenOverError: Another agent took a durable subscription over.
            MemxError: The server refuses a subscription for good.
        """
        try:
            await self.start()
            await self._ended.wait()
        except MemxClosedError:
            # The context was closed meanwhile, or `stop` ran during `start`: that is an end as it
            # was asked for, and no failure.
            pass
        finally:
            await self.stop()
        # After `stop`, so that what was being handled is done and acknowledged before the caller
        # learns why the agent ended.
        if self._failure is not None:
            raise self._failure

    async def stop(self, timeout: float = _STOPPING_SECONDS) -> None:
        """Take no more changes, and return when those that are being handled are done.

        Args:
            timeout: Seconds that the handlers get; then they are cancelled (threads are left).
        """
        self._ended.set()
        # A copy, since a second `stop` (of the context that closes, say) may run at the same time
        # and take handlers out of the list.
        handlers = list(self._handlers)
        for handler in handlers:
            # First all take no more changes, then each is waited for: otherwise the later ones
            # would go on taking changes while the first one finishes.
            await handler.close()
        for handler in handlers:
            # False where the caller is a worker of the handler: it stops the agent from within, and
            # its own change is not done before it returns.
            if await handler.join(timeout) and handler in self._handlers:
                self._handlers.remove(handler)

    async def close(self) -> None:
        """Stop as the context closes: what is being handled gets a second to finish."""
        await self.stop(timeout=1.0)

    def forget_parent(self) -> None:
        """Leave the handlers to the parent, in a forked child; the agent may be started there anew."""
        # The events are new, because those of the parent may hold waiters that do not exist here.
        # The flag is set, because the agent does not run here.
        self._handlers, self._failure = [], None
        self._ended = Event()
        self._ended.set()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _handler(self, registration: _Registration) -> AsyncHandler:
        reader, claim = self._open_reader(registration.request, registration.durable)
        return AsyncHandler(reader, claim, registration.options, self._concurrency, self._fail)

    def _fail(self, failure: BaseException) -> None:
        log.error("the agent %r stops: %s", self.name, failure)
        # Only the first failure is kept: the others are mostly its consequences.
        self._failure = self._failure or failure
        self._ended.set()
