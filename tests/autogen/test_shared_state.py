"""A typed state that several teams share."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from autogen_memx import MemxConnection, MemxSharedState
from pydantic import BaseModel, ValidationError

from memx_sdk import AsyncMemxContext, MemxTimeout, SchemaViolationError, memxContext
from tests.support.memx_server import Served


class Board(BaseModel):
    todo: list[str] = []
    done: list[str] = []
    count: int = 0


class Strict(BaseModel):
    needed: int


async def test_reads_and_changes_several_keys_as_one(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    board = MemxSharedState(Board, "board", connection)
    assert await board.read() == Board()

    def finish(state: Board) -> None:
        state.done.append(state.todo.pop())

    await board.update(lambda state: Board(todo=["bake"], count=state.count + 1))
    after = await board.update(finish, reason="baked")
    assert after == await board.read() == Board(done=["bake"], count=1)
    todo, done = await memx.history("board:todo"), await memx.history("board:done")
    assert todo[0].revision == done[0].revision
    assert done[0].reason == "baked"
    assert len(await memx.history("board:count")) == 1  # it did not change the second time


async def test_four_teams_lose_none_of_a_thousand_updates(connection: MemxConnection) -> None:
    def count(state: Board) -> None:
        state.count += 1

    async def team() -> None:
        board = MemxSharedState(Board, "board", connection)
        for _ in range(250):
            await board.update(count)

    await asyncio.gather(*(team() for _ in range(4)))
    assert (await MemxSharedState(Board, "board", connection).read()).count == 1000


async def test_tells_of_each_change_whoever_makes_it(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    board = MemxSharedState(Board, "board", connection)
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def note(state: Board) -> None:
        seen.put_nowait(state.count)

    stop = board.on_change(note)
    assert await asyncio.wait_for(seen.get(), 10) == 0
    await memx.set("board:count", 7)
    assert await asyncio.wait_for(seen.get(), 10) == 7
    stop()
    await board.close()


async def test_a_handler_outlives_what_it_raises_and_what_the_model_refuses(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    board = MemxSharedState(Board, "board", connection)
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def note(state: Board) -> None:
        seen.put_nowait(state.count)
        if state.count == 1:
            raise RuntimeError("a mistake of the handler")

    board.on_change(note)
    assert await asyncio.wait_for(seen.get(), 10) == 0
    await memx.set("board:count", 1)
    assert await asyncio.wait_for(seen.get(), 10) == 1
    await memx.set("board:count", "many")
    await memx.set("board:count", 2)
    async with asyncio.timeout(10):
        while await seen.get() != 2:
            pass
    await board.close()


async def test_a_change_that_no_reader_could_read_is_not_written(
    connection: MemxConnection,
) -> None:
    board = MemxSharedState(Board, "board", connection)
    with pytest.raises(ValidationError, match="count"):
        await board.update(lambda state: setattr(state, "count", "many"))

    async def late(state: Board) -> Board:
        return state

    change: Any = late
    with pytest.raises(TypeError, match="may not be async"):
        await board.update(change)
    assert await board.read() == Board()


async def test_what_does_not_fit_is_said(
    connection: MemxConnection, memx: AsyncMemxContext
) -> None:
    board = MemxSharedState(Board, "board", connection)
    await memx.set("board:count", "many")
    with pytest.raises(ValidationError, match="count"):
        await board.read()
    await memx.set("board:count", 1)
    await memx.set_schema("board:todo", {"maxItems": 0})
    with pytest.raises(SchemaViolationError):
        await board.update(lambda state: Board(todo=["x"]))
    with pytest.raises(ValueError, match="needed"):
        MemxSharedState(Strict, "s", connection)
    with pytest.raises(KeyError):
        board.key("unknown")


async def test_gives_up_in_time(connection: MemxConnection, served: Served, api_key: str) -> None:
    board = MemxSharedState(Board, "board", connection)
    with memxContext(api_key, served.url) as rival:

        def always_late(state: Board) -> Board:
            rival.increment("board:count")  # in between, each time: no commit can succeed
            return Board(count=state.count + 1)

        with pytest.raises(MemxTimeout):
            await board.update(always_late, timeout=0.3)
