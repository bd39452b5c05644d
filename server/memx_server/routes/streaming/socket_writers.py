"""The writers of connections: they take from a send queue and send, at the pace of the peer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from memx_server.domain.feed.messages import Message, Packet
from memx_server.domain.feed.send_queue import Lane, SendQueue
from memx_server.routes.ws.protocol import WireProtocol

_log = logging.getLogger("memx_server")

_SLICE = 0.004
"""Seconds of sending after which the event loop does other work."""

_AT_ONCE = 32 * 1024
"""Bytes that are written by one system call, before more are taken from the queue."""


class SocketWriter(Protocol):
    """Sends what a send queue holds."""

    def wake(self) -> None:
        """Send soon: there is something in the queue."""

    async def close(self) -> None:
        """Stop."""


class SendPump:
    """Lets the sockets of this process that have something to send do so, in slices of time.

    One change may be for ten thousand sockets. Written in one go, they would hold up every request
    meanwhile; with a task for each, switching between the tasks would cost more than the writing.
    """

    def __init__(self) -> None:
        self._waiting: deque[WireWriter] = deque()
        self._scheduled = False

    def add(self, writer: WireWriter) -> None:
        """Let ``writer`` send in this turn of the event loop or the next."""
        self._waiting.append(writer)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        deadline = time.monotonic() + _SLICE
        while self._waiting:
            writer = self._waiting.popleft()
            try:
                writer.flush()
            except Exception:  # noqa: BLE001 - one socket must not keep the others waiting
                _log.exception("a socket cannot be written to; it is dropped")
                writer.drop()
            # Those that are left go on in the next turn, behind what else is ready by then.
            if time.monotonic() > deadline:
                asyncio.get_running_loop().call_soon(self._run)
                return
        self._scheduled = False


class WireWriter:
    """Writes shared frames to a socket of ``WireProtocol``; needs no task of its own.

    Args:
        wire: The socket.
        queue: What is to be sent.
        pump: Calls ``flush`` when there is something.
    """

    __slots__ = ("_pump", "_queue", "_wire")

    def __init__(self, wire: WireProtocol, queue: SendQueue, pump: SendPump) -> None:
        self._wire = wire
        self._queue = queue
        self._pump = pump
        wire.on_writable = self.wake

    def wake(self) -> None:
        """Send soon: there is something in the queue, or the peer can take more."""
        self._pump.add(self)

    def flush(self) -> None:
        """Send until the queue is empty or the peer falls behind."""
        wire = self._wire
        if not wire.writable.is_set():
            return  # the transport calls ``wake`` when it can take more
        while self._queue and self._send_some():
            pass

    def _send_some(self) -> bool:
        """Send as much as one system call carries, at least a packet; tell whether more may follow."""
        queue = self._queue
        messages: list[Message] = []
        paced: list[Lane] = []
        size = 0
        while queue and size < _AT_ONCE:
            lane, packet = queue.take()
            messages += packet.messages(lane.label)
            size += packet.size
            if lane.held:
                paced.append(lane)
        more = self._wire.send_messages(messages)
        # The ping goes behind the packets: its pong says that the peer has read them.
        if paced:
            self._wire.confirm(partial(self._release, paced))
        return more

    def _release(self, lanes: list[Lane]) -> None:
        for lane in lanes:
            self._queue.release(lane)

    def drop(self) -> None:
        """Abort the connection."""
        self._wire.abort()

    async def close(self) -> None:
        """Stop; what is left is not sent."""
        self._wire.on_writable = None


class TaskWriter:
    """Awaits a send for each packet, in a task.

    Args:
        queue: What is to be sent.
        send: Sends a packet; returns when the peer can take more.
        patience: Seconds that a peer may let one packet wait before the writer gives it up.
        given_up: Called when it does.
        idle: Called when nothing was sent for ``idle_after``.
        idle_after: Seconds; None for never.
        pace: Seconds between two packets of a lane that is paced. A peer that confirms nothing may be behind although
            the transport takes more: both kernels and the peer's library have room for thousands of events.
    """

    def __init__(
        self,
        queue: SendQueue,
        send: Callable[[Lane, Packet], Awaitable[None]],
        *,
        patience: float,
        given_up: Callable[[], None],
        idle: Callable[[], Awaitable[None]] | None = None,
        idle_after: float | None = None,
        pace: float = 0.0,
    ) -> None:
        self._queue = queue
        self._send = send
        self._patience = patience
        self._given_up = given_up
        self._idle = idle
        self._idle_after = idle_after
        self._pace = pace
        self._something = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Send: there is something in the queue."""
        self._something.set()

    async def close(self) -> None:
        """Stop; what is left is not sent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                await self._wait()
                while self._queue:
                    lane, packet = self._queue.take()
                    async with asyncio.timeout(self._patience):
                        await self._send(lane, packet)
                    if lane.held:
                        # No more is known of the peer than that the transport takes more. Other lanes are not to
                        # wait for this one's pace, so a timer releases it.
                        loop = asyncio.get_running_loop()
                        loop.call_later(self._pace, self._queue.release, lane)
        except (TimeoutError, OSError):
            # The peer has not taken one packet for as long as it may, or is gone.
            self._given_up()

    async def _wait(self) -> None:
        while not self._queue:
            self._something.clear()
            try:
                async with asyncio.timeout(self._idle_after):
                    await self._something.wait()
            except TimeoutError:
                assert self._idle is not None
                async with asyncio.timeout(self._patience):
                    await self._idle()
