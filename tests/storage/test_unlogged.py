"""Unlogged keys: ordered and conditional like all others, and nothing in the log of what happens to them."""

from __future__ import annotations

import pytest
from memx_server.storage.base import (
    Committed,
    Compacted,
    Compare,
    Delete,
    Diverged,
    Idempotency,
    LoggedOtherwise,
    Put,
    Store,
    Touch,
    Transaction,
    WriteOutcome,
)
from memx_server.storage.encoding import decode_entry, is_unlogged

from memx_sdk.protocol.cursors import Position
from tests.storage.conftest import OpenStore
from tests.storage.helpers import (
    SPACE,
    WRITER,
    Listener,
    changes_of,
    commit,
    commit_one,
    entry,
    eventually,
    in_time,
    put,
    read,
    refused,
    seen,
    summary,
    value,
    whole_log,
)


def unlogged(key: str, text: bytes = b"1", **options: int) -> Put:
    return Put(key, text, logged=False, **options)  # type: ignore[arg-type]  # a ttl is all that is given


async def test_an_unlogged_key_is_read_like_any_other(store: Store) -> None:
    first = await commit(store, unlogged("a"))
    second = await commit(store, Put("a", b'{"n":2}'))

    found = await entry(store, "a")
    assert (found.revision, found.version, found.writer) == (second.position.revision, 2, WRITER)
    assert found.logged is False
    assert await value(store, "a") == {"n": 2}
    (text,) = await store.read(SPACE, ["a"])
    assert text is not None
    assert is_unlogged(text)
    assert text.startswith(b'{"revision":%d,"version":2,"logged":false,"ts":' % found.revision)
    assert [key for key, _ in (await store.list(SPACE)).entries] == ["a"]
    assert (await store.revisions(SPACE)).revisions == [("a", found.revision)]
    # Revisions are dense, with a record or without.
    assert second.position.revision == first.position.revision + 1
    assert second.written == [WriteOutcome(True, 2, None, logged=False)]


async def test_a_logged_entry_does_not_say_so(store: Store) -> None:
    await commit(store, Put("a", b'{"logged":false}'), Put('"logged":false', b"1", logged=True))
    for key in ("a", '"logged":false'):
        (text,) = await store.read(SPACE, [key])
        assert text is not None
        assert not is_unlogged(text)
        assert decode_entry(text).logged


async def test_the_log_and_history_tell_nothing_of_it(store: Store) -> None:
    before = await commit(store, Put("logged", b"1"))
    await commit(store, unlogged("a"))
    await commit(store, Put("a", b"2"), compares=[Compare("a", before.position.revision + 1)])
    await commit(store, Delete("a"))
    after = await commit(store, Put("logged", b"2"))

    records = await whole_log(store)
    assert summary(changes_of(records)) == [("set", "logged"), ("set", "logged")]
    # ``previous`` counts records: whoever has read the first one sees that nothing is missing.
    assert records[1].previous == before.position.revision
    assert after.position.revision == before.position.revision + 4
    assert (await store.history(SPACE, "a", 10)).changes == []
    assert len((await store.history(SPACE, "logged", 10)).changes) == 2


async def test_nobody_is_told_and_who_listens_sees_no_gap(store: Store) -> None:
    listener = Listener()
    stop = await store.tail(SPACE, listener)
    first = await put(store, "logged", 1)
    head = await store.head(SPACE)
    for number in range(3):
        await commit(store, unlogged("a", b"%d" % number))
    assert await store.head(SPACE) == head
    last = await put(store, "logged", 2)
    await listener.heard(last)

    assert [record.previous for record in listener.records] == [0, first]
    assert summary(listener.changes) == [("set", "logged"), ("set", "logged")]
    await stop()


async def test_a_transaction_mixes_both_under_one_revision(store: Store) -> None:
    await commit(store, unlogged("u1"))
    done = await commit(store, unlogged("u2"), Put("l", b"1"), Put("u1", b"2"))

    revision = done.position.revision
    assert [(await entry(store, key)).revision for key in ("u1", "u2", "l")] == [revision] * 3
    (record,) = await whole_log(store)
    assert record.position == done.position == await store.head(SPACE)
    assert summary(record.changes or ()) == [("set", "l")]
    assert [each.logged for each in done.written] == [False, True, False]

    removed = await commit(store, Delete("u1"), Delete("l"), Delete("none"))
    assert [each.changed for each in removed.written] == [True, True, False]
    assert summary(changes_of(await whole_log(store))) == [("set", "l"), ("delete", "l")]


async def test_conditions_hold_as_ever(store: Store) -> None:
    made = await commit(store, unlogged("a"), compares=[Compare("a", 0)])
    lost = await refused(store, unlogged("a"), compares=[Compare("a", 0)])
    assert lost.entry is not None
    assert decode_entry(lost.entry).revision == made.position.revision
    await commit(store, Put("a", b"2"), compares=[Compare("a", made.position.revision)])
    await refused(store, Delete("a"), compares=[Compare("a", made.position.revision)])


async def test_it_is_settled_until_the_key_is_deleted(store: Store) -> None:
    await commit(store, unlogged("u"), Put("l", b"1"))
    for write, logged in ((Put("u", b"2", logged=True), False), (unlogged("l"), True)):
        outcome = await commit_one(store, SPACE, Transaction(WRITER, [Put("other", b"1"), write]))
        assert outcome == LoggedOtherwise(write.key, logged)
        # A compare that fails comes first.
        await refused(store, write, compares=[Compare("u", 1)])
    assert await read(store, "other") is None
    await commit(store, unlogged("u", b"2"), Put("l", b"2", logged=True))
    assert [await value(store, key) for key in "ul"] == [2, 2]

    await commit(store, Delete("u"), Delete("l"))
    await commit(store, Put("u", b"3", logged=True), unlogged("l", b"3"))
    assert [(await entry(store, key)).logged for key in "ul"] == [True, False]
    assert [(await entry(store, key)).version for key in "ul"] == [1, 1]
    assert summary(changes_of(await whole_log(store))) == [
        ("set", "l"),
        ("set", "l"),
        ("delete", "l"),
        ("set", "u"),
    ]


