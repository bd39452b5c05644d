# Generated from memx_sdk/_async/handler.py by tools/unasync.py; change that file, not this one.
"""One handler of an agent: a feed, and workers that share its changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from memx_sdk._sync._concurrency import Condition, Event, Worker, call, spawn
from memx_sdk._sync.durable import Hold
from memx_sdk._sync.reader import Reader
from memx_sdk.core.dispatch import Board, Job
from memx_sdk.core.retry import RetryPolicy
from memx_sdk.errors import MemxClosedError
from memx_sdk.models import Change, Reset

log = logging.getLogger("memx_sdk")

_MOST_WAITING: Final = 256
"""How many changes are read ahead of the workers."""

_AGAIN: Final = RetryPolicy(first_delay=0.2, longest_delay=10.0)


@dataclass(frozen=True, slots=True)
class Handling:
    """What to do with changes.

    Attributes:
        function: Handles one.
        retries: How many more times a change is tried.
        on_error: Takes a change that was given up.
        on_reset: Is told that changes may have been missed.
    """

    function: Callable[[Change], Any]
    retries: int = 2
    on_error: Callable[[Change, Exception], Any] | None = None
    on_reset: Callable[[str], Any] | None = None


class Handler:
    """Reads a feed into a board, from which workers take what is theirs to do.

    Args:
        reader: The feed.
        hold: The durable name, if it has one.
        handling: What to do.
        concurrency: How many workers there are.
        failed: Is told what ended it, if it was not `close`.
    """

    def __init__(
        self,
        reader: Reader,
        hold: Hold | None,
        handling: Handling,
        concurrency: int,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._reader = reader
        self._hold = hold
        self._handling = handling
        self._concurrency = concurrency
        self._failed = failed
        self._board = Board()
        self._moved = Condition()
        self._closing = Event()
        self._workers: list[Worker] = []
        self._running = concurrency + 1

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
        self._closing.set()
        self._reader.close()
        with self._moved:
            self._moved.notify_all()

    def join(self, timeout: float) -> bool:
        """Wait for the changes that are being handled to be done and acknowledged.

        Returns:
            Whether they are; not so where one of them is the caller's own.
        """
        deadline = time.monotonic() + timeout
        others = [worker for worker in self._workers if not worker.is_current()]
        for worker in others:
            if not worker.join(max(0.0, deadline - time.monotonic())):
                worker.cancel()
        return len(others) == len(self._workers)

    def _guarded(self, run: Callable[[], Any]) -> None:
        try:
            run()
        except MemxClosedError:
            return
        except Exception as error:  # noqa: BLE001 - handed to the agent, which raises it
            self._failed(error)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Give the durable name up when the last worker is done, with all that it has done."""
        with self._moved:
            self._running -= 1
            is_last = self._running == 0
        if is_last and self._hold is not None:
            self._hold.close()

    def _read(self) -> None:
        while True:
            step = self._reader.next()
            if isinstance(step.item, Reset):
                self._reset(step.item)
            change = step.item if isinstance(step.item, Change) else None
            with self._moved:
                self._board.add(change, step.cursor)
                self._settle()
                self._moved.notify_all()
                while len(self._board) >= _MOST_WAITING and not self._closing.is_set():
                    self._moved.wait()

    def _reset(self, reset: Reset) -> None:
        """Let what came before the gap be handled first."""
        with self._moved:
            while len(self._board) and not self._closing.is_set():
                self._moved.wait()
        if self._handling.on_reset is None:
            log.warning("%r starts over: %s", self._reader.request.pattern, reset.reason)
        else:
            call(self._handling.on_reset, reset.reason)

    def _work(self) -> None:
        while (job := self._take()) is not None:
            if job.change is not None and self._handle(job.change):
                with self._moved:
                    self._board.finish(job)
                    self._settle()
                    self._moved.notify_all()

    def _take(self) -> Job | None:
        with self._moved:
            while not self._closing.is_set():
                if (job := self._board.take()) is not None:
                    return job
                self._moved.wait()
        return None

    def _handle(self, change: Change) -> bool:
        """Tell whether ``change`` was dealt with; not so if the agent stopped before that."""
        attempt = 0
        while True:
            try:
                call(self._handling.function, change)
            except Exception as error:  # noqa: BLE001 - retried, then handed to on_error or logged
                attempt += 1
                if attempt > self._handling.retries:
                    self._give_up(change, error)
                    return True
            else:
                return True
            if self._closing.wait(_AGAIN.jitter(attempt)):
                return False

    def _give_up(self, change: Change, error: Exception) -> None:
        if self._handling.on_error is None:
            log.error("%r at revision %d was given up", change.key, change.revision, exc_info=error)
        else:
            call(self._handling.on_error, change, error)

    def _settle(self) -> None:
        if self._hold is not None:
            self._hold.settle(self._board.cursor)
