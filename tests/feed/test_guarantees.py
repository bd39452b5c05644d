"""etcd's watch properties, names kept: Ordered, Unique, Atomic, Reliable, Resumable, Filtered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from memx_server.domain.feed.feed import Feed
from memx_server.storage.base import Put, PutSchema, Store

from memx_sdk.protocol.cursors import decode_cursor, encode_cursor
from tests.feed.fake_subscriber import (
    Frame,
    delete,
    listening,
    put,
    put_all,
    reader,
    values,
    write,
)


async def _write_many(store: Store, writer: int, count: int) -> None:
    for number in range(count):
        await put(store, f"w{writer}:{number % 5}", [writer, number])


def _revisions(frames: Iterable[Frame]) -> list[int]:
    return [frame["revision"] for frame in frames if frame["event"] == "value"]


async def test_ordered(store: Store, feed: Feed) -> None:
    async with listening(feed) as subscriber:
        await asyncio.gather(*(_write_many(store, writer, 50) for writer in range(4)))
        await put(store, "end", 1)
        frames = await subscriber.until(key="end")
    revisions = _revisions(frames)
    assert len(revisions) == 201
    assert revisions == sorted(revisions)
    for writer in range(4):
        own = [value[1] for key, value in values(frames) if key.startswith(f"w{writer}:")]
        assert own == list(range(50))


async def test_unique(store: Store, feed: Feed) -> None:
    """No event comes twice: neither to who was always there nor to who came back."""
    async with listening(feed, since=await store.head("feed")) as subscriber:
        await asyncio.gather(*(_write_many(store, writer, 30) for writer in range(4)))
        await put(store, "end", 1)
        frames = await subscriber.until(key="end")
    assert len(set(_revisions(frames))) == len(_revisions(frames)) == 121
    half = frames[60]
    async with listening(feed, since=decode_cursor(half["cursor"])) as subscriber:
        again = await subscriber.until(key="end")
    assert _revisions(again) == _revisions(frames[61:])


async def test_atomic(store: Store, feed: Feed) -> None:
    """A transaction comes whole: nothing of another one in between, no cursor but at its end."""
    start = await store.head("feed")

    async def transact(name: str) -> None:
        for number in range(30):
            await put_all(store, {f"{name}:{part}": number for part in "abc"})

    async with listening(feed) as subscriber:
        await asyncio.gather(*(transact(name) for name in "xyz"))
        await put(store, "end", 1)
        live = await subscriber.until(key="end")
    async with listening(feed, since=start) as subscriber:
        resumed = await subscriber.until(event="live")
    for frames in (live, resumed):
        events = [frame for frame in frames if frame["event"] == "value"][:-1]
        assert len(events) == 270
        for first in range(0, 270, 3):
            group = events[first : first + 3]
            assert len({frame["revision"] for frame in group}) == 1
            assert [frame.get("more", False) for frame in group] == [True, True, False]
            assert ["cursor" in frame for frame in group] == [False, False, True]


async def test_reliable(store: Store, feed: Feed) -> None:
    """Nothing is left out of the middle, whatever the listener's speed."""
    async with listening(feed) as quick, listening(feed, queue_bytes=2_000) as slow:
        writing = asyncio.gather(*(_write_many(store, writer, 100) for writer in range(4)))
        while not writing.done():
            await asyncio.sleep(0.001)
            if slow.lane.queue:
                slow.take_packet()
        await writing
        await put(store, "end", 1)
        expected = await quick.until(key="end")
        await slow.until(key="end")
    assert len(expected) == 402
    assert _revisions(slow.frames) == _revisions(expected)


async def test_an_expiry_is_an_event_like_any_other(store: Store, feed: Feed) -> None:
    async with listening(feed) as subscriber:
        await write(store, Put("short", b"1", ttl_ms=50))
        expired = (await subscriber.until(action="expire"))[-1]
    assert (expired["key"], expired["value"], expired["version"]) == ("short", None, 0)


async def test_resumable(store: Store, feed: Feed) -> None:
    """From each cursor on, a subscription continues as if it had never been interrupted."""
    async with listening(feed) as subscriber:
        start = (await subscriber.receive())["cursor"]
        for number in range(10):
            await put_all(store, {"a": number, "b": number})
        await delete(store, "a")
        whole = [f for f in await subscriber.until(action="delete") if f["event"] == "value"]
    cursors = [(start, 0)] + [
        (frame["cursor"], index + 1) for index, frame in enumerate(whole) if "cursor" in frame
    ]
    assert len(cursors) == 12
    for cursor, seen in cursors:
        async with listening(feed, since=decode_cursor(cursor)) as subscriber:
            frames = await subscriber.until(event="live")
        assert frames[:-1] == whole[seen:]


async def test_filtered(store: Store, feed: Feed) -> None:
    """Only what the pattern, the kind of event and the read scopes let through."""
    limited = reader("team:*", "notes:[ab]")
    async with (
        listening(feed, "team:*") as team,
        listening(feed, "team:x") as exact,
        listening(feed, "*", principal=limited) as scoped,
        listening(feed, "*", principal=limited, event="all") as every,
        listening(feed, "*:?", event="schema") as schemas,
    ):
        subscribers = (team, exact, scoped, every, schemas)
        await put_all(store, {"team:x": 1, "secret": 2, "notes:a": 3, "notes:c": 4})
        await write(store, PutSchema("notes:*", b"true"), PutSchema("team:y", b"true"))
        await put(store, "team:x", 5)
        await put(store, "team:xy", 6)
        await put(store, "end", 1)
        head = encode_cursor(await store.head("feed"))
        for subscriber in subscribers:
            await subscriber.until(cursor=head)
    assert values(team.frames) == [("team:x", 1), ("team:x", 5), ("team:xy", 6)]
    assert values(exact.frames) == [("team:x", 1), ("team:x", 5)]
    assert values(scoped.frames) == [("team:x", 1), ("notes:a", 3), ("team:x", 5), ("team:xy", 6)]
    # A pattern's schema is shown to those who may read all that it stands for.
    assert [f["key"] for f in every.frames if f["event"] == "schema"] == ["team:y"]
    assert [f["key"] for f in schemas.frames if f["event"] == "schema"] == ["notes:*", "team:y"]
    group = [frame for frame in scoped.frames if frame["event"] == "value"][:2]
    assert [frame.get("more", False) for frame in group] == [True, False]
    assert {subscriber.frames[-1]["event"] for subscriber in subscribers} == {"mark"}
