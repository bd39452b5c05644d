"""Runnables that run when keys change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_memx import MemxConnection, MemxTrigger

from memx_sdk import TakenOverError


async def test_runs_for_each_change_in_the_order_of_its_key(connection: MemxConnection) -> None:
    memx = connection.async_context
    seen: list[tuple[str, int]] = []

    async def work(change: dict[str, Any]) -> int:
        seen.append((change["key"], change["value"]))
        return int(change["value"]) * 10

    trigger = MemxTrigger(
        "in:*",
        RunnableLambda(work),
        name="multiplier",
        connection=connection,
        result_key=lambda change: change.key.replace("in:", "out:"),
    )
    async with trigger:
        for value in range(5):
            for key in ("in:a", "in:b"):
                await memx.set(key, value)
        for key in ("out:a", "out:b"):
            await memx.wait_for(key, lambda value: value == 40, timeout=20)
    for key in ("in:a", "in:b"):
        assert [value for name, value in seen if name == key] == list(range(5))
    await connection.aclose()


async def test_takes_up_where_it_had_got_to(connection: MemxConnection) -> None:
    memx = connection.async_context
    seen: list[Any] = []
    arrived = asyncio.Event()

    async def work(value: Any) -> None:
        seen.append(value)
        arrived.set()

    def trigger() -> MemxTrigger:
        return MemxTrigger(
            "in",
            RunnableLambda(work),
            name="worker",
            connection=connection,
            to_input=lambda change: change.value,
        )

    async with trigger():
        await memx.set("in", "first")
        await asyncio.wait_for(arrived.wait(), 20)
    arrived.clear()
    await memx.set("in", "while away")
    async with trigger():
        await asyncio.wait_for(arrived.wait(), 20)
    assert seen == ["first", "while away"]
    await connection.aclose()


async def test_a_newcomer_of_its_name_takes_over(connection: MemxConnection) -> None:
    arrived = asyncio.Event()

    async def work(_: Any) -> None:
        arrived.set()

    first = MemxTrigger("in", RunnableLambda(work), name="one", connection=connection)
    running = asyncio.create_task(first.run())
    async with asyncio.timeout(20):
        while not arrived.is_set():  # until it is at work
            await connection.async_context.increment("in")
    second = MemxTrigger("in", RunnableLambda(work), name="one", connection=connection)
    async with second:
        with pytest.raises(TakenOverError):
            await asyncio.wait_for(running, 20)
    await connection.aclose()
