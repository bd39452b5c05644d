"""User code for a type checker, which `test_typing.py` runs over this file."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict, assert_type

from pydantic import BaseModel

from memx_sdk import (
    AsyncMemxContext,
    AsyncSubscription,
    Change,
    ConflictError,
    Entry,
    Reset,
    Subscription,
    TxnResult,
    WriteResult,
    memxContext,
)
from memx_sdk.transport import AsyncTransport, Request, Response, TransportOptions


class Finding(BaseModel):
    text: str


@dataclass
class Plan:
    steps: list[str]


class Note(TypedDict):
    title: str


async def coroutine_code(ctx: AsyncMemxContext) -> None:
    assert_type(await ctx.get("k"), Entry[Any] | None)
    assert_type(await ctx.get("k", model=Finding), Entry[Finding] | None)
    assert_type(await ctx.get("k", model=Plan), Entry[Plan] | None)
    assert_type(await ctx.get("k", model=Note), Entry[Note] | None)
    assert_type(await ctx.get("k", model=list[Decimal]), Entry[list[Decimal]] | None)
    if found := await ctx.get("k", model=Finding):
        assert_type(found.value, Finding)
        assert_type(found.revision, int)
        assert_type(found.expires_at, float | None)
    assert_type(await ctx.mget(["a"], model=Plan), dict[str, Entry[Plan] | None])
    assert_type(await ctx.set("k", Finding(text="t"), if_revision=0), WriteResult)
    assert_type(await ctx.increment("n", Decimal("0.1")), Entry[Any])
    assert_type(await ctx.txn(then=[{"op": "get", "key": "k"}]), TxnResult)
    assert_type(await ctx.history("k"), list[Change])
    assert_type(ctx.subscribe("k*"), AsyncSubscription)
    async for item in ctx.subscribe("k*"):
        assert_type(item, Change | Reset)
    async with ctx.lock("l") as lock:
        assert_type(lock.token, int)
    async with AsyncMemxContext("key", agent="a") as opened:
        assert_type(opened, AsyncMemxContext)


def plain_code(ctx: memxContext) -> None:
    assert_type(ctx.get("k"), Entry[Any] | None)
    assert_type(ctx.get("k", model=Plan), Entry[Plan] | None)
    assert_type(ctx.keys("a:*"), list[str])
    assert_type(ctx.modify("n", lambda n: n + 1, default=0), Entry[Any])
    assert_type(ctx.wait_for("k", lambda value: value > 3, timeout=1), Entry[Any])
    assert_type(ctx.subscribe("k*", print), Subscription)
    for item in ctx.subscribe("k*"):
        assert_type(item, Change | Reset)
    agent = ctx.agent("critic")

    @agent.on("research:*")
    def review(change: Change) -> str:
        return change.key

    assert_type(review(Change()), str)
    try:
        ctx.set("k", 1, if_revision=3)
    except ConflictError as conflict:
        assert_type(conflict.entry, Entry[Any] | None)
    with memxContext("key", "http://127.0.0.1:8000") as opened:
        assert_type(opened, memxContext)


def remember(entry: Entry, change: Change) -> tuple[str, Any]:
    """A bare ``Entry`` needs no parameter, even in strict mode."""
    return entry.key, change.value


class MyTransport:
    async def request(self, request: Request) -> Response:
        return Response(200, request.body())

    async def connect(self, path: str, query: object) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        return


def my_transport(options: TransportOptions) -> AsyncTransport:
    return MyTransport()
