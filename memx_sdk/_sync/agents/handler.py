# Generated from memx_sdk/_async/agents/handler.py by tools/unasync.py; change that file, not this one.
"""One handler of an agent: a feed, and the workers that share its changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from memx_sdk._sync._concurrency import Condition, Event, Worker, call, spawn
from memx_sdk._sync.feed.durable import DurableClaim
from memx_sdk._sync.feed.reader import Reader
from memx_sdk.core.forks import watch_forks
from memx_sdk.core.retry import RetryPolicy
from memx_sdk.core.work_queue import WorkItem, WorkQueue
from memx_sdk.errors import MemxClosedError
from memx_sdk.models import Change, Reset

log = logging.getLogger("memx_sdk")

_READ_AHEAD: Final = 256
"""Changes that are read ahead of the workers."""

_RETRY_POLICY: Final = RetryPolicy(first_delay=0.2, longest_delay=10.0)


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """What to do with changes.

    Attributes:
        function: Handles one.
        retries: How many more times a change is tried.
        on_error: Takes a change that was given up.
        on_reset: Is called where changes may have been missed.
    """

    function: Callable[[Change], Any]
    retries: int = 2
    on_error: Callable[[Change, Exception], Any] | None = None
    on_reset: Callable[[str], Any] | None = None


class Handler:
    """Reads a feed into a queue, from which its workers take.

    One task reads, ``concurrency`` tasks work. They share the queue under the condition
    ``_changed``, which is notified whenever an item arrives or is done.

    Args:
        reader: The feed.
        claim: The claim to its durable name, if it has one.
        options: What to do with changes.
        concurrency: How many workers there are.
        failed: Is called with what ended it, if it was not `close`.
    """

    def __init__(
        self,
        reader: Reader,
        claim: DurableClaim | None,
        options: HandlerOptions,
        concurrency: int,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._reader = reader
        self._claim = claim
        self._options = options
        self._concurrency = concurrency
        self._failed = failed
        # The queue is not safe by itself: every use of it is under ``_changed``.
        self._queue = WorkQueue(conflate=reader.request.conflate)
        self._changed = Condition()
        # An event and not a bool under the condition: `_handle` waits for it between two attempts,
        # and `close` sets it without waiting for the condition.
        self._closing = Event()
        self._workers: list[Worker] = []
        # The reader and the workers that have not left; whoever brings it to 0 closes the claim.
        self._running = concurrency + 1
        watch_forks(self)

    def start(self) -> None:
        """Begin to read and to work."""
        name = f"memx-agent-{self._reader.request.pattern}"
        self._workers = [spawn(name, self._guarded, self._read)]
        self._workers += [
            spawn(f"{name}-{number}", self._guarded, self._work)
            for number in range(self._concurrency)
        ]

    def ready(self, timeout: float | None) -> None:
        """Return when it is sure to see what changes from now on; raises as the reader does."""
        self._reader.live(timeout)

    def close(self) -> None:
        """Take no more changes."""
        # The flag comes first: a worker that the notification below wakes must see it.
        self._closing.set()
        self._reader.close()
        with self._changed:
            self._changed.notify_all()

    def join(self, timeout: float) -> bool:
        """Wait for the changes that are being handled to be done and acknowledged.

        Returns:
            Whether they are; not so where one of them is the caller's own.
        """
        # One deadline for all, or several workers that hang would each take the whole timeout.
        deadline = time.monotonic() + timeout
        others = [worker for worker in self._workers if not worker.is_current()]
        for worker in others:
            if not worker.join(max(0.0, deadline - time.monotonic())):
                # The change of a worker that is cancelled is not finished, so its cursor is not
                # passed: a durable handler gets it again at the next start.
                worker.cancel()
        return len(others) == len(self._workers)

    def forget_parent(self) -> None:
        """Take no more changes in a forked child; a handler that forked ends when it returns."""
        # Another thread of the parent may have held the condition at the fork, and nobody here
        # would ever release it.
        self._changed, self._closing = Condition(), Event()
        self._closing.set()
        self._workers = []

    def _guarded(self, run: Callable[[], Any]) -> None:
        try:
            run()
        except MemxClosedError:
            # `close` ends the reader by this error, which is the ordinary way out. It is no failure
            # of the agent.
            return
        except Exception as error:  # noqa: BLE001 - handed to the agent, which raises it
            self._failed(error)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Give the durable name up when the last worker is done, with all that it has done."""
        # The reader and the workers end in any order. Only the last of them knows that no further
        # change will be done, so that what the claim acknowledges is complete.
        with self._changed:
            self._running -= 1
            is_last = self._running == 0
        if is_last and self._claim is not None:
            self._claim.close()

    def _read(self) -> None:
        while True:
            step = self._reader.next()
            # Before it is queued: the handler of the reset must run when all older changes are done
            # and before any entry of the snapshot that follows is handled.
            if isinstance(step.item, Reset):
                self._reset(step.item)
            # A reset and a bare position go into the queue too, without a change: the cursor moves
            # over them in their turn.
            change = step.item if isinstance(step.item, Change) else None
            with self._changed:
                self._queue.add(change, step.cursor)
                self._report_progress()
                self._changed.notify_all()
                # The feed is read no further while so much waits: it holds back the server, and a
                # crash now brings all of this again.
                while len(self._queue) >= _READ_AHEAD and not self._closing.is_set():
                    self._changed.wait()

    def _reset(self, reset: Reset) -> None:
        """Let what came before the gap be handled first."""
        with self._changed:
            while len(self._queue) and not self._closing.is_set():
                self._changed.wait()
        if self._options.on_reset is None:
            log.warning("%r starts over: %s", self._reader.request.pattern, reset.reason)
        else:
            call(self._options.on_reset, reset.reason)

    def _work(self) -> None:
        # A change counts as done when it was handled or given up, never when it was only taken.
        while (item := self._take()) is not None:
            # A change that was left because of `close` stays undone: the position does not pass it.
            if item.change is not None and self._handle(item.change):
                with self._changed:
                    self._queue.finish(item)
                    self._report_progress()
                    self._changed.notify_all()

    def _take(self) -> WorkItem | None:
        with self._changed:
            # The flag is looked at before the queue: after `close` what still waits is left undone,
            # so that it comes again and stopping does not take as long as the backlog.
            while not self._closing.is_set():
                if (item := self._queue.take()) is not None:
                    return item
                self._changed.wait()
        return None

    def _handle(self, change: Change) -> bool:
        """Tell whether ``change`` was dealt with; not so if the agent stopped before that."""
        attempt = 0
        while True:
            try:
                call(self._options.function, change)
            except Exception as error:  # noqa: BLE001 - retried, then handed to on_error or logged
                # An exception of a user's function never ends the worker: one bad change would stop
                # the agent for every key.
                attempt += 1
                if attempt > self._options.retries:
                    # What ``on_error`` raises is let through to `_guarded`: the change then stays
                    # unfinished, and a durable handler gets it again.
                    self._give_up(change, error)
                    return True
            else:
                return True
            # The key stays taken during the pause, so that its later changes wait for this one.
            if self._closing.wait(_RETRY_POLICY.jitter(attempt)):
                return False

    def _give_up(self, change: Change, error: Exception) -> None:
        if self._options.on_error is None:
            log.error("%r at revision %d was given up", change.key, change.revision, exc_info=error)
        else:
            # Not guarded on purpose: see `_handle`.
            call(self._options.on_error, change, error)

    def _report_progress(self) -> None:
        if self._claim is not None:
            # The queue's cursor, not that of the change that has just been done: an older change of
            # another key may still be worked on.
            self._claim.processed(self._queue.cursor)
