"""Listing keys: in code-point order, by prefix, in pages that join without gap or repetition."""

from __future__ import annotations

import asyncio

from memx_server.storage.base import Delete, Put, Store

from tests.storage.helpers import SPACE, commit, put

ODD_KEYS = [
    " ",
    "!",
    "A",
    "Z",
    "a",
    "a:",
    "a:1",
    "a:10",
    "a:2",
    "a;",
    "aa",
    "b",
    "~",
    "é",
    "ß",
    "я",
    "中",
    "\ufffd",
    "\U00010000",
    "\N{GRINNING FACE}",
    "\U0010ffff",
    "\U0010ffff\U0010ffff",
]


async def keys(store: Store, *, prefix: str = "", limit: int = 1000) -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await store.list(SPACE, prefix=prefix, after=after, limit=limit)
        assert len(page.entries) <= limit
        found += [key for key, _ in page.entries]
        after = page.after
    return found


async def test_keys_come_in_code_point_order(store: Store) -> None:
    await commit(store, *(Put(key, b"1") for key in reversed(ODD_KEYS)))

    assert await keys(store) == sorted(ODD_KEYS)


async def test_pages_join_without_gap_or_repetition(store: Store) -> None:
    await commit(store, *(Put(key, b"1") for key in ODD_KEYS))

    for limit in (1, 2, 5, 21, 22, 23):
        assert await keys(store, limit=limit) == sorted(ODD_KEYS)


async def test_a_prefix_picks_the_keys_that_start_with_it(store: Store) -> None:
    await commit(store, *(Put(key, b"1") for key in ODD_KEYS))

    for prefix in ("a", "a:", "a:1", "z", "é", "\U0010ffff", "\N{GRINNING FACE}", "A"):
        expected = sorted(key for key in ODD_KEYS if key.startswith(prefix))
        assert await keys(store, prefix=prefix) == expected
        assert await keys(store, prefix=prefix, limit=1) == expected


async def test_nothing_in_a_prefix_is_a_wildcard(store: Store) -> None:
    prefixes = ["%", "_", "a%", "a_", "*", "?", "[a]", "\\", "("]
    await commit(store, *(Put(key, b"1") for key in ("a", "ab", "a:b", *prefixes)))

    for prefix in prefixes:
        assert await keys(store, prefix=prefix) == [prefix]


async def test_a_page_may_start_behind_a_key_that_is_not_there(store: Store) -> None:
    await commit(store, Put("a", b"1"), Put("c", b"1"))

    page = await store.list(SPACE, after="b")

    assert [key for key, _ in page.entries] == ["c"]
    assert page.after is None
    assert list((await store.list(SPACE, prefix="a", after="b")).entries) == []
    assert [key for key, _ in (await store.list(SPACE, prefix="c", after="a")).entries] == ["c"]


async def test_a_list_has_the_entries_as_a_read_gives_them(store: Store) -> None:
    await commit(store, Put("a", b"[1.0]", ttl_ms=60_000), Put("b", b"{}"))
    await put(store, "a", [2])

    page = await store.list(SPACE)

    assert [text for _, text in page.entries] == await store.read(SPACE, ["a", "b"])


async def test_deleted_keys_are_not_listed(store: Store) -> None:
    await commit(store, *(Put(key, b"1") for key in "abc"))
    await commit(store, Delete("b"))

    assert await keys(store) == ["a", "c"]
    assert await keys(store, limit=1) == ["a", "c"]


async def test_an_empty_space_has_no_keys(store: Store) -> None:
    page = await store.list("never written")

    assert (list(page.entries), page.after) == ([], None)


async def test_many_keys_and_big_values_are_all_listed(store: Store) -> None:
    names = [f"key:{number:04}" for number in range(1200)]
    for start in range(0, len(names), 100):
        await commit(store, *(Put(key, b"1") for key in names[start : start + 100]))
    big = [f"big:{number}" for number in range(6)]
    for key in big:
        await put(store, key, "x" * 500_000)

    assert await keys(store) == big + names
    assert await keys(store, prefix="key:", limit=700) == names


async def test_reads_answer_for_each_key_in_the_order_asked(store: Store) -> None:
    await commit(store, Put("a", b"1"), Put("b", b"2"))

    texts = await store.read(SPACE, ["b", "missing", "a", "b"])

    assert [text and text[-2:] for text in texts] == [b"2}", None, b"1}", b"2}"]
    assert await store.read(SPACE, []) == []
    assert await store.read("never written", ["a", "b"]) == [None, None]


async def test_revisions_name_the_keys_that_a_list_does(store: Store) -> None:
    """Without their values, so that pages of large entries are no shorter."""
    expected = {key: await put(store, key, "x" * 50_000) for key in sorted(ODD_KEYS)}
    found: dict[str, int] = {}
    for limit in (1, 5, len(ODD_KEYS), 1000):
        after: str | None = ""
        found.clear()
        while after is not None:
            page = await store.revisions(SPACE, after=after, limit=limit)
            assert len(page.revisions) == limit or page.after is None
            found |= dict(page.revisions)
            after = page.after
        assert list(found.items()) == list(expected.items())


async def test_revisions_keep_to_a_prefix_and_leave_out_what_is_gone(store: Store) -> None:
    kept = await put(store, "a:1")
    await put(store, "b:1")
    await commit(store, Put("a:2", b"1"), Put("a:3", b"1", ttl_ms=1))
    await commit(store, Delete("a:2"))
    await asyncio.sleep(0.01)  # what has expired makes no event

    page = await store.revisions(SPACE, prefix="a:")
    assert (list(page.revisions), page.after) == ([("a:1", kept)], None)
    page = await store.revisions("a space without anything")
    assert (list(page.revisions), page.after) == ([], None)
