"""Reads, schemas and permissions, in both halves, over every transport, on a real server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from memx_sdk import (
    CompactedError,
    ConflictError,
    DivergedError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    SchemaViolationError,
)
from tests.sdk.halves import Beside, Link


class Finding(BaseModel):
    text: str
    price: Decimal


@dataclass
class Step:
    name: str
    cost: Decimal


@pytest.mark.parametrize(
    "name", ["a b", "a+b", "a/b", "%41", "a&b=c#d", "ä:日本", "..", ".", "a\\b", '"', "a;b=1", "'"]
)
async def test_keys_of_every_kind(ctx: Any, prefix: str, name: str) -> None:
    key = f"{prefix}{name}"
    await ctx.set(key, name)
    assert (await ctx.get(key)).value == name
    assert await ctx.keys(f"{prefix}*") == [key]
    assert (await ctx.mget([key]))[key].value == name
    assert [change.key for change in await ctx.history(key)] == [key]
    assert (await ctx.delete(key)).deleted is True
    assert await ctx.get(key) is None


@pytest.mark.parametrize("key", ["", "a*", "a?b", "[a]", "a\nb", "x" * 513])
async def test_keys_that_cannot_be(ctx: Any, key: str) -> None:
    for call in (ctx.get(key), ctx.set(key, 1), ctx.delete(key), ctx.merge(key, {})):
        with pytest.raises(InvalidRequestError) as caught:
            await call
        assert caught.value.code == "invalid_key"


async def test_listing(ctx: Any, prefix: str) -> None:
    names = [f"{prefix}:{number:03}" for number in range(150)]
    for name in names:
        await ctx.set(name, name)
    assert await ctx.keys(f"{prefix}:*") == names
    assert await ctx.keys(f"{prefix}:*", limit=7) == names[:7]
    entries = await ctx.entries(f"{prefix}:*")
    assert [(entry.key, entry.value) for entry in entries] == [(name, name) for name in names]
    assert [entry.key for entry in await ctx.entries(f"{prefix}:*", limit=120)] == names[:120]
    assert await ctx.keys(f"{prefix}:none*") == []
    assert await ctx.keys(f"{prefix}:?4[29]") == [names[42], names[49], names[142], names[149]]


async def test_lists_are_sorted_and_filtered_by_the_server(ctx: Any, prefix: str) -> None:
    for number in (3, 1, 2):
        value = {"n": number, "day": date(2026, 11, number)}
        await ctx.set(f"{prefix}:{number}", value)
    newest = [f"{prefix}:{number}" for number in (2, 1, 3)]
    pattern = f"{prefix}:*"

    assert await ctx.keys(pattern, order="newest") == newest
    assert await ctx.keys(pattern, order="newest", limit=1) == newest[:1]
    assert [each.key for each in await ctx.entries(pattern, order="newest")] == newest
    found = await ctx.entries(pattern, filter={"n": {"$gt": Decimal("1.5")}})
    assert [each.value["n"] for each in found] == [2, 3]
    assert await ctx.keys(pattern, filter={"day": {"$lt": date(2026, 11, 2)}}) == [f"{prefix}:1"]
    page = await ctx.key_page(pattern, limit=2, order="newest", filter={"n": {"$ne": 1}})
    assert page.items == [newest[0], newest[2]]
    page = await ctx.entry_page(pattern, limit=2, order="newest")
    rest = await ctx.entry_page(pattern, after=page.next, order="newest")
    assert [each.key for each in (*page.items, *rest.items)] == newest
    assert await ctx.keys(pattern, filter={}) == sorted(newest)

    with pytest.raises(InvalidRequestError, match=r"\$regex.*\$gte"):
        await ctx.keys(pattern, filter={"n": {"$regex": "1"}})
    with pytest.raises(InvalidRequestError, match="double"):
        await ctx.entries(pattern, filter={"n": {"$gt": 10**400}})
    with pytest.raises(InvalidRequestError):
        await ctx.keys(pattern, filter={"n": float("nan")})
    with pytest.raises(InvalidRequestError, match="newest"):
        await ctx.keys(pattern, order="oldest")


async def test_many_keys_of_one_moment(ctx: Any, prefix: str) -> None:
    await ctx.set(f"{prefix}:a", 1)
    found = await ctx.mget(f"{prefix}:{name}" for name in "ab")
    assert found[f"{prefix}:a"].value == 1
    assert found[f"{prefix}:b"] is None
    assert await ctx.mget([]) == {}


async def test_the_change_log(ctx: Any, prefix: str) -> None:
    start = await ctx.cursor()
    await ctx.set(f"{prefix}:a", 1, reason="why")
    await ctx.set(f"{prefix}:b", 2, history=False)
    await ctx.delete(f"{prefix}:a")
    page = await ctx.changes(f"{prefix}:*", since=start)
    assert [(change.action, change.key, change.value) for change in page.changes] == [
        ("set", f"{prefix}:a", 1),
        ("set", f"{prefix}:b", None),
        ("delete", f"{prefix}:a", None),
    ]
    assert page.changes[0].reason == "why"
    assert "value" not in page.changes[1]
    assert page.more is False
    assert (await ctx.changes(f"{prefix}:*", since=page.cursor)).changes == []
    limited = await ctx.changes(f"{prefix}:*", since=start, limit=2)
    assert (len(limited.changes), limited.more) == (2, True)
    with pytest.raises(InvalidRequestError):
        await ctx.changes(since="nonsense")
    with pytest.raises((DivergedError, CompactedError)) as caught:
        await ctx.changes(since="0123abcd-99")
    assert (await ctx.changes(since=caught.value.cursor)).changes == []


async def test_the_change_log_can_be_waited_for(
    ctx: Any, link: Link, prefix: str, beside: Beside
) -> None:
    start = await ctx.cursor()
    waiting = beside(ctx.changes(f"{prefix}:*", since=start, wait=20))
    async with link.context() as other:
        await other.set(f"{prefix}x", 1)
        await other.set(f"{prefix}:a", 1)
    page = await asyncio.wait_for(waiting, 10)
    assert [change.key for change in page.changes] == [f"{prefix}:a"]
    quiet = await ctx.changes(f"{prefix}:*", since=page.cursor, wait=0.1)
    assert quiet.changes == []


async def test_history_of_a_key(ctx: Any, prefix: str) -> None:
    first = await ctx.set(prefix, 1)
    await ctx.set(prefix, 2)
    await ctx.delete(prefix)
    changes = await ctx.history(prefix)
    assert [(change.action, change.value) for change in changes] == [
        ("delete", None),
        ("set", 2),
        ("set", 1),
    ]
    assert len(await ctx.history(prefix, 2)) == 2
    assert (await ctx.get(prefix, at=first.revision)).value == 1
    assert await ctx.get(prefix, at=first.revision - 1) is None


async def test_schemas(ctx: Any, prefix: str) -> None:
    pattern = f"{prefix}:*"
    schema = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
    assert (await ctx.set_schema(pattern, schema))["ok"] is True
    assert await ctx.get_schema(pattern) == {"key": pattern, "schema": schema}
    assert {"key": pattern, "schema": schema} in await ctx.schemas()
    with pytest.raises(SchemaViolationError) as caught:
        await ctx.set(f"{prefix}:a", {"n": "x"})
    assert caught.value.schema == pattern
    assert caught.value.errors[0]["path"] == "/n"
    validation = await ctx.validate(f"{prefix}:a", {})
    assert (validation.valid, validation.schema) == (False, pattern)
    assert (await ctx.validate(f"{prefix}:a", {"n": 1})).valid is True
    await ctx.delete_schema(pattern)
    for call in (ctx.get_schema(pattern), ctx.delete_schema(pattern)):
        with pytest.raises(NotFoundError):
            await call
    with pytest.raises(InvalidRequestError) as invalid:
        await ctx.set_schema(pattern, {"type": "nonsense"})
    assert invalid.value.code == "invalid_schema"


async def test_a_model_may_be_the_schema(ctx: Any, prefix: str) -> None:
    await ctx.set_schema(prefix, Finding)
    await ctx.set(prefix, Finding(text="x", price=Decimal(1)))
    with pytest.raises(SchemaViolationError):
        await ctx.set(prefix, {"text": 3})
    await ctx.set_schema(f"{prefix}:s", Step)
    await ctx.set(f"{prefix}:s", Step("a", Decimal("0.10")))


async def test_who_am_i(ctx: Any) -> None:
    me = await ctx.whoami()
    assert (me["principal"], me["agent"], me["writer"]) == ("tester", "one", "tester/one")
    assert me["scopes"]["read"] == ["*"]
    assert me["server"]["limits"]["value_bytes"] == 1024 * 1024


async def test_who_is_active(ctx: Any, prefix: str) -> None:
    await ctx.set(prefix, 1)
    assert "tester/one" in str(await ctx.presence())


async def test_what_a_key_may_not_do(link: Link, ctx: Any, prefix: str) -> None:
    await ctx.set(prefix, {"secret": 1})
    async with link.context("reader_key") as reader:
        assert (await reader.get(prefix)).value == {"secret": 1}
        with pytest.raises(ForbiddenError):
            await reader.set(prefix, 1)
    async with link.context("writer_key") as writer:
        with pytest.raises(ForbiddenError):
            await writer.get(prefix)
        with pytest.raises(ConflictError) as caught:
            await writer.set(prefix, 1, if_revision=0)
        assert caught.value.entry is None
        # A merge is computed from what its caller may not read.
        with pytest.raises(ForbiddenError, match="read"):
            await writer.merge(prefix, {"more": 2})
        await writer.set(prefix, {"more": 2})
