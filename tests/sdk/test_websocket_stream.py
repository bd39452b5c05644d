"""One subscription on a socket whose reader, closer and socket are threads of their own."""

from __future__ import annotations

from collections import deque

import pytest

from memx_sdk._async.transports.websocket_stream import AsyncMultiplexedStream
from memx_sdk._sync.transports.websocket_stream import MOST_WAITING_BYTES, MultiplexedStream
from memx_sdk.errors import MemxConnectionError


class Dropped(deque[bytes]):
    """What waits for a reader, and is dropped by another thread once the reader has looked whether there is some."""

    def __bool__(self) -> bool:
        found = super().__len__() > 0
        self.clear()
        return found


def test_closing_between_a_look_and_the_taking_is_a_closed_subscription() -> None:
    stream = MultiplexedStream(snapshot=False)
    stream._messages = Dropped([b"one"])
    stream.end(MemxConnectionError("connection", "the subscription was closed"))
    assert stream.receive(timeout=5) == b"one"  # nobody looked, so nobody dropped it
    stream._messages = Dropped([b"two"])
    assert bool(stream._messages)  # another thread drops it now
    with pytest.raises(MemxConnectionError, match="was closed"):
        stream.receive(timeout=5)


def test_what_is_taken_while_more_is_put_is_counted() -> None:
    stream = MultiplexedStream(snapshot=False)

    class TakenMeanwhile(bytes):
        """A message while whose size is asked for, the reader takes the one before."""

        def __len__(self) -> int:
            if len(stream._messages) > 1:
                stream.receive(timeout=5)
            return super().__len__()

    size = MOST_WAITING_BYTES // 2
    for _ in range(8):  # at most two wait at any time, which is no more than may
        stream.put("value", TakenMeanwhile(size))
        assert stream._ended is None


async def test_what_has_arrived_goes_before_the_end() -> None:
    stream = AsyncMultiplexedStream(snapshot=False)
    stream.put("value", b"one")
    stream.end(MemxConnectionError("connection", "the socket broke"))
    assert await stream.receive(timeout=5) == b"one"
    with pytest.raises(MemxConnectionError, match="the socket broke"):
        await stream.receive(timeout=5)
