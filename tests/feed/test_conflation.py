"""A subscription that conflates: whoever is behind gets the newest value of each key next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from memx_server.routes.http.events import CONFLATED_EVERY

from tests.feed.sockets import Frame, Socket, client, multiplexed, subscribed
from tests.feed.test_events import streaming
from tests.support.memx_server import Served

WRITES = 2000
ROADS = ("subscribe", "ws")
CONFLATED = "?pattern=k&since=now&conflate=true"


@asynccontextmanager
async def conflating(server: Served, road: str, pattern: str) -> AsyncIterator[Socket]:
    """A conflating subscription that is live, on a socket of its own or on a shared one."""
    if road == "subscribe":
        async with subscribed(server, pattern, conflate="true") as socket:
            await socket.until(event="live")
            yield socket
    else:
        async with multiplexed(server) as shared:
            await shared.send(id="s", op="subscribe", pattern=pattern, conflate=True)
            await shared.until(event="live")
            yield shared


async def write_all(server: Served, key: str, start: int = 0) -> None:
    """Write numbers to one key, one after the other: none is merged before it is published."""
    async with multiplexed(server) as writer:
        for number in range(start, start + WRITES):
            await writer.send(id=number, op="set", key=key, value=number)
            await writer.until(id=number)


async def up_to(socket: Socket, value: Any, pause: float = 0.0) -> list[Frame]:
    """The events up to the one with a value, each taken after a pause."""
    frames: list[Frame] = []
    while not frames or frames[-1]["value"] != value:
        await asyncio.sleep(pause)
        frame = await socket.receive()
        if frame.get("event") == "value":
            frames.append(frame)
    return frames


@pytest.mark.parametrize("road", ROADS)
async def test_a_reader_that_was_away_gets_few_events_and_the_newest(
    server: Served, road: str
) -> None:
    async with conflating(server, road, "k") as socket:
        await write_all(server, "k")
        frames = await up_to(socket, WRITES - 1)
    assert len(frames) < 60  # what its own library had taken already, and the newest
    numbers = [frame["value"] for frame in frames]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("road", ROADS)
async def test_a_slow_reader_is_never_far_behind(server: Served, road: str) -> None:
    async with conflating(server, road, "k") as socket:
        writing = asyncio.create_task(write_all(server, "k"))
        frames = await up_to(socket, WRITES - 1, pause=0.005)
        await writing
    assert len(frames) < WRITES / 2


async def test_a_reader_that_is_not_behind_still_gets_each_value(server: Served) -> None:
    async with conflating(server, "subscribe", "k") as socket, client(server) as http:
        for number in range(20):
            await http.post("/set", json={"key": "k", "value": number})
            assert (await socket.receive())["value"] == number


async def test_an_event_stream_carries_few_events_to_a_reader_that_is_away(server: Served) -> None:
    async with streaming(server, CONFLATED) as stream:
        began = time.monotonic()
        await write_all(server, "k")
        passed = time.monotonic() - began
        numbers: list[int] = []
        while not numbers or numbers[-1] != WRITES - 1:
            numbers.append((await stream.until("value"))[-1]["value"])
    assert numbers == sorted(set(numbers))
    assert (
        len(numbers) <= passed / CONFLATED_EVERY + 3
    )  # the first one goes at once, and the newest comes


async def test_an_event_stream_whose_reader_is_not_behind_waits_for_no_pace(server: Served) -> None:
    async with (
        streaming(server, CONFLATED) as stream,
        client(server) as http,
    ):
        for number in range(2):
            await asyncio.sleep(2 * CONFLATED_EVERY)  # a pause between changes is the point
            await http.post("/set", json={"key": "k", "value": number})
            assert (await stream.until("value"))[-1]["value"] == number


async def test_what_waits_for_a_slow_reader_keeps_nothing_else_of_its_socket_waiting(
    server: Served,
) -> None:
    async with multiplexed(server) as socket, client(server) as http:
        await socket.send(id="a", op="subscribe", pattern="a", conflate=True)
        await socket.send(id="b", op="subscribe", pattern="b")
        await socket.until(event="live")
        for number in range(50):
            await http.post("/set", json={"key": "a", "value": number})
            await http.post("/set", json={"key": "b", "value": number})
        every: list[int] = []
        while not every or every[-1] != 49:
            frame = await socket.receive()
            if frame.get("key") == "b":
                every.append(frame["value"])
        assert every == list(range(50))
        assert (await socket.ask("get", key="a"))["entry"]["value"] == 49
