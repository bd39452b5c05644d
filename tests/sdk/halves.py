"""One set of behaviours for both halves of the SDK: the synchronous one is awaited in threads."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from memx_server.entry_points import open_embedded

from memx_sdk import AsyncMemxContext, memxContext
from memx_sdk.bridge import BridgedTransport
from memx_sdk.config import options_from

T = TypeVar("T")
Half = Literal["async", "sync"]
HALVES: tuple[Half, ...] = ("async", "sync")


class InThread:
    """Makes an object's methods awaitable by calling each in a thread of its own."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.target, {"aclose": "close"}.get(name, name))
        if not callable(member):
            return member

        @functools.wraps(member)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(member, *args, **kwargs)

        return call

    async def __aenter__(self) -> InThread:
        await asyncio.to_thread(self.target.__enter__)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await asyncio.to_thread(self.target.__exit__, *error)

    def __repr__(self) -> str:
        return repr(self.target)


def make_context(half: Half, *args: Any, **kwargs: Any) -> Any:
    """Make a context of the half asked for; it is used with ``await`` either way."""
    if half == "async":
        return AsyncMemxContext(*args, **kwargs)
    return InThread(memxContext(*args, **kwargs))


class Beside:
    """Runs calls beside a test, and leaves none behind: a test that fails would never await them.

    A call of the synchronous half goes on in its thread until its own timeout; what it raises then is dropped too.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def __call__(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    async def close(self) -> None:
        """Cancel what still runs, and take every result and error."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(frozen=True)
class Link:
    """One way to reach a server, by one half of the SDK."""

    half: Half
    transport: str
    base_url: str

    def context(self, api_key: str = "full_key", **options: Any) -> Any:
        """Make a context; it is used with ``await``, whichever half it is of."""
        choice: Any = self.transport
        if choice == "embedded":  # as its entry point does it, also where nothing is installed
            settings = options_from(api_key, self.base_url, agent=options.get("agent"))
            is_async = self.half == "async"
            make: Any = open_embedded if is_async else BridgedTransport
            choice = make(settings) if is_async else make(open_embedded, settings)
        return make_context(self.half, api_key, self.base_url, transport=choice, **options)
