# Generated from memx_sdk/_async/durable.py by tools/unasync.py; change that file, not this one.
"""Durable subscriptions: their cursor is kept in memX, for the next one who takes them up."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from memx_sdk._sync._concurrency import Event, Lock, Worker, spawn
from memx_sdk._sync.reader import Reader
from memx_sdk.core import durable
from memx_sdk.core.calls import Call
from memx_sdk.core.subscription import FeedRequest, FeedState
from memx_sdk.errors import MemxClosedError, MemxError, TakenOverError
from memx_sdk.transport import MessageStream, Transport

log = logging.getLogger("memx_sdk")

_ASK_EVERY: Final = 3.0
"""Seconds between two looks at who holds the name, where nothing is acknowledged meanwhile."""

_PAUSE: Final = 0.05
"""Seconds between two acknowledgements in the background; what comes meanwhile goes as one."""

_PAUSE_AFTER_FAILURE: Final = 1.0
_GOODBYE_SECONDS: Final = 2.0

Run = Callable[[Call[Any]], Any]


class Hold:
    """One holder's hold on a durable subscription's name.

    Args:
        run: Makes a call.
        name: The subscription's name.
    """

    def __init__(self, run: Run, name: str) -> None:
        self.name = name
        self._run = run
        self._holder = uuid.uuid4().hex
        self._lost: Callable[[MemxError], None] | None = None
        self._settled: str | None = None
        self._sent: str | None = None
        self._sending = Lock()
        self._news = Event()
        self._closing = Event()
        self._keeper: Worker | None = None

    def claim(self, lost: Callable[[MemxError], None]) -> str | None:
        """Take the name over from whoever holds it.

        Args:
            lost: Called once, in the background, when another took it over.

        Returns:
            The cursor that was acknowledged last; None where there is none.
        """
        cursor: str | None = self._run(durable.claim(self.name, self._holder))
        self._settled = self._sent = cursor
        self._lost = lost
        self._keeper = spawn(f"memx-durable-{self.name}", self._keep)
        return cursor

    def settle(self, cursor: str | None) -> None:
        """Have ``cursor`` acknowledged soon; None (within a snapshot) acknowledges nothing."""
        if cursor is not None:
            self._settled = cursor
            self._news.set()

    def begin(self, cursor: str | None) -> None:
        """Acknowledge ``cursor`` before returning, unless something is acknowledged already."""
        if self._settled is None:
            self.settle(cursor)
        if self._settled != self._sent:
            try:
                self._send()
            except TakenOverError:
                if not self._closing.is_set():  # else it was us who gave the name up, meanwhile
                    raise

    def acknowledge(self, cursor: str | None) -> None:
        """Acknowledge ``cursor`` before returning.

        Raises:
            TakenOverError: Another holds the name now.
            MemxError: The server could not be told.
        """
        self.settle(cursor)
        self._send()

    def close(self) -> None:
        """Acknowledge what is settled, and give the name up. Closing twice is harmless."""
        if self._closing.is_set() or self._keeper is None:
            return
        self._closing.set()
        self._news.set()
        if not self._keeper.is_current():
            self._keeper.join(_GOODBYE_SECONDS)
        try:
            self._send()
            self._run(durable.release(self.name, self._holder))
        except MemxError as error:
            log.info("the durable subscription %r was left without a word: %s", self.name, error)

    def _keep(self) -> None:
        """Acknowledge what gets settled, and notice when another takes the name over."""
        while True:
            self._news.wait(_ASK_EVERY)
            if self._closing.is_set():
                return
            self._news.clear()
            pause = _PAUSE
            try:
                self._send()
            except TakenOverError as error:
                if self._lost is not None:
                    self._lost(error)
                return
            except MemxClosedError:
                return
            except MemxError as error:
                log.warning("%r could not be acknowledged and will be again: %s", self.name, error)
                self._news.set()
                pause = _PAUSE_AFTER_FAILURE
            self._closing.wait(pause)

    def _send(self) -> None:
        with self._sending:
            settled = self._settled
            news = None if settled == self._sent else settled
            self._run(durable.acknowledge(self.name, self._holder, news))
            self._sent = settled


class DurableReader(Reader):
    """A reader that takes up where the last holder of a name had acknowledged.

    Args:
        transport: Opens the streams.
        request: What to watch; where to begin if the name is new.
        hold: The name.
    """

    def __init__(self, transport: Transport, request: FeedRequest, hold: Hold) -> None:
        super().__init__(transport, request)
        self._hold = hold
        self._claimed = False

    def live(self, timeout: float | None = None) -> None:
        """Return when it has caught up, and memX knows where it began if that was now."""
        super().live(timeout)
        self._hold.begin(self.passed(None))

    def _open(self) -> MessageStream:
        if not self._claimed:
            cursor = self._hold.claim(self.end)
            if cursor is None:
                self._hold.settle(self.request.since)
            else:
                self._state = FeedState(dataclasses.replace(self.request, since=cursor))
            self._claimed = True
        return super()._open()
