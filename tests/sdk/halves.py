"""One set of behaviours for both halves of the SDK: the synchronous one is awaited in threads."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Literal

from memx_sdk import AsyncMemxContext, memxContext

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
