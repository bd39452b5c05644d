"""Promise 5 at its root: the log gives every change after a cursor once, in order, or says that it cannot."""

from __future__ import annotations

import pytest
from memx_server.storage.base import Compacted, Delete, Diverged, Put, Record, Store

from memx_sdk.protocol.cursors import Position, decode_cursor, encode_cursor
from tests.storage.conftest import OpenStore
from tests.storage.helpers import SPACE, changes_of, commit, eventually, put, seen, whole_log


async def revisions(store: Store, since: Position | None = None) -> list[int]:
    return [record.position.revision for record in await whole_log(store, since)]


async def test_every_record_after_a_cursor_comes_once_and_in_order(store: Store) -> None:
    written = [await put(store, f"key:{number % 3}", number) for number in range(10)]
    lineage = (await store.head(SPACE)).lineage

    assert await revisions(store) == written
    for number, revision in enumerate(written):
        assert await revisions(store, Position(lineage, revision)) == written[number + 1 :]


async def test_each_record_names_the_one_before_it(store: Store) -> None:
    written = [await put(store, "a", number) for number in range(4)]

    records = await whole_log(store)

    assert [record.previous for record in records] == [0, *written[:-1]]


async def test_pages_join_without_gap_or_repetition(store: Store) -> None:
    written = [await put(store, "a", number) for number in range(8)]

    for limit in (1, 2, 3, 7, 8):
        page = await store.log(SPACE, None, limit)
        assert len(page.records) <= limit
        assert page.head == written[-1]
        assert page.position == page.records[-1].position
        joined = await whole_log(store, limit=limit)
        assert [record.position.revision for record in joined] == written


async def test_a_transaction_is_never_split_over_pages(store: Store) -> None:
    for number in range(3):
        await commit(store, *(Put(f"key:{i}", b"%d" % number) for i in range(5)))

    page = await store.log(SPACE, None, 1)

    assert [len(record.changes or ()) for record in page.records] == [5]


async def test_at_the_head_there_is_nothing_until_the_next_commit(store: Store) -> None:
    await put(store, "a")
    head = await store.head(SPACE)

    page = await store.log(SPACE, head, 10)
    assert (list(page.records), page.position, page.head) == ([], head, head.revision)

    revision = await put(store, "a")
    assert await revisions(store, page.position) == [revision]


async def test_the_head_is_where_the_last_commit_stands(store: Store) -> None:
    committed = await commit(store, Put("a", b"1"))

    assert await store.head(SPACE) == committed.position
    assert (await whole_log(store))[-1].position == committed.position


async def test_the_head_of_an_empty_space_stands_before_all_that_comes(store: Store) -> None:
    beginning = await store.head(SPACE)
    assert beginning.revision == 0
    empty = await store.log(SPACE, beginning, 10)
    assert (list(empty.records), empty.position, empty.head) == ([], beginning, 0)
    assert list((await store.log(SPACE, None, 10)).records) == []

    written = [await put(store, "a"), await put(store, "b")]

    assert await revisions(store, beginning) == written


async def test_a_cursor_is_a_string_that_a_client_can_keep(store: Store) -> None:
    beginning = await store.head(SPACE)
    position = (await commit(store, Put("a", b"1"))).position

    for held in (beginning, position):
        assert decode_cursor(encode_cursor(held)) == held


async def test_a_cursor_above_the_head_has_diverged(store: Store) -> None:
    head = (await commit(store, Put("a", b"1"))).position

    with pytest.raises(Diverged):
        await store.log(SPACE, head._replace(revision=head.revision + 1), 10)


async def test_a_cursor_of_an_unknown_lineage_has_diverged(store: Store) -> None:
    head = (await commit(store, Put("a", b"1"))).position

    for revision in (head.revision, head.revision - 1, 1):
        with pytest.raises(Diverged):
            await store.log(SPACE, Position("abc123", revision), 10)


async def test_a_cursor_of_another_space_has_diverged(store: Store) -> None:
    elsewhere = (await commit(store, Put("a", b"1"), space="other")).position
    await put(store, "a")

    with pytest.raises(Diverged):
        await store.log(SPACE, elsewhere, 10)
    with pytest.raises(Diverged):
        await store.log("never written", elsewhere, 10)


