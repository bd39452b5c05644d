"""Every call does what it says, in both halves, over every transport, against a real server."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from memx_sdk import (
    CompactedError,
    ConflictError,
    DivergedError,
    Entry,
    ForbiddenError,
    IdempotencyMismatchError,
    InvalidRequestError,
    MemxTimeout,
    NotFoundError,
    SchemaViolationError,
    TooLargeError,
)
from tests.sdk.halves import Link


@pytest.fixture
async def ctx(link: Link) -> AsyncIterator[Any]:
    """A context of either half, over every transport, that may do everything."""
    async with link.context(agent="one") as opened:
        yield opened


VALUES = [
    None,
    True,
    0,
    -1,
    2**53 + 1,
    10**40,
    1.1,
    "",
    'ä 日本 \u2028 \U0001f600 \x00 \\ "',
    [],
    {},
    [[], {}, [None]],
    {"": {"a b": [1, 2.5, "x"]}},
]


class Finding(BaseModel):
    text: str
    price: Decimal


@dataclass
class Step:
    name: str
    cost: Decimal


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_values_come_back_as_they_were(ctx: Any, prefix: str, value: Any) -> None:
    written = await ctx.set(prefix, value)
    entry = await ctx.get(prefix)
    assert entry["value"] == value
    assert type(entry.value) is type(value)
    assert (written.ok, written.updated, written.version) == (True, True, 1)
    assert (entry.key, entry.revision, entry.ts) == (prefix, written.revision, written.ts)
    assert entry.writer == "tester/one"
    assert entry.expires_at is None


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


async def test_models_are_written_and_read(ctx: Any, prefix: str) -> None:
    finding = Finding(text="x", price=Decimal("1.10"))
    steps = [Step("a", Decimal("0.10")), Step("b", Decimal("12345678901234567890.01"))]
    await ctx.set(f"{prefix}:f", finding)
    await ctx.set(f"{prefix}:s", steps)
    assert (await ctx.get(f"{prefix}:f", model=Finding)).value == finding
    assert (await ctx.get(f"{prefix}:s", model=list[Step])).value == steps
    keys = [f"{prefix}:f", f"{prefix}:none"]
    found = await ctx.mget(keys, model=Finding)
    assert found[keys[0]].value == finding
    assert found[keys[1]] is None
    assert await ctx.get(keys[1], model=Finding) is None


async def test_decimals_are_numbers_on_the_wire(ctx: Any, prefix: str) -> None:
    exact = Decimal("0.1000000000000000000000000000000001")
    await ctx.set(prefix, {"n": exact})
    assert (await ctx.get(prefix)).value == {"n": 0.1}
    assert (await ctx.get(prefix, model=dict[str, Decimal])).value == {"n": exact}
    assert (await ctx.increment(f"{prefix}:n", Decimal("0.1"))).value == 0.1
    await ctx.increment(f"{prefix}:n", Decimal("0.2"))
    assert (await ctx.get(f"{prefix}:n", model=Decimal)).value == Decimal("0.3")


async def test_conditional_writes(ctx: Any, prefix: str) -> None:
    first = await ctx.set(prefix, "a", if_revision=0)
    with pytest.raises(ConflictError) as caught:
        await ctx.set(prefix, "b", if_revision=0)
    assert caught.value.entry is not None
    assert (caught.value.entry.value, caught.value.entry.revision) == ("a", first.revision)
    second = await ctx.set(prefix, "b", if_revision=first.revision)
    assert second.version == 2
    for call in (
        ctx.delete(prefix, if_revision=first.revision),
        ctx.merge(prefix, {}, if_revision=first.revision),
        ctx.touch(prefix, 5, if_revision=first.revision),
    ):
        with pytest.raises(ConflictError):
            await call
    assert (await ctx.delete(prefix, if_revision=second.revision)).deleted is True
    with pytest.raises(ConflictError) as caught:
        await ctx.set(prefix, "c", if_revision=second.revision)
    assert caught.value.entry is None


async def test_updates_in_place(ctx: Any, prefix: str) -> None:
    merged = await ctx.merge(prefix, {"a": 1, "b": {"c": 2}}, reason="why")
    assert isinstance(merged, Entry)
    assert (merged.value, merged.version) == ({"a": 1, "b": {"c": 2}}, 1)
    assert (await ctx.merge(prefix, {"a": None})).value == {"b": {"c": 2}}
    operations = [{"op": "replace", "path": "/b/c", "value": None}]
    assert (await ctx.patch(prefix, operations)).value == {"b": {"c": None}}
    assert (await ctx.history(prefix))[-1].reason == "why"

    count, ideas = f"{prefix}:n", f"{prefix}:l"
    assert (await ctx.increment(count)).value == 1
    assert (await ctx.increment(count, 10**30)).value == 10**30 + 1
    assert (await ctx.increment(count, -(10**30), minimum=0, maximum=10)).value == 1
    with pytest.raises(InvalidRequestError) as caught:
        await ctx.increment(count, 100, maximum=10)
    assert caught.value.code == "invalid_update"
    assert (await ctx.get(count)).value == 1
    assert (await ctx.append(ideas, iter(["a", "b", "c"]), cap=2)).value == ["b", "c"]
    assert (await ctx.append(ideas, ("d",))).value == ["b", "c", "d"]


async def test_expiry(ctx: Any, prefix: str) -> None:
    written = await ctx.set(prefix, 1, ttl=1000)
    assert written.expires_at == pytest.approx(written.ts + 1000, abs=1)
    kept = await ctx.merge(f"{prefix}", {"a": 1})
    assert kept.expires_at == written.expires_at
    touched = await ctx.touch(prefix, 5000)
    assert touched.expires_at == pytest.approx(written.ts + 5000, abs=5)
    assert touched.revision == kept.revision
    assert (await ctx.touch(prefix, None)).expires_at is None
    await ctx.touch(prefix, 1000)
    await ctx.set(prefix, 2)
    assert (await ctx.get(prefix)).expires_at is None


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


async def test_many_keys_of_one_moment(ctx: Any, prefix: str) -> None:
    await ctx.set(f"{prefix}:a", 1)
    found = await ctx.mget(f"{prefix}:{name}" for name in "ab")
    assert found[f"{prefix}:a"].value == 1
    assert found[f"{prefix}:b"] is None
    assert await ctx.mget([]) == {}


async def test_transactions(ctx: Any, prefix: str) -> None:
    a, b = f"{prefix}:a", f"{prefix}:b"
    then = [
        {"op": "set", "key": a, "value": {"n": Decimal("0.10")}},
        {"op": "increment", "key": b, "increment": 2},
        {"op": "get", "key": f"{prefix}:c"},
    ]
    otherwise = [{"op": "get", "key": a}]
    first = await ctx.txn(if_=[{"key": a, "exists": False}], then=then, else_=otherwise, reason="r")
    assert (first.branch, first.succeeded, len(first.results)) == ("then", True, 3)
    assert (await ctx.get(a)).revision == (await ctx.get(b)).revision == first.revision
    second = await ctx.txn(if_=[{"key": a, "revision": 0}], then=then, else_=otherwise)
    assert (second.branch, second.succeeded) == ("else", False)
    assert (await ctx.history(b))[0].reason == "r"


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


async def test_the_change_log_can_be_waited_for(ctx: Any, link: Link, prefix: str) -> None:
    start = await ctx.cursor()
    waiting = asyncio.create_task(ctx.changes(f"{prefix}:*", since=start, wait=20))
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
    verdict = await ctx.validate(f"{prefix}:a", {})
    assert (verdict.valid, verdict.schema) == (False, pattern)
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
    told = await ctx.whoami()
    assert (told["principal"], told["agent"], told["writer"]) == ("tester", "one", "tester/one")
    assert told["scopes"]["read"] == ["*"]
    assert told["server"]["limits"]["value_bytes"] == 1024 * 1024


async def test_who_is_active(ctx: Any, prefix: str) -> None:
    await ctx.set(prefix, 1)
    assert "tester/one" in str(await ctx.presence())


async def test_limits_are_named(ctx: Any, prefix: str) -> None:
    with pytest.raises(TooLargeError, match="limit"):
        await ctx.set(prefix, "x" * (1024 * 1024))


async def test_modify_loses_nothing(ctx: Any, prefix: str) -> None:
    def note(value: list[int]) -> list[int]:
        value.append(len(value))
        return value

    default: list[int] = []
    await asyncio.gather(*(ctx.modify(prefix, note, default=default) for _ in range(10)))
    entry = await ctx.get(prefix)
    assert entry.value == list(range(10))
    assert entry.version == 10
    assert default == []


async def test_modify_keeps_the_expiry_unless_told(ctx: Any, prefix: str) -> None:
    written = await ctx.set(prefix, 1, ttl=1000)
    kept = await ctx.modify(prefix, lambda number: number + 1, reason="up")
    assert (kept.value, kept.expires_at) == (2, written.expires_at)
    moved = await ctx.modify(prefix, lambda number: number + 1, ttl=5000)
    assert moved.expires_at > written.expires_at
    assert (await ctx.history(prefix))[1].reason == "up"


async def test_modify_reads_models_and_hands_exceptions_on(ctx: Any, prefix: str) -> None:
    await ctx.set(prefix, Step("a", Decimal("0.10")))

    def dearer(step: Step) -> Step:
        return Step(step.name, step.cost + Decimal("0.20"))

    await ctx.modify(prefix, dearer, model=Step)
    assert (await ctx.get(prefix, model=Step)).value == Step("a", Decimal("0.30"))
    with pytest.raises(ZeroDivisionError):
        await ctx.modify(prefix, lambda _: 1 / 0)


async def test_modify_gives_up_in_time(ctx: Any, link: Link, prefix: str) -> None:
    async with replace(link, half="sync").context() as rival:

        def slow(value: int) -> int:
            rival.target.increment(prefix)
            return value + 1

        await ctx.set(prefix, 0)
        with pytest.raises(MemxTimeout, match=prefix):
            await ctx.modify(prefix, slow, timeout=0.2)


async def test_modify_takes_a_coroutine_function(link: Link, prefix: str) -> None:
    async def slow(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    async with replace(link, half="async").context() as ctx:
        assert (await ctx.modify(prefix, slow, default=41)).value == 42


async def test_the_same_write_of_several_programs_is_applied_once(
    ctx: Any, link: Link, prefix: str
) -> None:
    first = await ctx.set(prefix, 1, idempotency_key=prefix)
    async with link.context(agent="two") as other:
        assert await other.set(prefix, 1, idempotency_key=prefix) == first
        with pytest.raises(IdempotencyMismatchError):
            await other.set(prefix, 2, idempotency_key=prefix)
    assert (await ctx.get(prefix)).version == 1


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
        merged = await writer.merge(prefix, {"more": 2})
        assert merged.value is None
        assert merged.version == 2


async def test_arguments_are_not_changed(ctx: Any, prefix: str) -> None:
    value = {"a": [1, {"b": None}]}
    before = copy.deepcopy(value)
    await ctx.set(prefix, value)
    await ctx.modify(prefix, lambda _: value)
    assert value == before
