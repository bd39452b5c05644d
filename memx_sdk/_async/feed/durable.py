"""Durable subscriptions, whose position memX keeps for the next subscriber of their name."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from memx_sdk._async._concurrency import Event, Lock, Worker, spawn
from memx_sdk._async.feed.reader import AsyncReader
from memx_sdk.core import durable
from memx_sdk.core.calls import Call
from memx_sdk.core.forks import forked_error, watch_forks
from memx_sdk.core.subscription import FeedRequest, FeedState
from memx_sdk.core.transport import AsyncMessageStream, AsyncTransport
from memx_sdk.errors import MemxClosedError, MemxError, TakenOverError

log = logging.getLogger("memx_sdk")

_CHECK_SECONDS: Final = 3.0
"""Seconds after which a holder that acknowledged nothing makes sure that it still holds the name."""

_PAUSE: Final = 0.05
"""Seconds between two acknowledgements in the background; what comes meanwhile goes as one."""

_PAUSE_AFTER_FAILURE: Final = 1.0
_CLOSING_SECONDS: Final = 2.0

Run = Callable[[Call[Any]], Awaitable[Any]]


class AsyncDurableClaim:
    """One subscriber's claim to the name of a durable subscription.

    The server keeps, by name, a holder and a cursor. A claim makes itself the holder, which ends
    the claim that was there before; then it acknowledges cursors in the background, and gives the
    name up at the end. The server refuses an acknowledgement of anybody but the holder, so that
    two subscribers of one name never move its cursor by turns.

    Args:
        run: Makes a call.
        name: The subscription's name.
    """

    def __init__(self, run: Run, name: str) -> None:
        self.name = name
        self._run = run
        # Drawn at random for each claim, not for each process: two subscribers of one program must
        # be told apart just as those of two machines are.
        self._holder = uuid.uuid4().hex
        self._lost: Callable[[MemxError], Awaitable[None]] | None = None
        # How far the subscriber has got, and what of it the server is known to keep. The keeper and
        # the subscriber both set the first; only `_send` sets the second, under its lock.
        self._processed: str | None = None
        self._acknowledged: str | None = None
        self._sending = Lock()
        self._progress = Event()
        self._closing = Event()
        self._keeper: Worker | None = None
        self._forked = False
        watch_forks(self)

    async def take(self, lost: Callable[[MemxError], Awaitable[None]]) -> str | None:
        """Take the name over from whoever holds it.

        Args:
            lost: Called once, in the background, when another took it over.

        Returns:
            The cursor that was acknowledged last; None where there is none.
        """
        # From here on the former holder is refused, also where this answer is lost: the repetition
        # claims again for the same holder, which changes nothing.
        cursor: str | None = await self._run(durable.claim(self.name, self._holder))
        # Equal to begin with, so that the first round of the keeper only checks and does not send
        # back the cursor that the server has just given out.
        self._processed = self._acknowledged = cursor
        self._lost = lost
        self._keeper = spawn(f"memx-durable-{self.name}", self._keep)
        return cursor

    def processed(self, cursor: str | None) -> None:
        """Have ``cursor`` acknowledged soon; None (within a snapshot) acknowledges nothing."""
        # A None must not take the place of a cursor that is not sent yet: that one would never be
        # acknowledged.
        if cursor is not None:
            self._processed = cursor
            self._progress.set()

    async def begin(self, cursor: str | None) -> None:
        """Acknowledge ``cursor`` before returning, unless there is an acknowledged one already."""
        # A name that was never acknowledged has no place to come back to. Without this a subscriber
        # that died before its first change would lose what came meanwhile.
        if self._processed is None:
            self.processed(cursor)
        if self._processed != self._acknowledged:
            try:
                await self._send()
            except TakenOverError:
                # ``close`` may have given the name up while this waited; then the refusal says only
                # what the caller has done itself.
                if not self._closing.is_set():
                    raise

    async def acknowledge(self, cursor: str | None) -> None:
        """Acknowledge ``cursor`` before returning.

        Raises:
            TakenOverError: Another holds the name now.
            MemxError: The acknowledgement found no answer.
        """
        self.processed(cursor)
        await self._send()

    async def close(self) -> None:
        """Acknowledge what was processed, and give the name up. Closing twice is harmless."""
        # Without a keeper the name was never taken, or was left to the parent by a fork: releasing
        # it would take it from whoever holds it.
        if self._closing.is_set() or self._keeper is None:
            return
        self._closing.set()
        self._progress.set()  # wakes the keeper, which looks at ``_closing`` next
        if not self._keeper.is_current():
            # The keeper may be in the middle of an acknowledgement. It is waited for, but not for
            # ever: a server that is away must not keep a program from ending.
            await self._keeper.join(_CLOSING_SECONDS)
        try:
            # In this order: once the name is given up, an acknowledgement would be refused.
            await self._send()
            await self._run(durable.release(self.name, self._holder))
        except MemxError as error:
            # No harm is done: the cursor stays as it was acknowledged, and the next holder takes
            # the name over without a release.
            log.info("the durable subscription %r could not be released: %s", self.name, error)

    def forget_parent(self) -> None:
        """Leave the name to the parent, in a forked child: two processes must not move one cursor."""
        # The lock and the events are new: those of the parent may be held by threads that do not
        # exist here.
        self._forked, self._keeper = True, None
        self._sending, self._progress, self._closing = Lock(), Event(), Event()
        self._closing.set()

    async def _keep(self) -> None:
        """Acknowledge what gets processed, and notice when another takes the name over."""
        while True:
            # Without progress the wait ends by time, and the acknowledgement carries no cursor: it
            # only asks whether this is still the holder.
            await self._progress.wait(_CHECK_SECONDS)
            if self._closing.is_set():
                return
            # Cleared before ``_send`` reads the cursor: progress that comes while it is under way
            # sets the flag again, and costs one more round instead of being overlooked.
            self._progress.clear()
            pause = _PAUSE
            try:
                await self._send()
            except TakenOverError as error:
                if self._lost is not None:
                    # The reader is ended by this, so that the old holder's loop learns of it even
                    # while no change comes.
                    await self._lost(error)
                return
            except MemxClosedError:
                return
            except MemxError as error:
                log.warning("%r could not be acknowledged and will be again: %s", self.name, error)
                self._progress.set()
                # The flag is set again, since the cursor is still to be sent; the longer pause
                # keeps the keeper from asking a server in trouble without end.
                pause = _PAUSE_AFTER_FAILURE
            # The pause makes one acknowledgement of many changes. It ends at once when `close`
            # wants to send the last one.
            await self._closing.wait(pause)

    async def _send(self) -> None:
        # One acknowledgement at a time: two under way could reach the server in the wrong order,
        # and the older cursor would stand.
        if self._forked:
            raise forked_error(f"the durable subscription {self.name!r}")
        async with self._sending:
            # Read once, under the lock: the subscriber may move it while the acknowledgement is
            # under way, and only what was sent may count as acknowledged.
            processed = self._processed
            cursor = None if processed == self._acknowledged else processed
            await self._run(durable.acknowledge(self.name, self._holder, cursor))
            # Only after an answer. If it was lost, the same cursor is sent again, which is
            # harmless.
            self._acknowledged = processed


class AsyncDurableReader(AsyncReader):
    """A reader that begins where the last holder of a name had acknowledged.

    Args:
        transport: Opens the streams.
        request: What to watch; where to begin if the name is new.
        claim: The claim to the name.
    """

    def __init__(
        self, transport: AsyncTransport, request: FeedRequest, claim: AsyncDurableClaim
    ) -> None:
        super().__init__(transport, request)
        self._claim = claim
        self._claimed = False

    async def live(self, timeout: float | None = None) -> None:
        """Return when it has caught up, and memX knows where it began if that was now."""
        # In this order: before it is live the reader has no position, and there would be nothing to
        # acknowledge.
        await super().live(timeout)
        await self._claim.begin(self.passed(None))

    async def _open(self) -> AsyncMessageStream:
        # The name is taken once, before the first stream. Later streams of this reader resume from
        # its own position; taking the name again would take it back from a newcomer.
        if not self._claimed:
            cursor = await self._claim.take(self.end)
            # A new name: it begins where the request says. An old one begins behind what was
            # acknowledged, whatever the request says of ``since`` or of a snapshot.
            if cursor is None:
                self._claim.processed(self.request.since)
            else:
                self._state = FeedState(dataclasses.replace(self.request, since=cursor))
            # Last: where the claim fails, the next attempt to open makes it again.
            self._claimed = True
        return await super()._open()
