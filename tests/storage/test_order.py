"""Promise 1 and 2: one total order of writes, by the store's order and clock; nothing is half-visible."""

from __future__ import annotations

import asyncio
import json
import time

from memx_server.storage.base import Delete, Put, Store, Touch

from tests.storage.helpers import (
    SPACE,
    WRITER,
    changes_of,
    commit,
    entry,
    put,
    read,
    seen,
    value,
    whole_log,
)


async def test_revisions_count_by_one(store: Store) -> None:
    revisions = [await put(store, key) for key in ("a", "b", "a", "c")]

    assert revisions == [revisions[0] + step for step in range(4)]


async def test_a_lineage_starts_at_the_unix_time_in_microseconds(store: Store) -> None:
    revision = await put(store, "a")

    assert abs(revision / 1e6 - time.time()) < 60
    assert revision < 2**53


async def test_all_keys_of_a_transaction_share_its_revision(store: Store) -> None:
    committed = await commit(store, Put("a", b"1"), Put("b", b"2"), Put("c", b"3"))

    revisions = [(await entry(store, key)).revision for key in "abc"]
    assert revisions == [committed.position.revision] * 3


async def test_an_entry_says_who_wrote_it_and_when(store: Store) -> None:
    committed = await commit(store, Put("a", b"1"))

    written = await entry(store, "a")
    assert (written.key, written.writer, written.ts) == ("a", WRITER, committed.ts)
    assert abs(written.ts - time.time()) < 60
    assert written.expires_at is None


async def test_a_version_is_1_on_creation_and_counts_the_writes_since(store: Store) -> None:
    versions = []
    for write in (Put("a", b"1"), Put("a", b"2"), Put("a", b"2"), Delete("a"), Put("a", b"3")):
        versions += [written.version for written in (await commit(store, write)).written]

    assert versions == [1, 2, 3, 0, 1]
    assert (await entry(store, "a")).version == 1


async def test_the_last_of_many_concurrent_writes_wins_by_the_order_of_the_store(
    store: Store,
) -> None:
    revisions = await asyncio.gather(*(put(store, "a", number) for number in range(40)))

    assert sorted(revisions) == list(range(min(revisions), min(revisions) + 40))
    assert await value(store, "a") == revisions.index(max(revisions))
    logged = [seen(change) for change in changes_of(await whole_log(store))]
    assert [change["revision"] for change in logged] == sorted(revisions)
    assert [revisions[change["value"]] for change in logged] == sorted(revisions)
    assert [change["version"] for change in logged] == list(range(1, 41))


async def test_no_reader_sees_half_of_a_transaction(store: Store) -> None:
    done = asyncio.Event()

    async def write() -> None:
        for number in range(60):
            await commit(store, Put("left", b"%d" % number), Put("right", b"%d" % number))
        done.set()

    async def compare() -> int:
        reads = 0
        while not done.is_set():
            texts = await store.read(SPACE, ["left", "right"])
            values = [text and json.loads(text)["value"] for text in texts]
            assert values[0] == values[1]
            page = await store.list(SPACE)
            assert len({json.loads(text)["revision"] for _, text in page.entries}) <= 1
            reads += 1
            await asyncio.sleep(0)  # a read need not give way to the writer
        return reads

    async with asyncio.timeout(30):
        _, *reads = await asyncio.gather(write(), compare(), compare())
    assert min(reads) > 0


async def test_what_changes_nothing_takes_no_revision(store: Store) -> None:
    revision = await put(store, "a")

    idle = await commit(store, Delete("nothing"), Touch("nothing", 1000), Touch("a", 60_000))

    assert idle.position == await store.head(SPACE)
    assert idle.position.revision == revision
    assert [(written.changed, written.version) for written in idle.written] == [
        (False, 0),
        (False, 0),
        (True, 1),
    ]
    assert len(await whole_log(store)) == 1


async def test_spaces_share_nothing(store: Store) -> None:
    await put(store, "a", "here")
    before = await store.head("other")

    assert before.revision == 0
    assert await read(store, "a", space="other") is None

    await put(store, "a", "there", space="other")

    assert await value(store, "a") == "here"
    assert await value(store, "a", space="other") == "there"
    assert len(await whole_log(store)) == len(await whole_log(store, space="other")) == 1
    assert (await store.head("other")).lineage != (await store.head(SPACE)).lineage


async def test_any_text_names_a_space(store: Store) -> None:
    names = ["a", "a:b", "{a}", "*", "", "ключ \N{GRINNING FACE}", "x" * 300]
    for name in names:
        await put(store, "k", name, space=name)

    assert [await value(store, "k", space=name) for name in names] == names
