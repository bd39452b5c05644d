"""Contexts of either half of the SDK on a real server of either store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from memx_sdk.collections import AsyncLog, AsyncRecords, Log, Records
from tests.sdk.halves import HALVES, Half, InThread, make_context
from tests.support.memx_server import Served

ROOT = "memx:test"


class Collections:
    """Makes contexts and collections of one half, all of one space.

    Attributes:
        ctx: A context.
    """

    def __init__(self, half: Half, served: Served) -> None:
        self._half = half
        self._served = served
        self._key = served.fresh_key()
        self.ctx = self.context()
        self._opened = [self.ctx]

    def context(self, **grant: Any) -> Any:
        """Make one more context, of an API key of its own if its scopes are given."""
        key = self._key
        if grant:
            space = self._served.keys.space_of(self._key)
            key = self._served.keys.add(space=space, **grant)
        return make_context(self._half, key, self._served.url, agent="tester")

    def records(self, *name: str, ctx: Any = None, **options: Any) -> Any:
        """Make a `Records`; its methods are awaited."""
        return self._make(AsyncRecords, Records, ctx, *name, **options)

    def log(self, *name: str, ctx: Any = None, **options: Any) -> Any:
        """Make a `Log`; its methods are awaited."""
        return self._make(AsyncLog, Log, ctx, *name, **options)

    def _make(self, of_async: Any, of_sync: Any, ctx: Any, *name: str, **options: Any) -> Any:
        root = options.pop("root", ROOT)
        ctx = ctx or self.ctx
        if self._half == "async":
            return of_async(ctx, root, *name, **options)
        return InThread(of_sync(ctx.target, root, *name, **options))


@pytest.fixture(params=HALVES)
async def made(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[Collections]:
    """What makes collections in a space of their own."""
    collections = Collections(request.param, served)
    async with collections.ctx:
        yield collections
