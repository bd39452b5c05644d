"""Named records: what adapters rely on, on both stores and by both halves of the SDK."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from memx_sdk import ConflictError
from memx_sdk.collections import BytesForm, ModelForm
from tests.collections.conftest import ROOT, Collections

NAMES = [
    "",
    "~",
    "a",
    "a:b",
    "a/b",
    "a b",
    "*",
    "[x]",
    "^a",
    "%41",
    "ä" * 300,
    "x" * 600,
    "x" * 601,
]
HUGE = "no compressing of this: " + secrets.token_hex(2_000_000)


@pytest.mark.parametrize("plain", [False, True])
async def test_keeps_records_under_any_name(made: Collections, plain: bool) -> None:
    records = made.records("any name * ?", plain=plain)
    for number, name in enumerate(NAMES):
        await records.put(name, {"number": number})
    for number, name in enumerate(NAMES):
        record = await records.get(name)
        assert (record.name, record.value) == (name, {"number": number})
    assert sorted(await records.names()) == sorted(NAMES)
    assert {each.name: each.value["number"] for each in await records.list()} == {
        name: number for number, name in enumerate(NAMES)
    }
    assert sorted(await records.names(prefix="x" * 590)) == ["x" * 600, "x" * 601]
    assert await records.names(prefix="a/") == ["a/b"]
    assert await records.delete_many(NAMES) == len(NAMES)
    assert await records.names() == []


async def test_no_collection_reads_or_clears_another(made: Collections) -> None:
    names = [(), ("a",), ("a", "b"), ("a:b",), ("a/b",), ("a:^head",), ("ä" * 300,), ("x" * 600,)]
    for name in names:
        await made.records(*name).put("who", list(name))
    for name in names:
        (record,) = await made.records(*name).list()
        assert record.value == list(name)
    await made.records("a").clear()
    for name in names:
        left = [record.value for record in await made.records(*name).list()]
        assert left == ([] if name == ("a",) else [list(name)])


async def test_one_writer_per_revision_wins(made: Collections) -> None:
    records = made.records("conditions")
    first = await records.put("a", 1, if_revision=0)
    with pytest.raises(ConflictError) as lost:
        await records.put("a", 2, if_revision=0)
    assert lost.value.entry is not None
    assert lost.value.entry.revision == first
    second = await records.put("a", 2, if_revision=first)
    with pytest.raises(ConflictError):
        await records.put("a", 3, if_revision=first)
    with pytest.raises(ConflictError):
        await records.delete("a", if_revision=first)
    record = await records.get("a")
    assert (record.value, record.revision, record.version) == (2, second, 2)
    assert await records.delete("a", if_revision=second)
    assert not await records.delete("a")
    with pytest.raises(ConflictError):
        await records.put_many({"b": 1, "a": 2}, if_revisions={"a": second})
    assert await records.get_many(["a", "b"]) == {"a": None, "b": None}


async def test_two_writers_at_once_lose_nothing(made: Collections) -> None:
    one, other = made.records("shared"), made.records("shared")

    async def write(records: Any, who: str) -> None:
        for number in range(8):
            await records.put(f"{who}{number}", who)
            await records.put("both", f"{who}{number}")

    await asyncio.gather(write(one, "one"), write(other, "other"))
    assert len(await one.names()) == 17
    assert (await one.get("both")).value in ("one7", "other7")


@pytest.mark.parametrize("plain", [False, True])
async def test_huge_values_are_whole_or_not_there(made: Collections, plain: bool) -> None:
    records = made.records("huge", plain=plain)
    await records.put("a", HUGE)
    assert (await records.get("a")).value == HUGE
    assert [record.value for record in await records.list()] == [HUGE]
    await records.put("a", {"text": HUGE[::-1]})
    await records.put("b", "small")
    found = await records.get_many(["a", "b"])
    assert found["a"].value == {"text": HUGE[::-1]}
    # What was replaced left nothing behind: the record and its parts, and no others.
    keys = [key for key in await made.ctx.keys(f"{ROOT}:huge:*") if ":^:" in key]
    assert len(keys) == 4
    await records.put("a", "small")
    assert [key for key in await made.ctx.keys(f"{ROOT}:huge:*") if ":^:" in key] == []
    await records.put("a", HUGE)
    assert await records.delete("a")
    assert [key for key in await made.ctx.keys(f"{ROOT}:huge:*") if ":^:" in key] == []


async def test_a_reader_never_sees_half_of_a_huge_value(made: Collections) -> None:
    records, reader = made.records("torn"), made.records("torn")
    values = [letter * 2_000_000 + secrets.token_hex(500_000) for letter in "ab"]
    await records.put("x", values[0])
    done = asyncio.Event()

    async def write() -> None:
        for number in range(6):
            await records.put("x", values[(number + 1) % 2])
        done.set()

    writing = asyncio.create_task(write())
    while not done.is_set():
        record = await reader.get("x")
        assert record is not None
        assert record.value in values
    await writing


async def test_many_long_values_are_more_than_one_response(made: Collections) -> None:
    records = made.records("long")
    values = {f"n{number}": f"{number}/" + "x" * 800_000 for number in range(12)}
    await records.put_many(values)
    await records.put_many({**values, "small": 1})
    found = await records.get_many(values)
    assert {name: record.value for name, record in found.items()} == values
    assert len(await records.list()) == 13
    assert await records.delete_many(values) == 12


async def test_foreign_values_count_as_not_there_and_are_logged_once(
    made: Collections, caplog: pytest.LogCaptureFixture
) -> None:
    records = made.records("foreign", form=BytesForm())
    await records.put_many({"mine": b"1", "theirs": b"2"})
    key = (await records.get("theirs")).key
    strays: list[Any] = [5, None, {"a": 1}, "no base64!", {"memx:record": 5}]
    strays += [{"memx:record": {"id": "x", "count": 3, "bytes": 10, "packing": "plain"}}]
    strays += [
        {"memx:record": {"count": 10**9, "bytes": 1}},
        {"memx:record": {"value": "MQ==", "name": "x"}},
    ]
    for stray in strays:
        await made.ctx.set(key, stray)
        await made.ctx.set(f"{key}%zz", "MQ==")
        assert await records.get_many(["mine", "theirs"]) == {
            "mine": await records.get("mine"),
            "theirs": None,
        }
        assert [record.value for record in await records.list()] == [b"1"]
    assert caplog.text.count(f"{key!r} holds no record") == 1
    await records.put("theirs", b"3")
    assert (await records.get("theirs")).value == b"3"
    head = f"{ROOT}:foreign:^head"
    await made.ctx.set(head, {"memx": "log", "generation": "*"})
    assert await made.records("foreign").list() == []
    await records.put("again", b"4")
    assert await records.names() == ["again"]


async def test_clear_is_at_once_for_every_reader(made: Collections) -> None:
    records, other = made.records("cleared"), made.records("cleared")
    await records.put_many({f"n{number}": number for number in range(200)})
    assert len(await other.names()) == 200
    await records.clear()
    assert await other.get("n1") is None
    assert await other.list() == []
    assert await made.ctx.keys(f"{ROOT}:*") == []
    await other.put("n1", "new")
    assert [record.value for record in await records.list()] == ["new"]


async def test_a_crash_in_mid_delete_is_finished_by_the_next_one(made: Collections) -> None:
    records, other, third = (made.records("crashed") for _ in range(3))
    await records.put_many({f"n{number}": number for number in range(150)})
    assert await third.get("n1") is not None
    await _clear_and_crash(records)
    # For everybody it is empty, and its name can be used again at once.
    assert await other.list() == []
    assert len(await made.ctx.keys(f"{ROOT}:crashed:*")) > 100
    # A writer that has not heard of it brings no old generation back, in which its record would be swept.
    await third.put("late", 1)
    await made.records("another one").put("a", 1)
    assert [record.value for record in await other.list()] == [1]
    keys = await made.ctx.keys(f"{ROOT}:*")
    assert len([key for key in keys if "crashed" in key or "sweep" in key]) == 2


async def _clear_and_crash(records: Any) -> None:
    """Clear, and end before anything is swept."""
    target = getattr(records, "target", records)

    class CrashError(Exception):
        pass

    def crash(*_: Any) -> Any:
        raise CrashError

    target._head.sweep = crash
    with pytest.raises(CrashError):
        await records.clear()


async def test_a_foreign_note_makes_nobody_sweep_what_is_not_swept(made: Collections) -> None:
    await made.ctx.set("team:goal", "keep me")
    for pattern in ("*", "team:*", f"{ROOT}:*", None, f"{ROOT}:*:^{'0' * 16}:*"):
        await made.ctx.set(f"{ROOT}:^sweep:0", {"pattern": pattern})
        assert await made.records("x").sweep() == 0
    assert (await made.ctx.get("team:goal")).value == "keep me"


async def test_lists_by_filter_order_and_limit(made: Collections) -> None:
    records = made.records("listed")
    for number in (3, 1, 2, 5, 4):
        await records.put(f"n{number}", {"score": number, "at": f"2026-11-0{number}T00:00:00Z"})
    assert [each.name for each in await records.list(limit=2)] == ["n1", "n2"]
    assert [each.name for each in await records.list(order="newest", limit=2)] == ["n4", "n5"]
    assert [each.name for each in await records.list(order="oldest", limit=2)] == ["n3", "n1"]
    above = await records.list(filter={"score": {"$gt": 2, "$lte": 4}})
    assert [each.name for each in above] == ["n3", "n4"]
    late = await records.list(filter={"at": {"$gte": "2026-11-04"}})
    assert [each.name for each in late] == ["n4", "n5"]
    assert await records.list(filter={"score": {"$gt": 10**400}}) == []
    assert [each.name for each in await records.list(filter={"at": {"$exists": False}})] == []
    # A long name and a value in parts are found too, though the server cannot look into them.
    await records.put("x" * 600, {"score": 3})
    await records.put("large", {"score": 3, "text": HUGE})
    threes = await records.list(filter={"score": 3}, order="newest")
    assert [each.name for each in threes] == ["large", "x" * 600, "n3"]
    assert len(await records.list(filter={"score": {"$lt": 10**400}}, limit=6)) == 6
    await records.delete_many(["large", "x" * 600])
    with pytest.raises(ValueError, match="score"):
        await records.list(filter={"$gt": 5})
    with pytest.raises(ValueError, match=r"\$regex"):
        await records.list(filter={"score": {"$regex": "x"}})
    with pytest.raises(ValueError, match="newest"):
        await records.list(order="random")
    page = await records.page(limit=2)
    assert [each.name for each in page.records] == ["n1", "n2"]
    assert [each.name for each in (await records.page(cursor=page.next)).records] == [
        "n3",
        "n4",
        "n5",
    ]


async def test_a_whole_collection_expires_and_lives_on_with_use(made: Collections) -> None:
    records = made.records("expiring", ttl=60, refresh=True)
    await records.put("a", 1)
    await records.put("b", 2)
    head = await made.ctx.get(f"{ROOT}:expiring:^head")
    record = await records.get("a")
    assert head.expires_at is not None
    assert record.expires_at > head.expires_at + 50
    await made.ctx.touch(head.key, 5)
    await records.get("a")
    assert (await made.ctx.get(head.key)).expires_at > head.expires_at - 5
    await made.ctx.touch(head.key, 0.2)
    await _until_gone(made, head.key)
    assert await records.list() == []


async def test_records_are_renewed_before_their_collection_outlives_them(made: Collections) -> None:
    records = made.records("renewed", ttl=60, refresh=True)
    await records.put("a", 1)
    head = await made.ctx.get(f"{ROOT}:renewed:^head")
    # As if all had been written more than a TTL ago.
    value = {**head.value, "renewed": head.ts - 100}
    await made.ctx.set(head.key, value, ttl=60)
    key = (await made.records("renewed").get("a")).key
    await made.ctx.touch(key, 20)
    await made.records("renewed", ttl=60, refresh=True).get("a")
    assert (await made.ctx.get(key)).expires_at > head.ts + 100


async def _until_gone(made: Collections, key: str) -> None:
    async with asyncio.timeout(10):
        while await made.ctx.get(key) is not None:  # noqa: ASYNC110 - the server's clock gives no event
            await asyncio.sleep(0.01)


async def test_an_api_key_for_one_collection_alone_can_clear_it(made: Collections) -> None:
    scope = (f"{ROOT}:mine:*",)
    async with made.context(read=scope, write=scope) as ctx:
        records = made.records("mine", ctx=ctx)
        await records.put("a", 1)
        await records.clear()
        assert await records.get("a") is None
    assert await made.ctx.keys(f"{ROOT}:*") == []


async def test_restores_the_types_that_it_is_given(made: Collections) -> None:
    records = made.records("typed", form=ModelForm(list[int]))
    await records.put("a", [1, 2])
    assert (await records.get("a")).value == [1, 2]
    await made.ctx.set((await records.get("a")).key, ["x"])
    assert await records.get("a") is None


@pytest.mark.parametrize("plain", [False, True])
async def test_the_log_never_tells_of_unlogged_records(made: Collections, plain: bool) -> None:
    records = made.records("quiet", logged=False, plain=plain)
    log = made.log("quiet log", logged=False)
    for value in ("one", "two", HUGE, "three"):
        await records.put("a", value)
        await log.append([value])
    await log.replace("#1", 1)
    await log.pop()
    for collection in (records, log):
        await collection.clear()
    assert (await made.ctx.changes("*")).changes == []
    # One that is there and logged stays so, and can be written.
    await made.records("loud", plain=plain).put("a", 1)
    quiet = made.records("loud", plain=plain, logged=False)
    await quiet.put("a", 2)
    assert (await quiet.get("a")).value == 2
