# Generated from memx_sdk/_async/feed/reader.py by tools/unasync.py; change that file, not this one.
"""The reader of one feed, over as many streams as it takes."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Final

from memx_sdk._sync._concurrency import Event, Lock
from memx_sdk.core.conflation import ConflatedSteps
from memx_sdk.core.forks import forked_error, watch_forks
from memx_sdk.core.reconnect import Backoff, refusal
from memx_sdk.core.subscription import FeedRequest, FeedState, Received
from memx_sdk.core.transport import MessageStream, Transport
from memx_sdk.core.values import decode
from memx_sdk.errors import (
    MemxClosedError,
    MemxConnectionError,
    MemxError,
    MemxTimeout,
    error_from,
)

log = logging.getLogger("memx_sdk")

_STEADY: Final = 10.0
"""Seconds after which a stream has shown that it works, even if it brought nothing."""

_CATCH_UP_SECONDS: Final = 0.05
"""Seconds for which a conflated feed is read on before a change of it is handed out."""

_LULL_SECONDS: Final = 0.002
"""Seconds without a message after which all that has piled up counts as read."""


class Reader:
    """Hands on a feed's steps; reconnects, and resumes where it was.

    It has no task of its own: the caller of `next` does the waiting. Several callers may wait at the
    same time; one of them reads the stream for all, and wakes the others after each message.

    It is in one of these states: *connected* (``_stream`` is set), *broken* (no stream; the next
    caller opens one, not before ``_not_before``), or *ended* (``_ended`` is set, for good).

    Args:
        transport: Opens the streams.
        request: What to watch.
    """

    def __init__(self, transport: Transport, request: FeedRequest) -> None:
        self.request = request
        self._transport = transport
        self._state = FeedState(request)
        self._backoff = Backoff()
        self._not_before = 0.0
        self._opened_at = 0.0
        # The cursor with which the present stream was opened: where it has moved since, the stream
        # has shown that it works.
        self._opened_with: str | None = None
        self._stream: MessageStream | None = None
        self._steps: deque[Received] | ConflatedSteps = _waiting_steps(request)
        self._steps_lock = Lock()  # a `ConflatedSteps` takes more than one step to change
        self._live = False
        # ``_ended`` is for good; ``_broken`` is the reason of the present outage, and only a
        # timeout tells it. `end` alone sets ``_closing``: after that the steps that wait are
        # dropped, while a refusal lets them be read first.
        self._ended: MemxError | None = None
        self._broken: MemxError | None = None
        self._closing = Event()
        self._lock = Lock()
        # The event of the caller that reads for all at the moment: see `_pull`.
        self._turn: Event | None = None
        watch_forks(self)

    def next(self, timeout: float | None = None) -> Received:
        """Return the next step.

        Args:
            timeout: Seconds to wait; None waits for ever, also for a server that is away.

        Raises:
            MemxTimeout: Nothing came in time; ask again at will.
            MemxClosedError: ``close`` was called.
            RequestError: The server refuses the subscription for good.
        """
        deadline = _deadline(timeout)
        if self.request.conflate:
            # Before the first step is looked at, since what waits in the queue may be old already.
            self._catch_up()
        while True:
            # After `end` nothing more is handed on. After a refusal (``_ended`` alone) what arrived
            # before it still is, and `_pull` raises when that is used up.
            if self._ended is not None and self._closing.is_set():
                raise self._ended
            # No look before the pop: in threads another caller may take the last step in between.
            try:
                # The pop of a deque is one step for threads, so the usual feed takes no lock here.
                if not self.request.conflate:
                    return self._steps.popleft()
                with self._steps_lock:
                    return self._steps.popleft()
            except IndexError:
                self._pull(deadline)

    def live(self, timeout: float | None = None) -> None:
        """Return when the reader has first caught up with the present; raises as ``next`` does."""
        deadline = _deadline(timeout)
        # Steps that arrive meanwhile wait in the queue for `next`; none of them is lost.
        while not self._live:
            self._pull(deadline)

    def passed(self, cursor: str | None) -> str | None:
        """Return where ``cursor`` has moved to by the positions that wait before the next item."""
        if isinstance(self._steps, ConflatedSteps):
            return self._steps.passed(cursor)
        # A copy: another caller may take or add steps while this one looks.
        for step in tuple(self._steps):
            if step.item is not None:
                break
            cursor = step.cursor
        return cursor

    def close(self) -> None:
        """End the feed; closing twice is harmless."""
        self.end(MemxClosedError("closed", "the subscription was closed"))

    def end(self, error: MemxError) -> None:
        """Hand nothing more on: whoever asks for a step gets ``error``, the first one given."""
        # The order matters. The flag is first, so that `_take` lets nothing more in. Then the steps
        # are dropped under their lock, so that none slips in between. Then ``_closing`` wakes
        # whoever pauses; last, closing the stream wakes whoever receives.
        self._ended = self._ended or error
        with self._steps_lock:
            self._steps.clear()
        self._closing.set()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def forget_parent(self) -> None:
        """End the feed in a forked child: the parent goes on reading it, and no stream has two readers."""
        # Mutexes and events are new: the threads that held or waited for them are not here.
        self._lock, self._turn, self._closing = Lock(), None, Event()
        # The stream is not closed: a close frame would go out on the parent's socket.
        self._stream, self._live = None, False
        self._steps, self._steps_lock = _waiting_steps(self.request), Lock()
        self._ended = self._ended or forked_error(f"the subscription to {self.request.pattern!r}")
        self._closing.set()

    def _pull(self, deadline: float | None) -> None:
        """Take one message, or wait while another caller does."""
        # ``_turn`` is the event of the caller that reads. The lock only decides who that is, and is
        # never held while waiting, so that every caller keeps its own deadline.
        with self._lock:
            theirs = self._turn
            mine = Event() if theirs is None else None
            self._turn = theirs or mine
        if theirs is not None:
            self._wait(theirs, deadline)
        elif mine is not None:
            try:
                self._advance(deadline)
            finally:
                # In this order: a waiter that wakes must find the turn free, or it would wait for
                # an event that is set already, again and again.
                self._turn = None
                mine.set()

    def _advance(self, deadline: float | None) -> None:
        if self._ended is not None:
            raise self._ended
        # The turn belongs to this caller, so nobody else reads the stream, connects or changes
        # ``_state`` until it gives the turn back.
        stream = self._stream  # `end`, in another thread, may take it away from here on
        if stream is None:
            self._connect(deadline)
            return
        try:
            message = decode(stream.receive(_remaining(deadline)))
        except MemxTimeout:
            # Before the general case, of which it is one: a quiet feed is no broken feed.
            raise  # the stream stays usable
        except MemxError as error:
            self._lost(error)
        except ValueError:
            # Something on the way changed the messages. A new stream may do better, so this counts
            # as a broken connection and not as a refusal.
            self._lost(MemxConnectionError("connection", "a message was no JSON"))
        else:
            if message.get("event") == "end":  # the server's reason, before it closes the stream
                self._lost(error_from(message))
            else:
                # Half a transaction yields no steps; the state keeps it until its last change has
                # come.
                self._take(self._state.receive(message))

    def _take(self, steps: list[Received]) -> None:
        # It stays true over reconnections: `live` promises only that nothing after it is missed,
        # and a stream that resumes at a cursor misses nothing.
        self._live = self._live or any(step.live for step in steps)
        with self._steps_lock:
            # `end` may have run since the message was received. What came of it must not be handed
            # on, least of all by a holder that has lost its durable name.
            if self._ended is None:
                self._steps.extend(steps)

    def _catch_up(self) -> None:
        """Read what has arrived, so that what is handed on next is the newest of its key.

        Messages pile up unread in the kernel, in the WebSocket and in the transport's queue while
        the caller is busy with a change. A reader that took them one by one would be as far behind
        as these are long.
        """
        give_up = time.monotonic() + _CATCH_UP_SECONDS
        patience = 0.0  # where nothing has piled up, nothing is waited for
        try:
            while self._stream is not None and time.monotonic() < give_up:
                self._pull(time.monotonic() + patience)
                patience = _LULL_SECONDS
        except MemxError:
            # Usually MemxTimeout: nothing more has arrived. A refusal is raised by the next `_pull`,
            # after what arrived before it.
            return

    def _connect(self, deadline: float | None) -> None:
        pause = self._not_before - time.monotonic()
        # To pause and to connect are two rounds: after the pause `next` looks again, since `end`
        # may have come meanwhile.
        if pause > 0:
            self._pause(pause, deadline)
            return
        try:
            stream = self._open()
        except MemxError as error:
            self._lost(error)
            return
        self._stream, self._broken = stream, None
        self._opened_at, self._opened_with = time.monotonic(), self._state.cursor
        # `end` may have run while the stream was being opened, and found none to close. It sets the
        # flag before it looks for the stream, and here the stream is set before the flag is read:
        # one of the two closes it.
        if self._closing.is_set():
            stream.close()

    def _open(self) -> MessageStream:
        path = f"/subscribe/{self.request.pattern}"
        return self._transport.connect(path, self._state.query())

    def _lost(self, error: MemxError) -> None:
        """Decide when to try again; raise where that would not help."""
        stream, self._stream = self._stream, None
        # The state is told before anything can fail below: half a transaction that was kept would
        # be put in front of the one that the next stream sends whole.
        self._state.disconnected()
        if stream is not None:
            stream.close()
        # For the text of a timeout: who waits should learn that there is no connection, and why.
        self._broken = error
        if self._ended is not None:  # the stream broke because `end` closed it
            raise self._ended from error
        if (refused := refusal(error, established=self._live)) is not None:
            self._ended = refused
            raise refused from error
        # A stream that was accepted and dropped at once proves nothing: if it reset the delays, a
        # server in trouble would be connected to without a pause.
        if self._worked(stream):
            self._backoff.reset()
        # A moment to wait for and not a sleep: the caller's deadline may come first, and its
        # timeout must not cut the pause short for the caller after it.
        delay = self._backoff.next(error)
        self._not_before = time.monotonic() + delay
        level = logging.INFO if self._backoff.attempts == 1 else logging.WARNING
        pattern = self.request.pattern
        log.log(level, "the feed of %r broke (%s); next try in %.1f s", pattern, error, delay)

    def _worked(self, stream: MessageStream | None) -> bool:
        """Tell whether a stream got anywhere, or at least lasted."""
        # A stream that lasted is proof as well: a feed on which nothing happens moves no cursor.
        moved = self._state.cursor != self._opened_with
        return stream is not None and (moved or time.monotonic() - self._opened_at > _STEADY)

    def _pause(self, seconds: float, deadline: float | None) -> None:
        remaining = _remaining(deadline)
        if remaining is not None and remaining < seconds:
            self._closing.wait(remaining)  # `end` must not have to wait for the deadline
            raise self._timeout()
        self._closing.wait(seconds)

    def _wait(self, event: Event, deadline: float | None) -> None:
        # Woken without a step of its own is usual: the message may have been no step, or another
        # caller took it. `next` looks again, and pulls again.
        if not event.wait(_remaining(deadline)):
            raise self._timeout()

    def _timeout(self) -> MemxTimeout:
        if self._broken is None:
            return MemxTimeout("timeout", "nothing happened in time")
        return MemxTimeout("timeout", f"there is no connection: {self._broken.detail}")


def _waiting_steps(request: FeedRequest) -> deque[Received] | ConflatedSteps:
    return ConflatedSteps() if request.conflate else deque()


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
