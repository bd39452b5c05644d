"""The context: a program's view of one space of shared memory."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from memx_sdk._async._concurrency import call, close_when_collected
from memx_sdk._async.agents.agent import AsyncAgent
from memx_sdk._async.caller import AsyncCaller
from memx_sdk._async.feed.durable import AsyncDurableClaim, AsyncDurableReader
from memx_sdk._async.feed.reader import AsyncReader
from memx_sdk._async.feed.subscription import AsyncSubscription
from memx_sdk._async.lock import AsyncLock
from memx_sdk._async.operations import AsyncOperations
from memx_sdk._async.transports.opening import open_transport
from memx_sdk.config import options_from, shown_url
from memx_sdk.core.retry import DEFAULT_MAX_RETRIES, RetryPolicy
from memx_sdk.core.subscription import EventName, FeedRequest
from memx_sdk.core.transport import AsyncTransport
from memx_sdk.errors import MemxError, MemxTimeout, error_from
from memx_sdk.models import Change, Entry, Reset
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_pattern

_ENTRY_MEMBERS = ("key", "value", "revision", "version", "ts", "writer", "expires_at", "cursor")


class AsyncClosable(Protocol):
    """What ends together with its context."""

    async def close(self) -> None:
        """Release everything; closing twice is harmless."""


class AsyncMemxContext(AsyncOperations):
    """Shared memory for agents: read, write and watch keys that others see at once.

    ::

        async with AsyncMemxContext("local_dev_key", "http://127.0.0.1:8000") as ctx:
            await ctx.set("team:goal", "find the bug")
            entry = await ctx.get("team:goal")
            entry.value, entry["value"]

    One context serves any number of concurrent callers. Everything it raises is a
    `memx_sdk.errors.MemxError`; what does not depend on the server (an impossible argument) is a
    ``ValueError``.

    Args:
        api_key: The credential; None takes ``MEMX_API_KEY`` from the environment.
        base_url: The server; None takes ``MEMX_BASE_URL``, or ``http://127.0.0.1:8000``.
        agent: The name that this writer calls itself, 1 to 64 printable characters.
        timeout: Seconds to wait for an answer, of each attempt.
        transport: ``http``, ``websocket``, the name of an installed one, or one ready made; None
            chooses by the scheme of ``base_url``.
        max_retries: How often a request is repeated that found no answer or no free server.

    Raises:
        ValueError: An argument cannot be.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        agent: str | None = None,
        timeout: float = 10.0,
        transport: str | AsyncTransport | None = None,
        max_retries: int = DEFAULT_MAX_RETRIES,
    ) -> None:
        self._options = options_from(api_key, base_url, agent=agent, timeout=timeout)
        opened = open_transport(transport, self._options)
        super().__init__(AsyncCaller(opened, RetryPolicy(max_retries=max_retries)))
        # Weak, since a program may make and drop subscriptions all its life. One that is dropped
        # needs no closing by the context; a subscription holds the context instead.
        self._attached: weakref.WeakSet[AsyncClosable] = weakref.WeakSet()
        # When this context gave back which lock: see `AsyncLock._give_way`. It belongs to the
        # context, since a program makes a new lock object for each ``with`` block.
        self._released_locks: dict[str, float] = {}
        # The method of the transport and not of the context: a reference to the context would keep
        # it from ever being collected.
        close_when_collected(self, opened.close)

    @property
    def api_key(self) -> str | None:
        """The credential."""
        return self._options.api_key

    @property
    def base_url(self) -> str:
        """The server."""
        return self._options.base_url

    @property
    def agent_name(self) -> str | None:
        """The name that this writer calls itself."""
        return self._options.agent

    def subscribe(
        self,
        pattern: str,
        callback: Callable[[Change], Any] | None = None,
        *,
        event: EventName = "value",
        since: str | None = None,
        snapshot: bool = False,
        conflate: bool = False,
        durable: str | None = None,
        auto_ack: bool = True,
        on_error: Callable[[MemxError], Any] | None = None,
    ) -> AsyncSubscription:
        """Watch a key, or all keys that match a pattern.

        ::

            async with ctx.subscribe("research:*", snapshot=True) as changes:
                async for change in changes:
                    print(change.key, change.value)

        The subscription outlives broken connections and restarted servers: it resumes where it was.
        Where the log no longer reaches back that far it says so by a `Reset`, and the present
        entries follow, each with ``.snapshot`` set; those a callback gets, but not the `Reset`.

        Args:
            pattern: A key or a pattern.
            callback: Is called with each change, in the background; what it raises is logged.
            event: ``value`` for entries, ``schema`` for schemas, ``all`` for both, ``presence`` for
                who comes and goes.
            since: The cursor behind which to begin; None begins now.
            snapshot: Begin with the present entries. Beside ``since`` it says nothing.
            conflate: Where you are behind, skip to the newest value of each key.
            durable: A name under which memX keeps how far you have got, for the next subscriber of
                that name; see `AsyncSubscription.ack`. At least once: what was not acknowledged
                comes again. A name has one holder: the newcomer takes it over, and the old one gets
                `TakenOverError`. ``since`` and ``snapshot`` say where a new name begins.
            auto_ack: Whether asking for the next item, or returning from the callback, acknowledges
                the one before; otherwise call `AsyncSubscription.ack`.
            on_error: Is called with what ended a subscription that has a callback.

        Raises:
            InvalidRequestError: The pattern cannot be.
        """
        try:
            # Here and not at the server: a subscription opens at its first use, in the background
            # where it has a callback, and the mistake is to be raised where it was made.
            validate_pattern(pattern)
        except ProtocolError as error:
            raise error_from(error.as_dict()) from None
        self._caller.check_open()
        request = FeedRequest(pattern, event, since, snapshot, conflate)
        reader, claim = self._open_reader(request, durable)
        subscription = AsyncSubscription(reader, owner=self, claim=claim, auto_ack=auto_ack)
        # Before the callback starts, which may close the context at once.
        self._attached.add(subscription)
        # Last, since the worker may deliver a change before this method returns.
        if callback is not None:
            subscription.call_back(callback, on_error)
        return subscription

    async def wait_for(
        self,
        key: str,
        predicate: Callable[[Any], Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Entry:
        """Return the entry of ``key`` as soon as it exists and its value satisfies ``predicate``.

        Every value that the key takes from the call on is looked at, not only the newest.

        Args:
            key: The key.
            predicate: Tells of a value whether it is the one; None takes any.
            timeout: Seconds to wait; None waits for ever.

        Raises:
            MemxTimeout: It did not happen in time.
        """
        # The timeout is for the whole call. A key that changes all the time without satisfying the
        # predicate must not begin it anew with each change.
        deadline = None if timeout is None else time.monotonic() + timeout
        # The snapshot answers whether the value is there already. A read followed by a subscription
        # would miss what is written between the two.
        async with self.subscribe(key, snapshot=True) as changes:
            while True:
                remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    change = await changes.next(remaining)
                except MemxTimeout:
                    raise MemxTimeout(
                        "timeout", f"{key!r} did not become what was waited for in {timeout} s"
                    ) from None
                entry = await self._entry_after(change)
                if entry is not None and (predicate is None or await call(predicate, entry.value)):
                    return entry

    def lock(self, key: str, ttl: float = 30.0, *, timeout: float | None = None) -> AsyncLock:
        """Make a lock; ``async with`` takes it.

        ::

            async with ctx.lock("locks:report", ttl=30) as lock:
                await publish(report, fencing_token=lock.token)

        Args:
            key: The lock's name: a key that nothing else uses.
            ttl: Seconds after which the lock of a holder that fell silent is free.
            timeout: Seconds to wait for it (then `MemxTimeout`); None waits for ever.
        """
        return AsyncLock(
            self,
            self.subscribe,
            key,
            ttl,
            timeout=timeout,
            holder=self.agent_name,
            released=self._released_locks,
        )

    def agent(self, name: str | None = None, *, concurrency: int = 4) -> AsyncAgent:
        """Make an agent: a set of handlers that run when keys change.

        Args:
            name: Names its durable subscriptions; None takes the context's ``agent``.
            concurrency: How many changes each handler may work on at the same time.
        """
        # The context's method goes in, not the context: an agent only opens readers, and the two
        # modules must not import each other.
        agent = AsyncAgent(
            self._open_reader, name or self.agent_name or "agent", concurrency=concurrency
        )
        self._attached.add(agent)
        return agent

    async def aclose(self) -> None:
        """End every subscription and release every connection. Closing twice is harmless."""
        try:
            # Subscriptions and agents go first: they may still acknowledge what is done, which
            # takes the connections. One that was attached meanwhile is closed in the next round.
            while attached := list(self._attached):
                for each in attached:
                    self._attached.discard(each)
                    await each.close()
        finally:
            await self._caller.close()

    async def __aenter__(self) -> Self:
        self._caller.check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        agent = f", agent={self.agent_name!r}" if self.agent_name else ""
        return f"{type(self).__name__}(base_url={shown_url(self.base_url)!r}{agent})"

    def _open_reader(
        self, request: FeedRequest, durable: str | None
    ) -> tuple[AsyncReader, AsyncDurableClaim | None]:
        if durable is None:
            return AsyncReader(self._caller.transport, request), None
        # The claim makes calls of its own, over the caller, so that they are repeated as all others
        # are. The stream of the reader carries events only.
        claim = AsyncDurableClaim(self._caller.run, durable)
        return AsyncDurableReader(self._caller.transport, request, claim), claim

    async def _entry_after(self, change: Change | Reset) -> Entry | None:
        # A reset, a deletion and an expiry bring no value to ask the predicate about. After a reset
        # the present entry follows in a snapshot.
        if not isinstance(change, Change) or change.action != "set":
            return None
        if "value" not in change:  # written with history=False
            # The log did not keep the value, so the present one is read. It may be newer than the
            # change; a further change then comes for it too, and the predicate is asked again.
            return await self.get(change.key)
        return Entry({name: change[name] for name in _ENTRY_MEMBERS if name in change})
