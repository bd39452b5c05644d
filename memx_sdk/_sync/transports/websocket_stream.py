# Generated from memx_sdk/_async/transports/websocket_stream.py by tools/unasync.py; change that file, not this one.
"""One subscription among many on a socket."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from memx_sdk._sync._concurrency import Event
from memx_sdk.errors import MemxConnectionError, MemxError, MemxTimeout

MOST_WAITING_BYTES: Final = 4 * 1024 * 1024
"""Bytes that may wait for a slow reader; past them the stream ends, and its reader resumes it."""


class MultiplexedStream:
    """Messages that wait for their reader, so that the socket never waits for one of its readers.

    Args:
        snapshot: It begins with a snapshot, which cannot be resumed in the middle, and so is let in
            whole.
    """

    def __init__(self, *, snapshot: bool) -> None:
        self._leave: Callable[[], None] | None = None
        self._in_snapshot = snapshot
        # The reader of the socket puts, one caller takes. Append and pop of a deque are one step
        # each for threads, so there is no lock. Bytes are counted on either side by itself: one
        # number that both change would lose what one adds while the other subtracts.
        self._messages: deque[bytes] = deque()
        self._put_bytes = 0
        self._taken_bytes = 0
        self._ended: MemxError | None = None
        self._arrived = Event()

    def receive(self, timeout: float | None = None) -> bytes:
        """Return the next message; see `MessageStream.receive`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        # Messages go before the end: what arrived before the socket broke is still to be handed on.
        while (message := self._take()) is None:
            if self._ended is not None:
                raise self._ended
            self._arrived.clear()
            # A message that came between the look above and the clear has set the flag in vain:
            # look again before waiting for it.
            if self._messages or self._ended is not None:
                continue
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._arrived.wait(remaining):
                raise MemxTimeout("timeout", "no message came in time")
        self._taken_bytes += len(message)
        return message

    def _take(self) -> bytes | None:
        """Take the first message; None where there is none."""
        # Not asked first whether there is one: `close`, from another thread, drops what waits, and may
        # do so between the question and the taking.
        try:
            return self._messages.popleft()
        except IndexError:
            return None

    def close(self) -> None:
        """Leave; a pending ``receive`` raises. Closing twice is harmless."""
        # Dropped before the end is set, so that whoever waits in `receive` gets the error and not
        # one more message.
        self._messages.clear()
        self._give_up("the subscription was closed")

    def opened(self, leave: Callable[[], None]) -> None:
        """The server has opened it.

        Args:
            leave: Is called when the reader wants no more; must not wait, may be called twice.
        """
        self._leave = leave
        if self._ended is not None:  # its reader closed it while the server was opening it
            leave()

    def put(self, event: str | None, message: bytes) -> None:
        """Let a message in; called by whoever reads the socket."""
        if self._ended is not None:
            return
        # A snapshot follows a reset and ends with ``live``.
        if event == "reset":
            self._in_snapshot = True
        elif event == "live":
            self._in_snapshot = False
        # Before the flag: a reader that wakes must find it.
        self._messages.append(message)
        self._put_bytes += len(message)
        self._arrived.set()
        # The stream ends instead of holding the socket back, which carries the answers of everybody
        # else. What waits is still read; then the reader resumes behind it. A snapshot is spared,
        # or one that is larger than the bound would begin anew for ever.
        waiting_bytes = self._put_bytes - self._taken_bytes
        if waiting_bytes > MOST_WAITING_BYTES and not self._in_snapshot:
            self._give_up("its reader is far behind; it will resume where it is")

    def end(self, error: MemxError) -> None:
        """Raise ``error`` for the reader once it has read what has arrived."""
        # The first reason stands: that of a broken socket is not to replace that of a slow reader.
        self._ended = self._ended or error
        self._arrived.set()

    def _give_up(self, why: str) -> None:
        self.end(MemxConnectionError("connection", why))
        if self._leave is not None:
            self._leave()
