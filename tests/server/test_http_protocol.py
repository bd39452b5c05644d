"""A response leaves with one write, and none of it stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from memx_server.routes.http.response_writing import JoiningTransport


class Wire(asyncio.Transport):
    """Notes what reaches the network, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.calls.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.calls.append(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def joined() -> tuple[JoiningTransport, Wire]:
    wire = Wire()
    return JoiningTransport(wire, asyncio.get_running_loop()), wire


async def test_a_head_and_its_body_leave_together() -> None:
    transport, wire = joined()
    transport.write(b"head,")
    assert wire.calls == []
    transport.write(b"body")
    assert wire.calls == [b"head,body"]
    await asyncio.sleep(0)
    assert wire.calls == [b"head,body"]


async def test_a_head_without_a_body_leaves_as_the_turn_ends() -> None:
    transport, wire = joined()
    transport.write(b"head of a stream")
    await asyncio.sleep(0)
    assert wire.calls == [b"head of a stream"]
    transport.write(b"event")
    await asyncio.sleep(0)
    assert wire.calls == [b"head of a stream", b"event"]


async def test_responses_of_one_turn_keep_their_order() -> None:
    transport, wire = joined()
    for part in (b"a1", b"a2", b"b1", b"b2", b"c1"):
        transport.write(part)
    await asyncio.sleep(0)
    assert wire.calls == [b"a1a2", b"b1b2", b"c1"]


async def test_closing_sends_what_is_held() -> None:
    transport, wire = joined()
    transport.write(b"last words")
    transport.close()
    assert (wire.calls, wire.closed) == ([b"last words"], True)


async def test_a_connection_that_becomes_a_websocket_is_handed_over_whole() -> None:
    transport, wire = joined()
    transport.write(b"held")
    assert transport.release() is wire
    assert wire.calls == [b"held"]
