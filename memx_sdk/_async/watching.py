"""The calls that wait for others: subscriptions, conditions, locks, agents."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

from memx_sdk._async._concurrency import call
from memx_sdk._async.agent import AsyncAgent
from memx_sdk._async.durable import AsyncDurableReader, AsyncHold
from memx_sdk._async.lock import AsyncLock
from memx_sdk._async.operations import AsyncOperations
from memx_sdk._async.reader import AsyncReader
from memx_sdk._async.subscription import AsyncSubscription
from memx_sdk.core import durable as durable_calls
from memx_sdk.core.subscription import FeedRequest
from memx_sdk.errors import MemxError, MemxTimeout, error_from
from memx_sdk.models import Change, Entry, Reset
from memx_sdk.protocol.errors import ProtocolError
from memx_sdk.protocol.keys import validate_pattern

EventName = Literal["value", "schema", "all", "presence"]

_ENTRY_MEMBERS = ("key", "value", "revision", "version", "ts", "writer", "expires_at", "cursor")


class AsyncWatching(AsyncOperations):
    """Is told of changes; never asks for them again and again."""

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
            validate_pattern(pattern)
        except ProtocolError as error:
            raise error_from(error.as_dict()) from None
        self._check_open()
        request = FeedRequest(pattern, event, since, snapshot, conflate)
        reader, hold = self._open_reader(request, durable)
        subscription = AsyncSubscription(reader, owner=self, hold=hold, auto_ack=auto_ack)
        self._attached.add(subscription)
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
        deadline = None if timeout is None else time.monotonic() + timeout
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
        return AsyncLock(self, key, ttl, timeout=timeout, released=self._released_locks)

    def agent(self, name: str | None = None, *, concurrency: int = 4) -> AsyncAgent:
        """Make an agent: a set of handlers that run when keys change.

        Args:
            name: Names its durable subscriptions; None takes the context's ``agent``.
            concurrency: How many changes each handler may work on at the same time.
        """
        agent = AsyncAgent(
            self._open_reader, name or self.agent_name or "agent", concurrency=concurrency
        )
        self._attached.add(agent)
        return agent

    async def durable_subscriptions(self) -> list[dict[str, Any]]:
        """List this API key's durable subscriptions: ``name``, ``cursor`` and who holds it."""
        return await self._run(durable_calls.listing())

    async def forget_durable(self, name: str) -> bool:
        """Drop a durable subscription's cursor, so that its next subscriber begins anew.

        Returns:
            Whether there was one.
        """
        answer = await self._run(durable_calls.forget(name))
        return bool(answer.get("forgotten"))

    @cached_property
    def _released_locks(self) -> dict[str, float]:
        return {}

    def _open_reader(
        self, request: FeedRequest, durable: str | None
    ) -> tuple[AsyncReader, AsyncHold | None]:
        if durable is None:
            return AsyncReader(self._transport, request), None
        hold = AsyncHold(self._run, durable)
        return AsyncDurableReader(self._transport, request, hold), hold

    async def _entry_after(self, change: Change | Reset) -> Entry | None:
        if not isinstance(change, Change) or change.action != "set":
            return None
        if "value" not in change:  # written with history=False
            return await self.get(change.key)
        return Entry({name: change[name] for name in _ENTRY_MEMBERS if name in change})
