"""Ordered lists of items: what adapters rely on, on both stores and by both halves of the SDK."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from memx_sdk import ConflictError
from tests.collections.conftest import ROOT, Collections


async def values(log: Any, *args: Any, **options: Any) -> list[Any]:
    return [item.value for item in (await log.read(*args, **options)).items]


async def test_reads_what_was_appended_in_its_order(made: Collections) -> None:
    log = made.log("chat")
    assert (await log.read()).items == []
    await log.append(["a", "b"])
    await log.append(["c"])
    await log.append(list("defgh"))
    assert await values(log) == list("abcdefgh")
    assert await values(log, 3) == list("fgh")
    assert await values(log, 3, oldest=True) == list("abc")
    page = await log.read(2, oldest=True)
    assert page.more
    rest = await log.read(after=page.items[-1].position)
    assert [item.value for item in rest.items] == list("cdefgh")
    assert not rest.more
    assert await values(made.log("chat:2026")) == []
    assert (await log.append([])).added == 0


async def test_two_writers_at_once_lose_and_mix_nothing(made: Collections) -> None:
    async def write(who: str) -> None:
        log = made.log("shared")
        for number in range(8):
            await log.append([f"{who}{number}", "reply"])

    await asyncio.gather(*(write(who) for who in "abcd"))
    found = await values(made.log("shared"))
    assert len(found) == 64
    assert found[1::2] == ["reply"] * 32
    for who in "abcd":
        assert [each for each in found if each.startswith(who)] == [f"{who}{n}" for n in range(8)]


async def test_an_item_of_a_key_is_there_once(made: Collections) -> None:
    log = made.log("keyed")
    keys = ["ä" * 600, "x" * 600, "b:c", "#1"]
    first = await log.append([1, 2, 3, 4], keys=keys)
    assert (first.added, first.keys) == (4, keys)
    again = await log.append([9, 9, 5, 6, 7], keys=[*keys[:2], "new", "new", "newer"])
    assert again.added == 2
    assert await values(log) == [1, 2, 3, 4, 5, 7]
    assert (await log.append([1], keys=keys[:1])).added == 0
    assert (await log.get(keys[1])).value == 2
    assert (await log.get("#1")).value == 4
    assert await log.get("nobody") is None
    assert await log.remove(keys[1])
    assert not await log.remove(keys[1])
    assert await log.replace("b:c", "other")
    assert not await log.replace("nobody", 1)
    assert await values(log) == [1, "other", 4, 5, 7]
    await log.append([2], keys=[keys[1]])
    assert (await values(log))[-1] == 2
    many = [str(number) for number in range(130)]
    await asyncio.gather(*(made.log("many").append(many, keys=many) for _ in range(3)))
    assert await values(made.log("many")) == many
    with pytest.raises(ValueError, match="2 items and 1 keys"):
        await log.append([1, 2], keys=["a"])


async def test_each_item_is_popped_once(made: Collections) -> None:
    log = made.log("popped")
    await log.append(list(range(10)))
    popped = await asyncio.gather(*(made.log("popped").pop() for _ in range(6)))
    assert sorted(item.value for item in popped) == [4, 5, 6, 7, 8, 9]
    assert await values(log) == [0, 1, 2, 3]
    await log.append(["new"])
    assert await values(log, 2) == [3, "new"]
    for _ in range(5):
        assert await log.pop() is not None
    assert await log.pop() is None
    assert await values(log) == []


async def test_an_append_is_conditional_where_asked(made: Collections) -> None:
    log = made.log("conditional")
    first = await log.append(["a"], if_revision=0)
    assert await log.revision() == first.revision == (await log.read()).revision
    for change in (log.append, log.rewrite):
        with pytest.raises(ConflictError):
            await change(["b"], if_revision=0)
    with pytest.raises(ConflictError):
        await log.clear(if_revision=first.revision - 1)
    await log.append(["b"], if_revision=first.revision)
    assert await values(log) == ["a", "b"]


async def test_an_append_of_any_size_is_whole_or_not_there(made: Collections) -> None:
    log, reader = made.log("large"), made.log("large")
    image = secrets.token_hex(1_500_000)
    await log.append(["look:", image, "nice"])
    assert await values(reader) == ["look:", image, "nice"]
    many = [f"{number}/" + "x" * 1000 for number in range(500)]
    done = asyncio.Event()

    async def write() -> None:
        await log.append(many)
        await log.append([image, image, image, image])
        done.set()

    writing = asyncio.create_task(write())
    while not done.is_set():
        assert len((await reader.read()).items) in (3, 503, 507)
    await writing
    assert (await values(reader))[3:] == [*many, image, image, image, image]
    await log.remove((await reader.read()).items[1].key)
    assert len(await values(reader, 10_000)) == 506
    assert await values(reader, 1) == [image]
    await log.clear()
    assert await made.ctx.keys(f"{ROOT}:*") == []


async def test_rewriting_replaces_everything_at_once(made: Collections) -> None:
    log, reader = made.log("rewritten"), made.log("rewritten")
    await log.append(list(range(60)))
    assert len(await values(reader)) == 60
    await log.rewrite(["a", "b"], keys=["ka", "kb"])
    assert await values(reader) == ["a", "b"]
    assert (await reader.get("kb")).value == "b"
    assert await reader.get("#3") is None
    await log.append(["c"])
    assert await values(reader) == ["a", "b", "c"]
    assert len(await made.ctx.keys(f"{ROOT}:*")) == 6
    await log.rewrite([])
    assert await values(reader) == []


async def test_foreign_values_count_as_not_there_and_are_logged_once(
    made: Collections, caplog: pytest.LogCaptureFixture
) -> None:
    log = made.log("foreign")
    await log.append(["a", "b", "c"])
    (key,) = await made.ctx.keys(f"{ROOT}:foreign:*:0000000002")
    strays: list[Any] = ["text", None, 5, {"items": 5}, {"items": [5]}, {"items": []}]
    strays += [
        {"items": [{"value": 1, "key": 5}]},
        {"memx:record": {"id": "x", "count": 2, "bytes": 4}},
    ]
    for stray in strays:
        await made.ctx.set(key, stray)
        assert await values(log) == ["a", "c"]
        assert await values(log, 2) == ["a", "c"]
    assert caplog.text.count(f"{key!r} holds no item") == 1
    assert await log.get("#2") is None
    assert not await log.remove("#2")
    await log.append(["d"])
    assert await values(log) == ["a", "c", "d"]
    head = f"{ROOT}:foreign:^head"
    for stray in ("text", {"memx": "log"}, {"memx": "log", "generation": "*", "next": 5}):
        await made.ctx.set(head, stray)
        page = await made.log("foreign").read()
        assert (page.items, page.revision) == ([], 0)
    await log.append(["new"], if_revision=0)
    assert await values(log) == ["new"]
    value = (await made.ctx.get(head)).value
    for stray in ({"next": "5"}, {"first": -1, "next": 10**12}, {"first": 9, "next": 2}):
        await made.ctx.set(head, {**value, **stray})
        assert await values(made.log("foreign")) == []


async def test_clear_is_at_once_also_where_it_crashes(made: Collections) -> None:
    log, other = made.log("cleared"), made.log("cleared")
    await log.append(list(range(30)))
    assert len(await values(other)) == 30
    target = getattr(log, "target", log)

    class CrashError(Exception):
        pass

    def crash(*_: Any) -> Any:
        raise CrashError

    target._head.sweep = crash
    with pytest.raises(CrashError):
        await log.clear()
    assert await values(other) == []
    await other.append(["new"])
    assert await values(made.log("cleared")) == ["new"]
    # The first append of the new generation swept the old one: its head and its one item are left.
    assert len(await made.ctx.keys(f"{ROOT}:*")) == 2


async def test_a_whole_log_lives_for_its_ttl_after_the_last_append(made: Collections) -> None:
    log = made.log("expiring", ttl=60)
    await log.append(["a"])
    head = await made.ctx.get(f"{ROOT}:expiring:^head")
    (key,) = await made.ctx.keys(f"{ROOT}:expiring:*:0000000001")
    first = await made.ctx.get(key)
    assert first.expires_at > head.expires_at + 50
    await log.append(["b"])
    # As if the first item had been appended more than a TTL ago: the next append renews it with all others.
    value = (await made.ctx.get(head.key)).value
    await made.ctx.set(head.key, {**value, "renewed": head.ts - 100}, ttl=60)
    await made.ctx.touch(key, 20)
    await made.log("expiring", ttl=60).append(["c"])
    assert (await made.ctx.get(key)).expires_at > head.ts + 100
    assert await values(log) == ["a", "b", "c"]
