"""Writes do what they say, in both halves, over every transport, against a real server."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from memx_sdk import (
    ConflictError,
    Entry,
    IdempotencyMismatchError,
    InvalidRequestError,
    MemxTimeout,
    TooLargeError,
)
from tests.sdk.halves import Link

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


async def test_all_keys_of_a_pattern_are_deleted_in_steps(ctx: Any, prefix: str) -> None:
    for start in range(0, 260, 100):
        puts = [
            {"op": "set", "key": f"{prefix}:{number}", "value": 1}
            for number in range(start, min(start + 100, 260))
        ]
        await ctx.txn(then=puts)
    await ctx.set(f"{prefix}s", "stays")

    page = await ctx.delete_page(f"{prefix}:*", limit=3)
    assert (page.deleted, isinstance(page.next, str)) == (3, True)
    page = await ctx.delete_page(f"{prefix}:*", limit=3, after=page.next)
    assert page.deleted == 3
    assert await ctx.delete_pattern(f"{prefix}:*", reason="swept") == 254
    assert await ctx.keys(f"{prefix}*") == [f"{prefix}s"]
    assert (await ctx.history(f"{prefix}:9"))[0].reason == "swept"
    assert await ctx.delete_pattern(f"{prefix}:*") == 0
    with pytest.raises(InvalidRequestError):
        await ctx.delete_pattern("[")


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


async def test_modify_keeps_the_expiry_unless_it_is_given(ctx: Any, prefix: str) -> None:
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


async def test_arguments_are_not_changed(ctx: Any, prefix: str) -> None:
    value = {"a": [1, {"b": None}]}
    before = copy.deepcopy(value)
    await ctx.set(prefix, value)
    await ctx.modify(prefix, lambda _: value)
    assert value == before


async def test_a_write_may_ask_for_more_than_memory_and_says_whether_it_got_it(
    ctx: Any, prefix: str
) -> None:
    # SQLite has every commit on the disk, and no replica.
    assert (await ctx.set(prefix, 1)).confirmed is None
    assert (await ctx.set(prefix, 1, durability="fsync")).confirmed is True
    assert (await ctx.set(prefix, 1, durability="memory")).confirmed is None
    results = [
        await ctx.set(prefix, {}, durability="replica"),
        await ctx.merge(prefix, {"a": 1}, durability="replica"),
        await ctx.patch(prefix, [], durability="replica"),
        await ctx.increment(f"{prefix}:n", durability="replica"),
        await ctx.append(f"{prefix}:l", [1], durability="replica"),
        await ctx.modify(f"{prefix}:n", lambda value: value + 1, durability="replica"),
        await ctx.txn(
            then=[{"op": "set", "key": prefix, "value": 2}], reason="why", durability="replica"
        ),
        await ctx.delete(prefix, durability="replica"),
    ]
    assert [result.confirmed for result in results] == [False] * len(results)
    schema = await ctx.set_schema(f"{prefix}:s", {"type": "integer"}, durability="replica")
    removed = await ctx.delete_schema(f"{prefix}:s", durability="replica")
    assert schema["confirmed"] is removed["confirmed"] is False
    with pytest.raises(InvalidRequestError, match="memory, replica, fsync; not 'disk'"):
        await ctx.set(prefix, 1, durability="disk")
