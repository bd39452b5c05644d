"""What takes from a connection's outbox and sends, at the pace of its peer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from memx_server.domain.feed.messages import Message, Packet
from memx_server.domain.feed.send_queue import Lane, SendQueue
from memx_server.routes.ws.protocol import WireProtocol

_log = logging.getLogger("memx_server")

_SLICE = 0.004
"""Seconds of sending after which other work of the process gets its turn."""


_AT_ONCE = 32 * 1024
"""Bytes after which a socket's frames are written, before more are taken for it."""


class SocketWriter(Protocol):
    """Sends what an outbox holds."""

    def wake(self) -> None:
        """There is something in the outbox."""

    async def close(self) -> None:
        """Stop."""


class SendPump:
    """Lets the sockets that have something to send do so, in slices of the event loop's time."""

    def __init__(self) -> None:
        self._waiting: deque[WireWriter] = deque()
        self._scheduled = False

    def add(self, writer: WireWriter) -> None:
        """Let ``writer`` send soon."""
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
            if time.monotonic() > deadline:
                asyncio.get_running_loop().call_soon(self._run)
                return
        self._scheduled = False


class WireWriter:
    """Writes shared frames straight to a socket of ``WireProtocol``; needs no task of its own."""

    __slots__ = ("_outbox", "_pump", "_wire")

    def __init__(self, wire: WireProtocol, outbox: SendQueue, pump: SendPump) -> None:
        self._wire = wire
        self._outbox = outbox
        self._pump = pump
        wire.on_writable = self.wake

    def wake(self) -> None:
        """There is something to send, or room to send it."""
        self._pump.add(self)

    def flush(self) -> None:
        """Send until nothing is left or the peer falls behind."""
        wire = self._wire
        if not wire.writable.is_set():
            return
        while self._outbox and wire.send_messages(self._some()):
            pass

    def _some(self) -> list[Message]:
        """Take what one system call may carry, at least a packet."""
        outbox = self._outbox
        messages: list[Message] = []
        size = 0
        while outbox and size < _AT_ONCE:
            lane, packet = outbox.take()
            messages += packet.messages(lane.label)
            size += packet.size
        return messages

    def drop(self) -> None:
        """Give the connection up."""
        self._wire.abort()

    async def close(self) -> None:
        """Stop; what is left is not sent."""
        self._wire.on_writable = None


class TaskWriter:
    """Awaits a send for each packet, in a task.

    Args:
        send: Sends a packet; returns when the peer can take more.
        patience: Seconds that a peer may let one packet wait before it is given up.
        given_up: Called when it is.
        idle: What to do when nothing was sent for a while.
        idle_after: Seconds of that while.
    """

    def __init__(
        self,
        outbox: SendQueue,
        send: Callable[[Lane, Packet], Awaitable[None]],
        *,
        patience: float,
        given_up: Callable[[], None],
        idle: Callable[[], Awaitable[None]] | None = None,
        idle_after: float | None = None,
    ) -> None:
        self._outbox = outbox
        self._send = send
        self._patience = patience
        self._given_up = given_up
        self._idle = idle
        self._idle_after = idle_after
        self._something = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """There is something to send."""
        self._something.set()

    async def close(self) -> None:
        """Stop; what is left is not sent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                await self._wait()
                while self._outbox:
                    lane, packet = self._outbox.take()
                    async with asyncio.timeout(self._patience):
                        await self._send(lane, packet)
        except (TimeoutError, OSError):
            self._given_up()

    async def _wait(self) -> None:
        while not self._outbox:
            self._something.clear()
            try:
                async with asyncio.timeout(self._idle_after):
                    await self._something.wait()
            except TimeoutError:
                assert self._idle is not None
                async with asyncio.timeout(self._patience):
                    await self._idle()
