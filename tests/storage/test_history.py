"""Each key's history: newest first, the last 100 revisions, and honest about what is missing."""

from __future__ import annotations

from memx_server.storage.base import HISTORY_KEPT, Delete, Put, PutSchema, Store

from tests.storage.conftest import OpenStore
from tests.storage.helpers import SPACE, changes_of, commit, put, seen, summary, whole_log


async def values(store: Store, key: str, limit: int = 1000, until: int | None = None) -> list[int]:
    page = await store.history(SPACE, key, limit, until=until)
    return [seen(change)["value"] for change in page.changes]


async def test_a_history_has_the_changes_of_its_key_newest_first(store: Store) -> None:
    for number in range(4):
        await put(store, "a", number)
        await put(store, "b", 10 + number)

    page = await store.history(SPACE, "a", 10)

    assert [seen(change)["value"] for change in page.changes] == [3, 2, 1, 0]
    assert page.complete
    logged = [change for change in changes_of(await whole_log(store)) if change.key == "a"]
    assert list(page.changes) == logged[::-1]


async def test_a_history_has_deletions_and_every_life_of_a_key(store: Store) -> None:
    await put(store, "a", 1)
    await commit(store, Delete("a", reason="spent"))
    await put(store, "a", 2)

    page = await store.history(SPACE, "a", 10)

    assert summary(page.changes) == [("set", "a"), ("delete", "a"), ("set", "a")]
    assert seen(page.changes[1])["reason"] == "spent"
    assert page.complete


async def test_a_schema_under_the_same_name_is_not_in_it(store: Store) -> None:
    await commit(store, PutSchema("a", b"{}"))
    await put(store, "a")

    assert summary((await store.history(SPACE, "a", 10)).changes) == [("set", "a")]
    assert list((await store.history(SPACE, "b", 10)).changes) == []


async def test_a_history_ends_at_its_limit_or_starts_at_a_revision(store: Store) -> None:
    revisions = [await put(store, "a", number) for number in range(5)]
    await put(store, "b")

    assert await values(store, "a", limit=2) == [4, 3]
    assert await values(store, "a", until=revisions[2]) == [2, 1, 0]
    assert await values(store, "a", limit=1, until=revisions[3]) == [3]
    assert await values(store, "a", until=revisions[0] - 1) == []
    assert (await store.history(SPACE, "a", 1)).complete


async def test_until_falls_between_the_revisions_of_the_key(store: Store) -> None:
    await put(store, "a", 1)
    between = await put(store, "b")
    await put(store, "a", 2)

    assert await values(store, "a", limit=1, until=between) == [1]


async def test_a_key_that_never_was_has_an_empty_and_complete_history(store: Store) -> None:
    for space in (SPACE, "never written"):
        page = await store.history(space, "a", 10)
        assert (list(page.changes), page.complete) == ([], True)

    await put(store, "b")
    page = await store.history(SPACE, "a", 10)
    assert (list(page.changes), page.complete) == ([], True)


async def test_the_last_100_revisions_of_a_key_are_kept(store: Store) -> None:
    for start in range(0, HISTORY_KEPT, 50):
        for number in range(start, start + 50):
            await put(store, "a", number)
    assert (await store.history(SPACE, "a", 1)).complete

    first_kept = await put(store, "a", HISTORY_KEPT)

    assert await values(store, "a") == list(range(HISTORY_KEPT, 0, -1))
    assert not (await store.history(SPACE, "a", 1)).complete
    assert await values(store, "a", until=first_kept - HISTORY_KEPT) == []


async def test_what_the_log_has_dropped_is_missed_honestly(open_store: OpenStore) -> None:
    store = await open_store(log_max_records=4)
    old = await put(store, "a", 1)
    await put(store, "b", 1)
    for number in range(2, 5):
        await put(store, "a", number)

    page = await store.history(SPACE, "a", 10)
    assert [seen(change)["value"] for change in page.changes] == [4, 3, 2]
    assert not page.complete
    assert await values(store, "a", until=old) == []
    assert (await store.history(SPACE, "b", 10)).complete

    for _ in range(4):
        await put(store, "other")

    for key in "ab":
        page = await store.history(SPACE, key, 10)
        assert (list(page.changes), page.complete) == ([], False)


async def test_a_key_that_lived_before_the_trim_is_never_called_complete(
    open_store: OpenStore,
) -> None:
    store = await open_store(log_max_records=2)
    await put(store, "a", 1)
    await commit(store, Delete("a"))
    await put(store, "other")
    await put(store, "other")

    await put(store, "a", 2)

    page = await store.history(SPACE, "a", 10)
    assert [seen(change)["value"] for change in page.changes] == [2]
    assert not page.complete


async def test_many_keys_of_one_transaction_have_it_in_each_history(store: Store) -> None:
    committed = await commit(store, *(Put(f"key:{i}", b"%d" % i) for i in range(10)))

    for i in range(10):
        (change,) = (await store.history(SPACE, f"key:{i}", 10)).changes
        assert (seen(change)["revision"], seen(change)["value"]) == (committed.position.revision, i)
