"""A real server is killed and started again under every kind of watcher at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from memx_server.storage.sqlite import SqliteStore

from memx_sdk import AsyncMemxContext, Reset
from tests.sdk.halves import HALVES, Beside, Half, make_context
from tests.sdk.streams import DEADLINE, Recorder, subscribe
from tests.sdk.tcp_proxy import TcpProxy
from tests.support.memx_server import MemxServer, serve_store

TRANSPORTS = ("http", "websocket")


async def restart(server: MemxServer, how: str) -> None:
    await asyncio.to_thread(getattr(server, how))
    await asyncio.sleep(0.3)  # long enough for first attempts to fail
    await asyncio.to_thread(server.start)


async def write_through_restarts(server: MemxServer, writer: AsyncMemxContext) -> int:
    """Write while the server is killed, and then stopped; returns how many writes there were."""
    number = 0
    for how in ("kill", "stop"):
        for _ in range(5):
            await writer.set(f"k:{number % 3}", number)
            number += 1
        restarting = asyncio.create_task(restart(server, how))
        for _ in range(5):  # some of these find no server at first
            keys = (f"k:{number % 3}", "k:also")
            await writer.txn(then=[{"op": "set", "key": key, "value": number} for key in keys])
            number += 1
        await restarting
    return number


@pytest.mark.timeout(90)
async def test_callbacks_iterators_and_agents_outlive_a_server(beside: Beside) -> None:
    recorders: dict[str, Recorder] = {}
    iterators: dict[str, Any] = {}
    handled = Recorder()
    async with AsyncExitStack() as stack:
        server = await asyncio.to_thread(stack.enter_context, MemxServer())
        open_context = stack.enter_async_context
        for half in HALVES:
            for transport in TRANSPORTS:
                name = f"{half} over {transport}"
                ctx = await open_context(
                    make_context(half, "local_dev_key", server.url, transport=transport)
                )
                recorders[name] = Recorder()
                await subscribe(ctx, "k*", recorders[name]).ready(timeout=DEADLINE)
                iterators[name] = subscribe(ctx, "k*", snapshot=True)
                await iterators[name].ready(timeout=DEADLINE)
        writer = await open_context(
            AsyncMemxContext("local_dev_key", server.url, transport="websocket", max_retries=20)
        )
        agent = writer.agent("critic")
        agent.on("k*", durable=True)(lambda change: handled(change.value))
        await agent.start(DEADLINE)
        waiting = beside(writer.wait_for("k:end", timeout=60))

        number = await write_through_restarts(server, writer)
        await writer.set("k:end", number)

        assert (await waiting).value == number
        log = [
            (change.key, change.value, change.revision)
            for change in (await writer.changes("k*", limit=100)).changes
        ]
        assert len(log) == 10 + 2 * 10 + 1
        for name, recorder in recorders.items():
            changes = await recorder.holds(len(log))
            assert [(c.key, c.value, c.revision) for c in changes] == log, name
        for name, iterator in iterators.items():
            changes = [await iterator.next(timeout=DEADLINE) for _ in log]
            assert [(c.key, c.value, c.revision) for c in changes] == log, name
        assert set(await handled.holds(len(log))) == set(range(number + 1))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_was_away_for_too_long_gets_a_reset_and_the_present(
    half: Half, transport: str, tmp_path: Path
) -> None:
    with serve_store(SqliteStore(tmp_path / "memx.db", log_max_records=5)) as served:
        async with (
            AsyncMemxContext(served.api_key, served.url) as writer,
            TcpProxy(served.url) as proxy,
            make_context(half, served.api_key, proxy.url, transport=transport) as ctx,
            subscribe(ctx, "k*") as changes,
        ):
            await changes.ready(timeout=DEADLINE)
            await writer.set("k0", "seen")
            assert (await changes.next(timeout=DEADLINE)).value == "seen"
            proxy.accepting = False
            proxy.cut()
            for number in range(20):
                await writer.set(f"k{number % 2 + 1}", number)
            proxy.accepting = True

            reset = await changes.next(timeout=DEADLINE)
            assert isinstance(reset, Reset)
            assert reset.reason == "compacted"
            entries = [await changes.next(timeout=DEADLINE) for _ in range(3)]
            assert [(each.key, each.value, each.snapshot) for each in entries] == [
                ("k0", "seen", True),
                ("k1", 18, True),
                ("k2", 19, True),
            ]
            await writer.set("k3", "after")
            assert (await changes.next(timeout=DEADLINE)).value == "after"
