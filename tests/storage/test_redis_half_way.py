"""Commits that Redis would refuse half-way: rights, slots on the move, a log that ends above the head."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from memx_server.storage.base import (
    Committed,
    Compare,
    Delete,
    Idempotency,
    Outcome,
    Put,
    PutSchema,
    Store,
    StoreUnavailable,
    Touch,
    Transaction,
    Write,
)
from memx_server.storage.redis import RedisStore
from memx_server.storage.redis.network.faults import RedisDenied, SlotMoving
from memx_server.storage.redis.rights import (
    CLUSTER_RIGHTS,
    DURABILITY_RIGHTS,
    RIGHTS,
    RightsMissing,
)

from tests.storage.helpers import (
    SPACE,
    WRITER,
    Listener,
    changes_of,
    commit,
    commit_one,
    eventually,
    put,
    read,
    seen,
    value,
    whole_log,
)
from tests.storage.redis_cluster import Start, ask, cluster_of
from tests.storage.redis_helpers import opened, verdict
from tests.support.redis_server import RedisServer, newest_redis, server_binaries

NOTICE_RIGHTS = {"+publish", "+subscribe", "+unsubscribe"}
ONLY_SOMETIMES = {"+select", "+role"}
"""Rights for what a single server at database 0 is not asked."""


@pytest.fixture(params=server_binaries())
def binary(request: pytest.FixtureRequest) -> str:
    return server_binaries()[request.param]


@pytest.fixture
def server(binary: str) -> Iterator[RedisServer]:
    with RedisServer(binary) as server:
        yield server


def allow(server: RedisServer, *rules: str) -> None:
    """Set the rights of the user ``memx``."""
    ask(server, "ACL SETUSER", "memx", "on", ">secret", *rules)


@asynccontextmanager
async def as_memx(server: RedisServer, **options: Any) -> AsyncIterator[RedisStore]:
    """A store that introduces itself as the user ``memx``; the test opens it."""
    store = RedisStore(f"redis://memx:secret@127.0.0.1:{server.port}/0", **options)
    try:
        yield store
    finally:
        await store.close()


async def folded(store: Store) -> dict[str, int]:
    """The revisions of what the log says is there."""
    state: dict[str, int] = {}
    for change in changes_of(await whole_log(store)):
        if change.action == "set":
            state[change.key] = seen(change)["revision"]
        elif change.action in ("delete", "expire"):
            state.pop(change.key, None)
    return state


async def held(store: Store) -> dict[str, int]:
    """The revisions of what is there."""
    page = await store.list(SPACE)
    return {key: json.loads(text)["revision"] for key, text in page.entries}


async def outcome_of(store: Store, *writes: Write) -> Outcome | StoreUnavailable:
    (outcome,) = await store.commit(SPACE, [Transaction(WRITER, writes)])
    return outcome


# Rights


async def test_the_rights_that_are_named_are_enough(server: RedisServer) -> None:
    allow(server, "resetkeys", "~memx:*", "resetchannels", "&memx:*", "-@all", *RIGHTS.split())
    async with as_memx(server, log_max_records=5) as store:
        await store.open()
        assert not [line for line in await store.advice() if "right" in line or "denies" in line]
        listener = Listener()
        await store.tail(SPACE, listener)
        for number in range(20):
            token = Idempotency(f"t{number}", "digest")
            writes: list[Write] = [Put("a", b"%d" % number, ttl_ms=60_000), Put("b", b"1")]
            outcome = await commit_one(store, SPACE, Transaction(WRITER, writes, idempotency=token))
            assert isinstance(outcome, Committed)
        await commit(store, PutSchema("a", b"{}"), Touch("b", 60_000))
        await commit(store, Delete("a"))
        last = await put(store, "c")
        await listener.heard(last)
        await store.history(SPACE, "b", 10)
        await store.schemas(SPACE)
        await store.state.put("group", "name", b"1", 1000)
        await store.state.take_tokens("group", "bucket", 1, interval_us=1000, burst=2)
        assert await store.state.take("group", "name") == b"1"
        assert await held(store) == {"b": last - 3, "c": last}
        await store.ping()


async def test_more_than_memory_takes_two_more_rights(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    base = ["resetkeys", "~memx:*", "resetchannels", "&memx:*", "-@all", *RIGHTS.split()]
    allow(server, *base)
    async with as_memx(server) as store:
        await store.open()
        await put(store, "a", 1)
        assert not await store.confirm(SPACE, "replica")  # written all the same
        assert not await store.confirm(SPACE, "fsync")
        assert "+wait +waitaof" in caplog.text
        caplog.clear()

        allow(server, *(right for right in DURABILITY_RIGHTS.split() if known(server, right)))
        assert not await store.confirm(SPACE, "replica")  # there is none
        assert "denies" not in caplog.text
        assert "+wait" not in caplog.text
        if known(server, "+waitaof"):
            ask(server, "CONFIG SET", "appendonly", "yes")

            async def confirmed() -> bool:
                return await store.confirm(SPACE, "fsync")

            await eventually(confirmed)


def known(server: RedisServer, right: str) -> bool:
    """Whether a server has the command that a right names."""
    found = ask(server, "COMMAND INFO", right[1:])
    return bool(found) and (
        bool(found.get(right[1:])) if isinstance(found, dict) else bool(found[0])
    )


def test_the_readme_names_the_rights() -> None:
    text = (Path(__file__).parents[2] / "server" / "README.md").read_text()
    command = text.partition("ACL SETUSER memx")[2].partition("```")[0]
    assert {word for word in command.split() if word[0] == "+"} == set(RIGHTS.split())
    for right in CLUSTER_RIGHTS.split():
        assert right in text.partition("A cluster needs")[2]


async def test_without_the_right_to_publish_a_commit_is_whole(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    allow(server, "~memx:*", "+@all", "resetchannels")
    async with as_memx(server) as store:
        await store.open()
        listener = Listener()
        stop = await store.tail(SPACE, listener)
        first = await put(store, "a", 1)
        second = await put(store, "a", 2)

        assert second == first + 1
        assert await value(store, "a") == 2
        assert await folded(store) == await held(store) == {"a": second}
        assert not listener.records
        assert any("position check" in line and "&memx:*" in line for line in await store.advice())
        assert "position check" in caplog.text
        await store.ping()  # it serves all the same

        allow(server, "&memx:*")

        async def mended() -> bool:
            return not any("position check" in line for line in await store.advice())

        await store._rights.test()
        assert await mended()
        await stop()


@pytest.fixture(scope="module")
def redis_own() -> Iterator[RedisServer]:
    """A Redis in which nobody else has written."""
    with RedisServer(newest_redis()) as server:
        yield server


@pytest.mark.parametrize("right", sorted(set(RIGHTS.split()) - ONLY_SOMETIMES))
async def test_each_right_that_is_missing_is_named_at_the_start(
    redis_own: RedisServer, right: str
) -> None:
    granted = [each for each in RIGHTS.split() if each != right]
    allow(redis_own, "reset")
    allow(redis_own, "resetkeys", "~memx:*", "resetchannels", "&memx:*", "-@all", *granted)
    async with opened(redis_own) as other, as_memx(redis_own) as store:
        before = await put(other, "a", 1)
        if right == "+ping":  # nothing is said without it
            with pytest.raises(StoreUnavailable) as refusal:
                await store.open()
            assert "ping" in str(refusal.value.args)
            return
        if right in NOTICE_RIGHTS:
            await store.open()
            if right != "+unsubscribe":
                assert any(right in line for line in await store.advice())
            assert isinstance(await outcome_of(store, Put("a", b"2")), Committed)
            return
        with pytest.raises(StoreUnavailable) as refusal:
            await store.open()
        assert right[1:] in str(refusal.value.args)
        if right == "+info":
            return

        assert any(right in line for line in await store.advice())
        outcome = await outcome_of(store, Put("a", b"2"))
        assert isinstance(outcome, RightsMissing)
        assert right in outcome.detail
        assert (await held(other), await folded(other)) == ({"a": before}, {"a": before})

        allow(redis_own, right)
        await store._rights.test()
        assert isinstance(await outcome_of(store, Put("a", b"2")), Committed)
        assert await folded(other) == await held(other)


WRITING = ["hset", "set", "zadd", "zrem", "hdel", "del", "xadd", "xtrim", "publish"]


@pytest.mark.parametrize("right", [*WRITING, "hget", "xrange", "getrange", "get", "zscore"])
async def test_a_right_that_is_taken_away_leaves_nothing_half_done(
    server: RedisServer, right: str
) -> None:
    allow(server, "~memx:*", "resetchannels", "&memx:*", "+@all")
    async with opened(server) as other, as_memx(server, log_max_records=3) as store:
        await store.open()
        await commit(
            store, Put("old", b"1", ttl_ms=60_000), Put("kept", b"1"), PutSchema("x", b"{}")
        )
        kept = (await commit(store, Put("old", b"2", ttl_ms=60_000))).position
        for number in range(3):
            kept = (await commit(store, Put("filler", b"%d" % number))).position

        before = await held(other), await folded(other)

        allow(server, f"-{right}")
        writes: list[Write] = [Put("new", b"1", ttl_ms=60_000), Put("old", b"3"), Delete("kept")]
        # Behind the delete, in the same run: what is refused here would come after writes.
        outcome, behind = await asyncio.gather(
            outcome_of(store, *writes), outcome_of(store, Put("kept", b"2"), Put("newer", b"1"))
        )
        if isinstance(outcome, StoreUnavailable):
            assert isinstance(outcome, RedisDenied)
            assert isinstance(behind, RedisDenied)
            assert (await held(other), await folded(other)) == before
        allow(server, f"+{right}")
        await store._rights.test()

        after = (await commit(store, Put("behind", b"1"))).position
        assert await verdict(other, kept) == "resumes"
        state = await held(other)
        assert state["behind"] == after.revision > kept.revision
        assert await value(other, "old") == (3 if isinstance(outcome, Committed) else 2)
        listed = {key for key, _ in (await other.list(SPACE)).entries}
        for key in ("new", "old", "kept", "newer", "behind", "filler"):
            assert (await read(other, key) is not None) == (key in listed)


# A log that ends above the head


async def planted(server: RedisServer, store: RedisStore, revision: int, *fields: str) -> None:
    ask(server, "XADD", store._keyspaces.space(SPACE).log, f"{revision}-0", *fields)


def set_of_a(revision: int) -> str:
    """A change of the key ``a``."""
    return f'{{"event":"value","action":"set","key":"a","revision":{revision},"value":2}}'


async def test_a_record_above_the_head_is_shown_to_nobody_and_removed(server: RedisServer) -> None:
    async with opened(server) as store:
        listener = Listener()
        await store.tail(SPACE, listener)
        first = (await commit(store, Put("a", b"1"))).position
        head = first.revision
        change = set_of_a(head + 1)
        await planted(server, store, head + 1, "previous", str(head), f"set:{head}:a", change)

        assert [record.position for record in await whole_log(store)] == [first]
        assert (await store.log(SPACE, first, 10)).records == []
        assert (await store.head(SPACE)) == first
        assert len((await store.history(SPACE, "a", 10)).changes) == 1

        after = (await commit(store, Put("a", b"3"))).position
        assert after.revision > head + 1
        assert after.lineage != first.lineage
        assert await verdict(store, first) == "resumes"
        (record,) = (await store.log(SPACE, first, 10)).records
        assert (record.position, record.previous) == (after, head)
        assert await value(store, "a") == 3
        assert [seen(each)["value"] for each in (await store.history(SPACE, "a", 10)).changes] == [
            3,
            1,
        ]
        await listener.heard(after.revision)
        assert await put(store, "a", 4) == after.revision + 1


async def test_where_entries_of_it_were_written_every_cursor_is_diverged(
    server: RedisServer,
) -> None:
    async with opened(server) as store:
        first = (await commit(store, Put("a", b"1"))).position
        revision = first.revision + 1
        change = set_of_a(revision)
        await planted(
            server,
            store,
            revision,
            "previous",
            str(first.revision),
            f"set:{first.revision}:a",
            change,
        )
        stamp = f'"revision":{revision},"version":2,"ts":1.5,"writer":"w","expires_at":null'
        entry = "{" + stamp + ',"key":"a","value":2}'
        ask(server, "SET", store._keyspaces.space(SPACE).entry("a"), entry)

        after = (await commit(store, Put("b", b"1"))).position
        assert await verdict(store, first) == "diverged"
        assert await value(store, "a") == 2
        assert await held(store) == {"a": revision, "b": after.revision}
        assert [record.position for record in await whole_log(store)][-1] == after
        assert await put(store, "b", 2) == after.revision + 1


async def test_a_record_that_memx_can_not_have_made_is_removed_too(server: RedisServer) -> None:
    async with opened(server) as store:
        first = (await commit(store, Put("a", b"1"))).position
        await planted(server, store, 2**60, "what", "ever")
        after = (await commit(store, Put("a", b"2"))).position
        assert 2**53 > after.revision > first.revision
        assert await put(store, "a", 3) == after.revision + 1


async def test_others_of_the_same_turn_are_committed_behind_the_repair(server: RedisServer) -> None:
    async with opened(server) as store:
        first = (await commit(store, Put("a", b"1"))).position
        await planted(server, store, first.revision + 1, "previous", str(first.revision))
        outcomes = await store.commit(
            SPACE, [Transaction(WRITER, [Put(f"k{number}", b"1")]) for number in range(20)]
        )
        again = await asyncio.gather(*(put(store, f"k{number}") for number in range(20)))
        revisions = [each.position.revision for each in outcomes if isinstance(each, Committed)]
        assert len(revisions) == 20
        assert revisions + sorted(again) == list(range(revisions[0], revisions[0] + 40))


# Slots on the move


@asynccontextmanager
async def moving_cluster(
    binary: str, start: Start
) -> AsyncIterator[tuple[RedisServer, RedisServer, RedisStore]]:
    """A cluster of two, and a store in whose first server the space is."""
    one, two = (start(binary, {"cluster-enabled": "yes"}) for _ in range(2))
    store = RedisStore(await cluster_of([one, two]))
    await store.open()
    slot = store._keyspaces.space(SPACE).slot
    owner, other = (one, two) if slot < 8192 else (two, one)
    try:
        yield owner, other, store
    finally:
        await store.close()


def begin_move(owner: RedisServer, other: RedisServer, slot: int) -> None:
    ask(other, "CLUSTER SETSLOT", slot, "IMPORTING", ask(owner, "CLUSTER MYID"))
    ask(owner, "CLUSTER SETSLOT", slot, "MIGRATING", ask(other, "CLUSTER MYID"))


async def whole_or_nothing(store: RedisStore, outcome: object) -> None:
    """Whatever came of it, log and entries agree."""
    assert isinstance(outcome, Committed | SlotMoving), outcome
    assert await folded(store) == await held(store)


async def test_a_transaction_in_a_slot_that_is_moving_is_all_or_nothing(
    binary: str, start: Start
) -> None:
    async with moving_cluster(binary, start) as (owner, other, store):
        slot = store._keyspaces.space(SPACE).slot
        await commit(store, PutSchema("nobody", b"{}"))
        await commit(store, Put("a", b"1", ttl_ms=600_000), Put("b", b"1"), Put("c", b"1"))
        begin_move(owner, other, slot)

        # The first empties the index of expiries, which the second and the third ask.
        outcome = await outcome_of(store, Put("a", b"2"), Put("b", b"2"), Put("c", b"2"))
        await whole_or_nothing(store, outcome)
        assert isinstance(outcome, Committed)

        ask(owner, "CLUSTER SETSLOT", slot, "STABLE")
        ask(other, "CLUSTER SETSLOT", slot, "STABLE")
        assert isinstance(await outcome_of(store, Put("new", b"1", ttl_ms=600_000)), Committed)
        assert await folded(store) == await held(store)


async def test_one_append_that_empties_the_index_of_expiries(binary: str, start: Start) -> None:
    async with moving_cluster(binary, start) as (owner, other, store):
        slot = store._keyspaces.space(SPACE).slot
        await commit(store, PutSchema("nobody", b"{}"))
        await commit(store, Put("a", b"[1]", ttl_ms=600_000), Put("b", b"1"))
        revision = (await commit(store, Put("a", b"[1]", ttl_ms=600_000))).position.revision
        begin_move(owner, other, slot)

        appends = [
            Transaction(WRITER, [Put("a", b"[1,2]")], [Compare("a", revision)]),
            Transaction(WRITER, [Put("b", b"2", ttl_ms=600_000)]),  # makes the index again
            Transaction(WRITER, [Delete("a")]),
            Transaction(WRITER, [Put("a", b"[]")]),
        ]
        outcomes = await store.commit(SPACE, appends)
        assert isinstance(outcomes[0], Committed)
        assert all(isinstance(each, Committed | SlotMoving) for each in outcomes), outcomes
        assert await folded(store) == await held(store)
        assert isinstance(await outcome_of(store, Put("unheard of", b"1")), SlotMoving)

        ask(owner, "CLUSTER SETSLOT", slot, "STABLE")
        ask(other, "CLUSTER SETSLOT", slot, "STABLE")

        async def goes_on() -> bool:
            return isinstance(await outcome_of(store, Put("unheard of", b"1")), Committed)

        await eventually(goes_on)
        assert await folded(store) == await held(store)


async def test_what_has_moved_ahead_is_read_where_it_is(binary: str, start: Start) -> None:
    async with moving_cluster(binary, start) as (owner, other, store):
        keyspace = store._keyspaces.space(SPACE)
        await commit(store, Put("a", b"1"), Put("b", b"2"))
        begin_move(owner, other, keyspace.slot)
        ask(owner, "MIGRATE", "127.0.0.1", other.port, keyspace.entry("a"), 0, 5000)

        assert await value(store, "a") == 1
        assert await value(store, "b") == 2
        assert await value(store, "nothing") is None
        outcome = await outcome_of(store, Put("a", b"3"))
        assert isinstance(outcome, SlotMoving)
        assert "moving this space" in outcome.detail

        for name in (*keyspace.shared, keyspace.entry("b")):
            ask(owner, "MIGRATE", "127.0.0.1", other.port, name, 0, 5000)
        for server in (other, owner):
            ask(server, "CLUSTER SETSLOT", keyspace.slot, "NODE", ask(other, "CLUSTER MYID"))

        async def goes_on() -> bool:
            return isinstance(await outcome_of(store, Put("a", b"3")), Committed)

        await eventually(goes_on)
        assert await folded(store) == await held(store)
