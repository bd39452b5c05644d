"""Watching a real server, in both halves, over every transport."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from memx_sdk import Change, ForbiddenError, MemxTimeout, Reset
from tests.sdk.halves import Beside, Link
from tests.sdk.streams import DEADLINE, Recorder, subscribe, taken


@pytest.fixture
async def ctx(link: Link) -> AsyncIterator[Any]:
    """A context of either half, over every transport."""
    async with link.context(agent="one") as opened:
        yield opened


async def test_changes_come_with_all_that_is_known_of_them(ctx: Any, prefix: str) -> None:
    async with subscribe(ctx, f"{prefix}:*") as changes:
        await changes.ready(timeout=DEADLINE)
        written = await ctx.set(f"{prefix}:a", {"n": 1}, reason="because", ttl=60)
        change = await changes.next(timeout=DEADLINE)

    assert isinstance(change, Change)
    assert (change.event, change.action, change.value) == ("value", "set", {"n": 1})
    assert (change.key, change.revision, change.version) == (
        f"{prefix}:a",
        written.revision,
        written.version,
    )
    assert (change.reason, change.ts, change.cursor) == ("because", written.ts, written.cursor)
    assert change.writer.endswith("/one")
    assert change.expires_at == written.expires_at
    assert change.snapshot is False
    assert not {"sub", "more"} & change.keys()


async def test_deletions_and_expiries_are_changes(ctx: Any, prefix: str) -> None:
    async with subscribe(ctx, prefix) as changes:
        await changes.ready(timeout=DEADLINE)
        await ctx.set(prefix, 1)
        await ctx.delete(prefix)
        await ctx.set(prefix, 2, ttl=0.05)
        seen = [await changes.next(timeout=DEADLINE) for _ in range(4)]

    assert [(change.action, change.value) for change in seen] == [
        ("set", 1),
        ("delete", None),
        ("set", 2),
        ("expire", None),
    ]


async def test_a_transaction_arrives_as_one(ctx: Any, prefix: str) -> None:
    keys = [f"{prefix}:{letter}" for letter in "abc"]
    async with subscribe(ctx, f"{prefix}:*") as changes:
        await changes.ready(timeout=DEADLINE)
        before = changes.cursor
        done = await ctx.txn(then=[{"op": "set", "key": key, "value": key} for key in keys])
        seen = [await changes.next(timeout=DEADLINE)]
        assert changes.cursor == before
        seen += [await changes.next(timeout=DEADLINE) for _ in range(2)]

        assert [(change.key, change.revision) for change in seen] == [
            (key, done.revision) for key in keys
        ]
        assert [change.cursor for change in seen] == [None, None, done.cursor]
        assert changes.cursor == done.cursor


async def test_a_cursor_resumes_behind_it(ctx: Any, prefix: str) -> None:
    first = await ctx.set(f"{prefix}:a", 1)
    await ctx.set(f"{prefix}:b", 2)
    await ctx.delete(f"{prefix}:a")

    async with subscribe(ctx, f"{prefix}:*", since=first.cursor) as changes:
        seen = [await changes.next(timeout=DEADLINE) for _ in range(2)]

    assert [(change.key, change.action) for change in seen] == [
        (f"{prefix}:b", "set"),
        (f"{prefix}:a", "delete"),
    ]


async def test_a_snapshot_comes_first(ctx: Any, prefix: str) -> None:
    for name in "ba":
        await ctx.set(f"{prefix}:{name}", name)
    async with subscribe(ctx, f"{prefix}:*", snapshot=True) as changes:
        await changes.ready(timeout=DEADLINE)
        await ctx.set(f"{prefix}:c", "c")
        seen = [await changes.next(timeout=DEADLINE) for _ in range(3)]

    assert [(change.value, change.snapshot) for change in seen] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]


async def test_a_made_up_cursor_is_answered_with_the_present_state(ctx: Any, prefix: str) -> None:
    await ctx.set(prefix, 1)
    async with subscribe(ctx, prefix, since="abc-5") as changes:
        reset = await changes.next(timeout=DEADLINE)
        entry = await changes.next(timeout=DEADLINE)

    assert isinstance(reset, Reset)
    assert reset.reason == "diverged"
    assert (entry.value, entry.snapshot) == (1, True)


async def test_schemas_are_watched_too(ctx: Any, prefix: str) -> None:
    async with (
        subscribe(ctx, f"{prefix}*", event="schema") as schemas,
        subscribe(ctx, f"{prefix}*", event="all") as everything,
    ):
        await schemas.ready(timeout=DEADLINE)
        await everything.ready(timeout=DEADLINE)
        await ctx.set(prefix, 1)
        await ctx.set_schema(prefix, {"type": "integer"})

        change = await schemas.next(timeout=DEADLINE)
        assert (change.event, change.action, change.key) == ("schema", "schema", prefix)
        assert change.schema == {"type": "integer"}
        both = [await everything.next(timeout=DEADLINE) for _ in range(2)]
        assert [change.event for change in both] == ["value", "schema"]


async def test_values_of_several_hundred_kilobytes_arrive(ctx: Any, prefix: str) -> None:
    value = "ä" * 500_000
    async with subscribe(ctx, prefix) as changes:
        await changes.ready(timeout=DEADLINE)
        await ctx.set(prefix, value)
        assert (await changes.next(timeout=DEADLINE)).value == value


async def test_a_callback_gets_what_the_published_client_gave(ctx: Any, prefix: str) -> None:
    recorder = Recorder()
    async with subscribe(ctx, prefix, recorder) as subscription:
        await subscription.ready(timeout=DEADLINE)
        await ctx.set(prefix, {"n": 1})
        (data,) = await recorder.holds(1)

    assert (data["event"], data["key"], data["value"]) == ("value", prefix, {"n": 1})


async def test_conflated_readers_end_with_the_newest_value(ctx: Any, prefix: str) -> None:
    async with subscribe(ctx, prefix, conflate=True) as changes:
        await changes.ready(timeout=DEADLINE)
        for number in range(50):
            await ctx.set(prefix, number)
        seen = [-1]
        while seen[-1] != 49:
            seen.append((await changes.next(timeout=DEADLINE)).value)

    assert seen == sorted(seen)


@pytest.mark.parametrize("event", ["value", "schema"])
async def test_what_may_not_be_read_is_refused(link: Link, prefix: str, event: str) -> None:
    async with (
        link.context("writer_key") as ctx,
        subscribe(ctx, prefix, event=event) as changes,
    ):
        with pytest.raises(ForbiddenError):
            await changes.ready(timeout=DEADLINE)


async def test_many_subscriptions_at_once(ctx: Any, prefix: str) -> None:
    recorders = [Recorder() for _ in range(20)]
    handles = [
        subscribe(ctx, f"{prefix}:{number}", recorder) for number, recorder in enumerate(recorders)
    ]
    for handle in handles:
        await handle.ready(timeout=DEADLINE)
    for number in range(20):
        await ctx.set(f"{prefix}:{number}", number)
    for number, recorder in enumerate(recorders):
        assert [change.value for change in await recorder.holds(1)] == [number]
    for handle in handles:
        await handle.close()


async def test_waiting_for_a_value(ctx: Any, prefix: str, beside: Beside) -> None:
    waiting = beside(ctx.wait_for(prefix, lambda value: value >= 3, timeout=DEADLINE))
    for number in itertools.count():
        await ctx.set(prefix, number)
        if waiting.done() or number > 1000:
            break
        await asyncio.sleep(0.005)

    entry = await waiting
    assert entry.value >= 3
    assert (entry.key, entry.writer.endswith("/one")) == (prefix, True)


async def test_what_is_there_already_is_not_waited_for(ctx: Any, prefix: str) -> None:
    written = await ctx.set(prefix, None)

    entry = await ctx.wait_for(prefix, timeout=DEADLINE)

    assert (entry.value, entry.revision) == (None, written.revision)


async def test_waiting_has_an_end(ctx: Any, prefix: str) -> None:
    await ctx.set(prefix, 1)
    with pytest.raises(MemxTimeout, match=prefix):
        await ctx.wait_for(prefix, lambda value: value == 2, timeout=0.2)


async def test_values_that_the_log_does_not_keep_are_waited_for_as_well(
    ctx: Any, prefix: str, beside: Beside
) -> None:
    waiting = beside(ctx.wait_for(prefix, lambda value: value == 7, timeout=DEADLINE))
    async with subscribe(ctx, prefix) as changes:
        await changes.ready(timeout=DEADLINE)
        await ctx.set(prefix, 6, history=False)
        await ctx.set(prefix, 7, history=False)

    assert (await waiting).value == 7


async def test_no_wake_up_is_lost_between_looking_and_watching(
    ctx: Any, prefix: str, beside: Beside
) -> None:
    """Sets at every moment around the start of the wait; each must be seen."""
    for round_ in range(15):
        key = f"{prefix}:{round_}"
        waiting = beside(ctx.wait_for(key, timeout=DEADLINE))
        await asyncio.sleep(round_ * 0.0007)
        await ctx.set(key, round_)
        assert (await waiting).value == round_


async def test_changes_before_ready_are_not_promised_and_after_it_are(
    ctx: Any, prefix: str
) -> None:
    async with subscribe(ctx, prefix) as changes:
        await changes.ready(timeout=DEADLINE)
        revisions = [(await ctx.set(prefix, number)).revision for number in range(10)]

        assert await taken(changes, 10) == [(prefix, revision) for revision in revisions]


async def test_presence_is_watched_too(ctx: Any, link: Link, prefix: str) -> None:
    async with subscribe(ctx, "*", event="presence") as presence:
        await presence.ready(timeout=DEADLINE)
        async with link.context(agent=prefix) as newcomer:
            await newcomer.get(prefix)
            while (event := await presence.next(timeout=DEADLINE)).get("agent") != prefix:
                pass

    assert isinstance(event, Change)
    assert (event.event, event.action) == ("presence", "join")
