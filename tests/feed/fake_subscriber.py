"""A fake subscriber: a lane that a test empties packet by packet, as a slow or fast socket would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from memx_server.domain.access import EventName, Principal, Scopes
from memx_server.domain.feed.conflation import ConflatingLane
from memx_server.domain.feed.feed import Feed
from memx_server.domain.feed.send_queue import Lane, SendQueue
from memx_server.domain.feed.subscriber import Subscription
from memx_server.storage.base import Committed, Delete, Put, Store, Transaction, Write

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.errors import ProtocolError

SPACE = "feed"
DEADLINE = 10.0

Frame = dict[str, Any]


def reader(*patterns: str, space: str = SPACE) -> Principal:
    """A principal who may read what ``patterns`` match."""
    return Principal("reader", Scopes.of(read=patterns or ("*",)), space=space)


async def write(store: Store, *writes: Write, writer: str = "w", space: str = SPACE) -> Committed:
    """Commit a transaction."""
    (outcome,) = await store.commit(space, [Transaction(writer, writes)])
    assert isinstance(outcome, Committed)
    return outcome


async def put(store: Store, key: str, value: Any, *, log_value: bool = True) -> Committed:
    """Commit one value."""
    return await write(store, Put(key, json.dumps(value).encode(), log_value=log_value))


async def put_all(store: Store, values: dict[str, Any]) -> Committed:
    """Commit several values in one transaction."""
    return await write(store, *(Put(k, json.dumps(v).encode()) for k, v in values.items()))


async def delete(store: Store, key: str) -> Committed:
    """Commit a deletion."""
    return await write(store, Delete(key))


class FakeSubscriber:
    """The receiving end of one subscription, and the frames that it has taken."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.frames: list[Frame] = []
        self._failure: asyncio.Future[ProtocolError] = asyncio.get_running_loop().create_future()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """The queue has something."""
        self._woken.set()

    def fail(self, error: ProtocolError) -> None:
        """The subscription cannot go on."""
        self._failure.set_result(error)
        self._woken.set()

    async def failed(self) -> ProtocolError:
        """Wait for the subscription to fail, and return why."""
        return await asyncio.wait_for(self._failure, DEADLINE)

    async def queued(self, kind: str) -> None:
        """Wait until ``kind`` lies in the lane, and take nothing."""
        async with asyncio.timeout(DEADLINE):
            while not any(packet.is_control(kind) for packet in self.lane._packets):
                self._woken.clear()
                await asyncio.wait([asyncio.create_task(self._woken.wait())], timeout=0.01)

    def take_packet(self) -> list[Frame]:
        """Take one packet, as a socket would that has room for one more."""
        lane, packet = self.lane.queue.take()
        if lane.held:
            lane.queue.release(lane)  # this peer has received it at once
        frames = [json.loads(message.text) for message in packet.messages(lane.label)]
        self.frames += frames
        return frames

    async def receive(self) -> Frame:
        """Take packets until there is one more frame than before, and return the first new one."""
        known = len(self.frames)
        while len(self.frames) == known:
            await self._packet()
        return self.frames[known]

    async def until(self, **members: Any) -> list[Frame]:
        """Take packets until a frame has ``members``; return all frames since the last call's end."""
        start = len(self.frames)
        while not any(members.items() <= frame.items() for frame in self.frames[start:]):
            await self._packet()
        return self.frames[start:]

    async def _packet(self) -> None:
        async with asyncio.timeout(DEADLINE):
            while not self.lane.queue:
                assert not self._failure.done(), self._failure
                self._woken.clear()
                await self._woken.wait()
        self.take_packet()


@asynccontextmanager
async def listening(
    feed: Feed,
    pattern: str = "*",
    *,
    principal: Principal | None = None,
    event: EventName = "value",
    since: Position | None = None,
    oldest: bool = False,
    snapshot: bool = False,
    conflate: bool = False,
    controls: bool = True,
    queue_bytes: int = 1_000_000,
) -> AsyncIterator[FakeSubscriber]:
    """Subscribe for the length of the context."""
    queue = SendQueue(queue_bytes, lambda: fake.wake())
    fake = FakeSubscriber((ConflatingLane if conflate else Lane)(queue))
    subscription = Subscription(pattern, event, since, oldest, snapshot, conflate, controls)
    subscriber = await feed.subscribe(principal or reader(), subscription, fake.lane, fake.fail)
    subscriber.start()
    try:
        yield fake
    finally:
        await subscriber.close()


def values(frames: Iterable[Frame]) -> list[tuple[str, Any]]:
    """Key and value of the value events."""
    return [(f["key"], f.get("value")) for f in frames if f["event"] == "value"]


def kinds(frames: Iterable[Frame]) -> list[str]:
    """What the frames are."""
    return [frame["event"] for frame in frames]