async def test_the_log_keeps_exactly_as_many_records_as_it_may(open_store: OpenStore) -> None:
    store = await open_store(log_max_records=10)
    positions = [(await commit(store, Put("a", b"1"), Put("b", b"1"))).position for _ in range(25)]

    kept = [position.revision for position in positions[-10:]]
    assert await revisions(store) == kept
    assert await revisions(store, positions[-11]) == kept
    assert await revisions(store, positions[-10]) == kept[1:]
    for position in positions[:-11]:
        with pytest.raises(Compacted):
            await store.log(SPACE, position, 10)


async def test_the_beginning_is_compacted_once_the_log_is_trimmed(open_store: OpenStore) -> None:
    store = await open_store(log_max_records=2)
    beginning = await store.head(SPACE)
    for _ in range(2):
        await put(store, "a")
    assert len(await revisions(store, beginning)) == 2

    await put(store, "a")

    with pytest.raises(Compacted):
        await store.log(SPACE, beginning, 10)


async def test_the_log_keeps_exactly_as_many_bytes_as_it_may(open_store: OpenStore) -> None:
    limit = 4000
    store = await open_store(log_max_bytes=limit)
    written: list[Record] = []
    since = await store.head(SPACE)
    for number in range(40):
        since = (await commit(store, Put("a", b'"%s"' % (b"x" * (number * 37 % 900))))).position
        written.append((await whole_log(store))[-1])
    assert since == written[-1].position

    kept: list[Record] = []
    for record in reversed(written):
        if sum(len(change.data) for change in changes_of([record, *kept])) > limit:
            break
        kept.insert(0, record)

    assert len(written) > len(kept) > 3
    assert [record.position for record in await whole_log(store)] == [
        record.position for record in kept
    ]


async def test_one_big_record_displaces_many_small_ones(open_store: OpenStore) -> None:
    store = await open_store(log_max_bytes=20_000)
    for number in range(60):
        await put(store, f"key:{number}")

    big = await put(store, "big", "x" * 19_800)

    async def only_the_big_one() -> bool:
        return await revisions(store) == [big]

    await eventually(only_the_big_one)


async def test_the_newest_record_stays_though_it_is_too_big(open_store: OpenStore) -> None:
    store = await open_store(log_max_bytes=1000)
    await put(store, "a")
    before = await store.head(SPACE)

    revision = await put(store, "a", "x" * 5000)

    assert await revisions(store) == [revision]
    assert await revisions(store, before) == [revision]


async def test_trimming_touches_no_entry(open_store: OpenStore) -> None:
    store = await open_store(log_max_records=3)
    for number in range(12):
        await put(store, f"key:{number}", number)

    assert len((await store.list(SPACE)).entries) == 12


async def test_trimming_in_one_space_leaves_the_others_alone(open_store: OpenStore) -> None:
    store = await open_store(log_max_records=3)
    await put(store, "a", space="quiet")
    for _ in range(8):
        await put(store, "a")

    assert len(await whole_log(store, space="quiet")) == 1


async def test_limits_hold_for_a_log_that_was_longer(open_store: OpenStore) -> None:
    first = await open_store()
    for _ in range(20):
        await put(first, "a")
    await first.close()

    second = await open_store(log_max_records=5)
    await put(second, "a")

    assert len(await revisions(second)) == 5


async def test_cursors_outlive_a_restart_of_the_process(open_store: OpenStore) -> None:
    first = await open_store()
    beginning = await first.head(SPACE)
    cursor = (await commit(first, Put("a", b"1"))).position
    missed = await put(first, "b")
    head = await first.head(SPACE)
    await first.close()

    second = await open_store()

    assert await revisions(second, cursor) == [missed]
    assert await revisions(second, await second.head(SPACE)) == []
    following = await put(second, "c")
    assert following > missed
    assert await revisions(second, cursor) == [missed, following]
    assert await revisions(second, head) == [following]
    assert await revisions(second, beginning) == [head.revision - 1, missed, following]
    previous = [record.previous for record in await whole_log(second)]
    assert previous == [0, cursor.revision, missed]


async def test_the_log_says_the_same_as_the_entries(store: Store) -> None:
    for number in range(30):
        await put(store, f"key:{number % 7}", number)
        if number % 5 == 0:
            await commit(store, Delete(f"key:{number % 3}"))

    replayed: dict[str, object] = {}
    for change in changes_of(await whole_log(store)):
        if change.action == "set":
            replayed[change.key] = seen(change)["value"]
        else:
            del replayed[change.key]
    entries = (await store.list(SPACE)).entries
    assert replayed == {key: int(text.rsplit(b":", 1)[1][:-1]) for key, text in entries}
