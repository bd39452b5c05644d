"""Durable subscriptions: at least once, one holder at a time; in both halves, over every transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from memx_sdk import (
    AsyncMemxContext,
    Change,
    InvalidRequestError,
    MemxError,
    Reset,
    TakenOverError,
)
from memx_sdk._async.feed.durable import AsyncDurableClaim
from tests.sdk.halves import Beside, Link
from tests.sdk.streams import DEADLINE, Recorder, subscribe
from tests.support.memx_server import Served


@pytest.fixture
async def ctx(link: Link) -> AsyncIterator[Any]:
    async with link.context(agent="one") as opened:
        yield opened


async def revisions(subscription: Any, count: int) -> list[int]:
    return [(await subscription.next(timeout=DEADLINE)).revision for _ in range(count)]


async def written(ctx: Any, prefix: str, count: int) -> list[int]:
    return [(await ctx.set(f"{prefix}:{n}", n)).revision for n in range(count)]


async def record_of(ctx: Any, name: str) -> dict[str, Any]:
    found = [each for each in await ctx.durable_subscriptions() if each["name"] == name]
    return dict(found[0]) if found else {}


async def test_a_new_name_begins_now_and_the_next_holder_goes_on(ctx: Any, prefix: str) -> None:
    await ctx.set(f"{prefix}:before", 0)
    async with subscribe(ctx, f"{prefix}:*", durable=prefix) as first:
        await first.ready(timeout=DEADLINE)
        expected = await written(ctx, prefix, 4)
        assert await revisions(first, 3) == expected[:3]
    meanwhile = await written(ctx, prefix, 2)

    async with subscribe(ctx, f"{prefix}:*", durable=prefix) as second:
        # The third was handed out, but its successor was never asked for: it comes again.
        assert await revisions(second, 4) == [*expected[2:], *meanwhile]


async def test_a_name_begins_when_its_first_subscriber_is_ready(ctx: Any, prefix: str) -> None:
    async with subscribe(ctx, f"{prefix}:*", durable=prefix) as first:
        await first.ready(timeout=DEADLINE)
        expected = await written(ctx, prefix, 2)

    async with subscribe(ctx, f"{prefix}:*", durable=prefix) as second:
        assert await revisions(second, 2) == expected


async def test_a_new_name_may_begin_with_a_snapshot_or_at_a_cursor(ctx: Any, prefix: str) -> None:
    first = await ctx.set(f"{prefix}:a", 1)
    await ctx.set(f"{prefix}:b", 2)
    for name, options in {"s": {"snapshot": True}, "c": {"since": first.cursor}}.items():
        async with subscribe(ctx, f"{prefix}:*", durable=f"{prefix}{name}", **options) as changes:
            keys = [(await changes.next(timeout=DEADLINE)).key]
            if name == "s":
                keys.append((await changes.next(timeout=DEADLINE)).key)
        assert keys[-1] == f"{prefix}:b"

    async with subscribe(ctx, f"{prefix}:*", durable=f"{prefix}c", since="abc-1") as again:
        item = await again.next(timeout=DEADLINE)
        assert not isinstance(item, Reset), "a stored cursor goes before the one given"
    assert not (await record_of(ctx, f"{prefix}c"))["cursor"].startswith("abc")


async def test_only_what_is_acknowledged_counts(ctx: Any, prefix: str) -> None:
    async with subscribe(ctx, f"{prefix}:*", durable=prefix, auto_ack=False) as first:
        await first.ready(timeout=DEADLINE)
        expected = await written(ctx, prefix, 4)
        changes = [await first.next(timeout=DEADLINE) for _ in range(4)]
        await first.ack(changes[1])
        await first.ack(changes[0])
        assert (await record_of(ctx, prefix))["cursor"] == changes[1].cursor

    async with subscribe(ctx, f"{prefix}:*", durable=prefix, auto_ack=False) as second:
        assert await revisions(second, 2) == expected[2:]


async def test_a_transaction_is_acknowledged_as_a_whole(ctx: Any, prefix: str) -> None:
    async with subscribe(ctx, f"{prefix}:*", durable=prefix, auto_ack=False) as first:
        await first.ready(timeout=DEADLINE)
        await ctx.set(f"{prefix}:0", 0)
        zero = await first.next(timeout=DEADLINE)
        await first.ack(zero)
        await ctx.txn(then=[{"op": "set", "key": f"{prefix}:{name}", "value": 1} for name in "ab"])
        await first.ack(await first.next(timeout=DEADLINE))

    async with subscribe(ctx, f"{prefix}:*", durable=prefix) as second:
        keys = [(await second.next(timeout=DEADLINE)).key for _ in range(2)]
        assert keys == [f"{prefix}:a", f"{prefix}:b"]


async def test_a_callback_that_returned_has_acknowledged(ctx: Any, prefix: str) -> None:
    seen = Recorder()
    async with subscribe(ctx, f"{prefix}:*", seen, durable=prefix) as subscription:
        await subscription.ready(timeout=DEADLINE)
        last = (await written(ctx, prefix, 3))[-1]
        await seen.holds(3)

    record = await record_of(ctx, prefix)
    assert record["cursor"].endswith(f"-{last}")
    assert record["held"] is False


async def test_the_newcomer_takes_over_and_the_old_one_is_ended(
    ctx: Any, link: Link, prefix: str
) -> None:
    async with subscribe(ctx, f"{prefix}:*", durable=prefix) as old:
        await old.ready(timeout=DEADLINE)
        await ctx.set(f"{prefix}:a", 1)
        await old.next(timeout=DEADLINE)
        async with (
            link.context(agent="two") as other,
            subscribe(other, f"{prefix}:*", durable=prefix) as newcomer,
        ):
            await newcomer.ready(timeout=DEADLINE)
            assert (await newcomer.next(timeout=DEADLINE)).key == f"{prefix}:a"

            with pytest.raises(TakenOverError) as taken_over:  # it waits, and has nothing to say
                await old.next(timeout=DEADLINE)
            assert taken_over.value.extra["agent"] == "two"
            with pytest.raises(TakenOverError):
                await old.next(timeout=DEADLINE)
            await ctx.set(f"{prefix}:b", 2)
            assert (await newcomer.next(timeout=DEADLINE)).key == f"{prefix}:b"


async def test_an_acknowledgement_after_the_takeover_is_refused(ctx: Any, prefix: str) -> None:
    async with (
        subscribe(ctx, f"{prefix}:*", durable=prefix, auto_ack=False) as old,
        subscribe(ctx, f"{prefix}:*", durable=prefix, auto_ack=False) as newcomer,
    ):
        await old.ready(timeout=DEADLINE)
        await ctx.set(f"{prefix}:a", 1)
        change = await old.next(timeout=DEADLINE)
        await newcomer.ready(timeout=DEADLINE)

        with pytest.raises(TakenOverError):
            await old.ack(change)
        assert (await record_of(ctx, prefix))["cursor"] != change.cursor


async def test_the_error_hook_of_a_callback_gets_the_takeover(ctx: Any, prefix: str) -> None:
    errors = Recorder()
    async with subscribe(ctx, prefix, Recorder(), durable=prefix, on_error=errors) as old:
        await old.ready(timeout=DEADLINE)
        async with subscribe(ctx, prefix, durable=prefix) as newcomer:
            await newcomer.ready(timeout=DEADLINE)
            (error,) = await errors.holds(1)
    assert isinstance(error, TakenOverError)


async def test_names_belong_to_their_api_key(ctx: Any, link: Link, prefix: str) -> None:
    async with subscribe(ctx, prefix, durable=prefix) as mine:
        await mine.ready(timeout=DEADLINE)
        async with (
            link.context("reader_key") as other,
            subscribe(other, prefix, durable=prefix) as theirs,
        ):
            await theirs.ready(timeout=DEADLINE)
            assert (await record_of(other, prefix))["agent"] is None
            assert (await record_of(ctx, prefix))["agent"] == "one"
            await ctx.set(prefix, 1)
            assert (await mine.next(timeout=DEADLINE)).value == 1
            assert (await theirs.next(timeout=DEADLINE)).value == 1


async def test_a_forgotten_name_begins_anew(ctx: Any, prefix: str) -> None:
    async with subscribe(ctx, prefix, durable=prefix) as first:
        await first.ready(timeout=DEADLINE)
        await ctx.set(prefix, 1)
        await first.next(timeout=DEADLINE)

    assert await ctx.forget_durable(prefix)
    assert not await ctx.forget_durable(prefix)
    assert await record_of(ctx, prefix) == {}
    async with subscribe(ctx, prefix, durable=prefix) as second:
        await second.ready(timeout=DEADLINE)
        await ctx.set(prefix, 2)
        change = await second.next(timeout=DEADLINE)
        assert isinstance(change, Change)
        assert change.value == 2


async def test_only_a_durable_subscription_can_be_acknowledged(ctx: Any, prefix: str) -> None:
    async with subscribe(ctx, prefix) as changes:
        await changes.ready(timeout=DEADLINE)
        await ctx.set(prefix, 1)
        with pytest.raises(InvalidRequestError):
            await changes.ack(await changes.next(timeout=DEADLINE))


async def test_names_have_bounds(ctx: Any, prefix: str) -> None:
    async with subscribe(ctx, prefix, durable="x" * 601) as changes:
        with pytest.raises(InvalidRequestError):
            await changes.ready(timeout=DEADLINE)


async def test_a_crash_at_any_moment_loses_nothing(link: Link, prefix: str, beside: Beside) -> None:
    """Subscribers stop without a word, again and again, while writes go on."""
    seen: list[int] = []
    async with AsyncExitStack() as crashed, replace(link, half="async").context() as writer:

        async def write() -> list[int]:
            return [(await writer.set(f"{prefix}:{n % 7}", n)).revision for n in range(40)]

        async def next_holder() -> Any:
            ctx = await crashed.enter_async_context(link.context())
            return subscribe(ctx, f"{prefix}:*", durable=prefix)

        await (await next_holder()).ready(timeout=DEADLINE)
        writing = beside(write())
        async with asyncio.timeout(30):
            while len(set(seen)) < 40:
                holder = await next_holder()
                for _ in range(6):
                    if len(set(seen)) < 40:
                        seen.append((await holder.next(timeout=DEADLINE)).revision)
        assert set(seen) == set(await writing)


async def _ignore(error: MemxError) -> None:
    """Nobody is to hear of it."""


async def test_who_gives_its_name_up_while_it_begins_is_not_refused(
    server: Served, prefix: str
) -> None:
    async with AsyncMemxContext(server.fresh_key(), server.url) as ctx:
        cursor = (await ctx.set(prefix, 1)).cursor
        claim, other = (
            AsyncDurableClaim(ctx._caller.run, prefix),
            AsyncDurableClaim(ctx._caller.run, prefix),
        )
        await claim.take(_ignore)
        await claim.close()  # as an agent's handler does that stops the agent while it starts
        await claim.begin(cursor)

        taken = AsyncDurableClaim(ctx._caller.run, prefix)
        await taken.take(_ignore)
        await other.take(_ignore)
        with pytest.raises(TakenOverError):
            await taken.begin(cursor)
        await taken.close()
        await other.close()
