"""Promise 4: the commit carries the schema revision that its values were checked against."""

from __future__ import annotations

import asyncio

from memx_server.storage.base import (
    Committed,
    Compare,
    Conflicted,
    DeleteSchema,
    Put,
    PutSchema,
    SchemaMoved,
    Store,
    Transaction,
)

from tests.storage.conftest import OpenStore
from tests.storage.helpers import (
    SPACE,
    changes_of,
    commit,
    commit_one,
    put,
    read,
    refused,
    seen,
    summary,
    whole_log,
)


async def checked_put(store: Store, schema_revision: int) -> object:
    return await commit_one(
        store, SPACE, Transaction("w", [Put("a", b"1")], schema_revision=schema_revision)
    )


async def test_a_space_without_schemas_is_at_revision_0(store: Store) -> None:
    await put(store, "a")

    schemas = await store.schemas(SPACE)

    assert (schemas.revision, schemas.by_pattern) == (0, {})
    assert isinstance(await checked_put(store, 0), Committed)


async def test_schemas_are_read_with_the_revision_of_the_last_write_to_any(store: Store) -> None:
    await commit(store, PutSchema("a", b"{}"), PutSchema("b:*", b"true"))
    changed = await commit(store, PutSchema("a", b'{"type":"null"}'))
    await put(store, "a")

    schemas = await store.schemas(SPACE)

    assert schemas.revision == changed.position.revision
    assert schemas.by_pattern == {"a": b'{"type":"null"}', "b:*": b"true"}


async def test_a_write_checked_against_older_schemas_does_not_land(store: Store) -> None:
    before = (await store.schemas(SPACE)).revision
    changed = await commit(store, PutSchema("a", b"false"))
    head = await store.head(SPACE)

    assert await checked_put(store, before) == SchemaMoved(changed.position.revision)

    assert await read(store, "a") is None
    assert await store.head(SPACE) == head
    assert isinstance(await checked_put(store, changed.position.revision), Committed)


async def test_a_removed_schema_moves_the_revision_too(store: Store) -> None:
    before = (await commit(store, PutSchema("a", b"{}"))).position.revision
    removed = await commit(store, DeleteSchema("a"))

    assert (await store.schemas(SPACE)).by_pattern == {}
    assert (await store.schemas(SPACE)).revision == removed.position.revision
    assert await checked_put(store, before) == SchemaMoved(removed.position.revision)


async def test_removing_a_schema_that_is_not_there_changes_nothing(store: Store) -> None:
    before = (await commit(store, PutSchema("a*", b"{}"))).position

    removed = await commit(store, DeleteSchema("a"))

    assert not removed.written[0].changed
    assert removed.position == before == await store.head(SPACE)
    assert (await store.schemas(SPACE)).revision == before.revision


async def test_without_a_schema_revision_there_is_no_check(store: Store) -> None:
    await commit(store, PutSchema("a", b"false"))

    await put(store, "a")


async def test_the_schema_revision_is_checked_before_the_compares(store: Store) -> None:
    await put(store, "a")
    changed = await commit(store, PutSchema("b", b"{}"))
    transaction = Transaction("w", [Put("a", b"2")], [Compare("a", 0)], schema_revision=0)

    assert await commit_one(store, SPACE, transaction) == SchemaMoved(changed.position.revision)
    assert isinstance(await refused(store, compares=[Compare("a", 0)]), Conflicted)


async def test_schema_writes_are_in_the_log(store: Store) -> None:
    await commit(store, PutSchema("a:*", b'{"type":"string"}', reason="texts"))
    await commit(store, DeleteSchema("a:*"))

    changes = changes_of(await whole_log(store))

    assert summary(changes) == [("schema", "a:*"), ("schema", "a:*")]
    assert [seen(change)["schema"] for change in changes] == [{"type": "string"}, None]
    assert "version" not in seen(changes[0])


async def test_a_schema_and_an_entry_of_one_name_are_two_things(store: Store) -> None:
    revision = await put(store, "a")
    await commit(store, PutSchema("a", b"{}"))

    await commit(store, Put("a", b"2"), compares=[Compare("a", revision)])
    await commit(store, DeleteSchema("a"))

    assert (await store.list(SPACE)).entries[0][0] == "a"


async def test_spaces_have_schemas_of_their_own(store: Store) -> None:
    await commit(store, PutSchema("a", b"{}"), space="other")

    assert (await store.schemas(SPACE)).revision == 0


async def test_schemas_outlive_a_restart_of_the_process(open_store: OpenStore) -> None:
    first = await open_store()
    revision = (await commit(first, PutSchema("a", b"{}"))).position.revision
    await first.close()

    second = await open_store()

    assert (await second.schemas(SPACE)).revision == revision
    assert await checked_put(second, 0) == SchemaMoved(revision)


async def test_no_write_slips_past_a_schema_that_comes_at_the_same_time(store: Store) -> None:
    async def write(number: int) -> tuple[int, int]:
        """Commit what was checked against the schemas read just before; (revision, checked)."""
        while True:
            checked = (await store.schemas(SPACE)).revision
            transaction = Transaction("w", [Put(f"k{number}", b"1")], schema_revision=checked)
            outcome = await commit_one(store, SPACE, transaction)
            if isinstance(outcome, Committed):
                return outcome.position.revision, checked

    async def change() -> list[int]:
        return [(await commit(store, PutSchema("k*", b"{}"))).position.revision for _ in range(5)]

    async with asyncio.timeout(30):
        changed, *written = await asyncio.gather(change(), *(write(i) for i in range(20)))

    for revision, checked in written:
        assert checked == max((at for at in changed if at < revision), default=0)
