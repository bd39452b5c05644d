"""One connection's bounded queue and its lanes."""

from __future__ import annotations

import asyncio

from memx_server.domain.feed.conflation import ConflatingLane
from memx_server.domain.feed.messages import Event, Packet
from memx_server.domain.feed.send_queue import Lane, SendQueue

from memx_sdk.protocol.cursors import Position


def packet(name: str, size: int = 10) -> Packet:
    """A packet that is told by its key."""
    event = Event("value", b"x" * size, key=name)
    return Packet([event], Position("a", 1), Position("a", 2))


def taken(queue: SendQueue) -> list[str]:
    """What is in the queue, in the order in which it goes out."""
    keys = []
    while queue:
        _, each = queue.take()
        keys.append(each.events[0].key)
    return keys


def test_lanes_take_turns() -> None:
    queue = SendQueue(1000, lambda: None)
    one, other = Lane(queue), Lane(queue)
    for number in range(3):
        one.put(packet(f"one{number}"))
    other.put(packet("other"))
    assert taken(queue) == ["one0", "other", "one1", "one2"]
    assert (queue.size, one.size, other.size) == (0, 0, 0)


def test_an_urgent_lane_goes_first_and_until_it_is_empty() -> None:
    queue = SendQueue(1000, lambda: None)
    lane, urgent = Lane(queue), Lane(queue, urgent=True)
    for number in range(2):
        lane.put(packet(f"event{number}"))
    for number in range(3):
        urgent.put(packet(f"answer{number}"))
    assert taken(queue) == ["answer0", "answer1", "answer2", "event0", "event1"]


def test_a_writer_is_woken_once_there_is_something() -> None:
    woken: list[int] = []
    queue = SendQueue(1000, lambda: woken.append(queue.size))
    lane, other = Lane(queue), Lane(queue)
    for each in (lane, lane, other):
        each.put(packet("k"))
    assert len(woken) == 1
    taken(queue)
    other.put(packet("k"))
    assert len(woken) == 2


def test_a_paced_lane_waits_for_its_packet_and_keeps_no_other_waiting() -> None:
    woken: list[int] = []
    queue = SendQueue(1000, lambda: woken.append(queue.size))
    paced, other = ConflatingLane(queue), Lane(queue)
    paced.put(packet("k"))
    assert taken(queue) == ["k"]
    for name in ("a", "b", "a"):
        paced.put(packet(name))
    assert not queue
    other.put(packet("other"))
    assert taken(queue) == ["other"]
    woken.clear()
    queue.release(paced)
    assert len(woken) == 1
    lane, both = queue.take()
    assert (lane, [event.key for event in both.events]) == (paced, ["b", "a"])
    queue.release(paced)
    assert (bool(queue), queue.size) == (False, 0)


async def test_who_fills_it_waits_until_it_is_half_empty() -> None:
    size = packet("k").size
    queue = SendQueue(4 * size, lambda: None)
    lane = Lane(queue)
    for _ in range(4):
        assert not queue.full
        await queue.drain()
        lane.put(packet("k"))
    assert queue.full
    waiting = asyncio.create_task(queue.drain())
    await asyncio.sleep(0)
    for expected in (False, True):
        queue.take()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.done() is expected


async def test_what_is_cleared_makes_room() -> None:
    queue = SendQueue(10, lambda: None)
    lane = Lane(queue)
    lane.put(packet("k"))
    waiting = asyncio.create_task(queue.drain())
    await asyncio.sleep(0)
    lane.clear()
    await waiting
    assert not queue