async def test_a_cursor_from_an_unlogged_revision_resumes(store: Store) -> None:
    alone = await commit(store, unlogged("a"))
    page = await store.log(SPACE, alone.position, 10)
    assert (page.records, page.position) == ([], alone.position)

    logged = await commit(store, Put("l", b"1"))
    cursor = (await commit(store, Put("a", b"2"))).position
    for since in (alone.position, cursor):
        page = await store.log(SPACE, since, 10)
        assert [each.position for each in page.records] == [logged.position][: since != cursor]
    assert page.position == cursor, "it does not step back"
    assert page.head == logged.position.revision

    later = await commit(store, Put("l", b"2"))
    page = await store.log(SPACE, cursor, 10)
    assert [each.position for each in page.records] == [later.position]
    above = Position(later.position.lineage, later.position.revision + 1)
    with pytest.raises(Diverged):
        await store.log(SPACE, above, 10)


async def test_what_changes_nothing_answers_with_the_newest_revision(store: Store) -> None:
    done = await commit(store, unlogged("a"))
    assert (await commit(store, Delete("none"))).position == done.position
    touched = await commit(store, Touch("a", 60_000))
    assert touched.position == done.position
    assert touched.written[0].logged is False
    assert (await entry(store, "a")).expires_at is not None
    assert (await entry(store, "a")).logged is False
    await commit(store, Put("a", b"2", keep_expiry=True))
    assert (await entry(store, "a")).expires_at == touched.written[0].expires_at


async def test_its_expiry_leaves_no_record(store: Store) -> None:
    await put(store, "l")

    async def both(name: str, ttl_ms: int) -> None:
        await commit(store, unlogged(f"u:{name}", ttl_ms=ttl_ms), Put(name, b"1", ttl_ms=ttl_ms))

    name = await in_time(both)
    await eventually(lambda: _logged_expiry(store, name))
    assert await read(store, f"u:{name}") is None
    await put(store, "l")
    keys = [change.key for change in changes_of(await whole_log(store))]
    assert not any(key.startswith("u:") for key in keys)
    # The key is free: it may be made anew, logged this time.
    await commit(store, Put(f"u:{name}", b"1", logged=True))
    assert (await entry(store, f"u:{name}")).version == 1


async def _logged_expiry(store: Store, name: str) -> bool:
    return ("expire", name) in summary(changes_of(await whole_log(store)))


async def test_one_that_expired_may_be_made_anew_at_once(store: Store) -> None:
    async def make(name: str, ttl_ms: int) -> None:
        await commit(store, unlogged(name, ttl_ms=ttl_ms))

    name = await in_time(make)
    await commit(store, Put(name, b"2", logged=True))
    assert summary(changes_of(await whole_log(store))) == [("set", name)]
    assert (await entry(store, name)).version == 1


async def test_a_repetition_answers_as_the_first_time(store: Store) -> None:
    transaction = Transaction(WRITER, [unlogged("a")], idempotency=Idempotency("t", "d", b"note"))
    first = await commit_one(store, SPACE, transaction)
    await commit(store, Put("a", b"2"))
    again = await commit_one(store, SPACE, transaction)

    assert isinstance(first, Committed)
    assert isinstance(again, Committed)
    assert (again.position, again.written, again.replayed_note) == (
        first.position,
        first.written,
        b"note",
    )
    assert await value(store, "a") == 2


async def test_thousands_of_them_push_nothing_out_of_the_log(open_store: OpenStore) -> None:
    """With logged writes ten times fewer would do."""
    store = await open_store(log_max_records=100)
    await put(store, "team:goal", "map the ocean floor")
    cursor = await store.head(SPACE)
    for start in range(0, 1010, 10):
        transactions = [Transaction(WRITER, [unlogged(f"k:{start + at}")]) for at in range(10)]
        assert all(isinstance(each, Committed) for each in await store.commit(SPACE, transactions))

    (change,) = (await store.history(SPACE, "team:goal", 10)).changes
    assert seen(change)["value"] == "map the ocean floor"
    assert (await store.log(SPACE, cursor, 10)).records == []
    last = await put(store, "team:goal", "done")
    page = await store.log(SPACE, cursor, 10)
    assert [each.position.revision for each in page.records] == [last]
    assert page.records[0].previous == cursor.revision
    # What is logged still pushes out what is oldest.
    for _ in range(100):
        await put(store, "other")
    with pytest.raises(Compacted):
        await store.log(SPACE, cursor, 10)


async def test_a_new_lineage_goes_on_behind_them(open_store: OpenStore) -> None:
    """A store that starts anew ends the old lineage where its newest revision was, logged or not."""
    store = await open_store()
    await put(store, "l", 1)
    cursor = (await commit(store, unlogged("a"))).position
    await store.close()

    store = await open_store()
    done = await commit(store, Put("a", b"2"))
    assert done.position.revision > cursor.revision
    assert (await entry(store, "a")).version == 2
    for since in (cursor, done.position):
        page = await store.log(SPACE, since, 10)
        assert (page.records, page.position.revision) == ([], since.revision)
    last = await put(store, "l", 2)
    for since in (cursor, done.position, page.position):
        page = await store.log(SPACE, since, 10)
        assert [each.position.revision for each in page.records] == [last]
