"""The lock that agents on different machines share: a lease on a key."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self, TypeVar

from memx_sdk._async._concurrency import Event, Worker, sleep, spawn
from memx_sdk._async.feed.subscription import AsyncSubscription
from memx_sdk._async.operations import AsyncOperations
from memx_sdk.core.forks import watch_forks
from memx_sdk.core.retry import chance
from memx_sdk.errors import ConflictError, LockLostError, MemxClosedError, MemxError, MemxTimeout
from memx_sdk.lease_clock import lease_clock
from memx_sdk.models import Change, Reset

log = logging.getLogger("memx_sdk")

Item = TypeVar("Item")

_HEARTBEATS_PER_TTL: Final = 3
_LATE: Final = 0.5
"""The part of ``ttl`` after which an answer no longer proves that the lock is held: see `_confirm`."""

_CONFIRMATIONS: Final = 3

_LONGEST_WAIT: Final = 1.0
"""Seconds after which `wait_lost` looks at the clock again: a wait does not count suspended time."""

_SCATTER: Final = 0.004
"""Seconds over which those who wait try for a free lock; who has missed it often tries sooner."""

_COURTESY: Final = 0.012
"""Seconds for which a context leaves a lock that it has just released to others."""

_MOST_REMEMBERED: Final = 1000


class AsyncLock:
    """One holder at a time, by a key that exists while the lock is held.

    The key expires ``ttl`` seconds after its holder's last sign of life, so that a crashed holder
    frees the lock. A holder that was cut off for that long has lost it, though it may not know at
    once: pass `token`, which grows from holder to holder, to whatever the lock protects, and let
    that refuse a token lower than one it has seen.

    Args:
        operations: Read and write the space that the key is in.
        subscribe: Watches a key of it.
        key: The lock's name, and nothing else's.
        ttl: Seconds until the lock of a silent holder is free.
        timeout: Seconds that entering the ``with`` block waits for the lock; None waits for ever.
        holder: The name that those who read the key see.
        released: When which lock was given back, shared by all locks of the context.
    """

    def __init__(
        self,
        operations: AsyncOperations,
        subscribe: Callable[[str], AsyncSubscription],
        key: str,
        ttl: float,
        *,
        timeout: float | None = None,
        holder: str | None = None,
        released: dict[str, float] | None = None,
    ) -> None:
        if not ttl > 0:
            raise ValueError(f"ttl must be a number of seconds above 0, not {ttl!r}")
        self.key = key
        self.ttl = ttl
        self._operations = operations
        self._subscribe = subscribe
        self._holder = holder
        self._timeout = timeout
        self._released = {} if released is None else released
        # The revision of the write that took the lock. Every renewal and the release are on
        # condition of it, so that a holder that has lost the lock can neither prolong nor delete
        # the next holder's.
        self._token: int | None = None
        # The lease by `lease_clock`, counted from when the request that took or renewed it left: the
        # store counts from when it arrived, so that the store's end is never before this one.
        self._renewed_at = 0.0
        self._forked = False
        self._lost = Event()
        self._stopping = Event()
        self._heart: Worker | None = None
        watch_forks(self)

    @property
    def token(self) -> int:
        """The fencing token: the revision at which the lock was taken.

        Raises:
            LockLostError: The lock was not taken.
        """
        if self._token is None:
            raise LockLostError("lock_lost", f"the lock {self.key!r} is not held")
        return self._token

    @property
    def lost(self) -> bool:
        """Whether the lock was taken and then lost: another may hold it by now. It stays so."""
        if self._token is None:
            return False
        # Kept once it was so: whoever has seen it may have acted upon it, and the heartbeat whose
        # answer comes later must not take it back.
        if lease_clock() >= self._held_until:
            self._lost.set()
        return self._lost.is_set()

    @property
    def _held_until(self) -> float:
        return self._renewed_at + self.ttl

    async def wait_lost(self, timeout: float | None = None) -> bool:
        """Wait until the lock is lost; tell whether that happened within ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        # Two things end a lease: time, for which `lost` looks at the clock, and the heartbeat that
        # finds a conflict, which sets the event. So this wait is for both.
        while not self.lost:
            pause = min(self._held_until - lease_clock(), _LONGEST_WAIT)
            if deadline is not None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                pause = min(pause, remaining)
            await self._lost.wait(max(0.0, pause))
        return True

    async def acquire(self, timeout: float | None = None) -> Self:
        """Take the lock, waiting for its holder to release it or to fall silent.

        Args:
            timeout: Seconds to wait; None waits for ever, 0 tries once.

        Raises:
            MemxTimeout: Others held it all the time.
            ForbiddenError: The API key may not read or not write the key.
        """
        if self._heart is not None:
            raise RuntimeError(f"the lock {self.key!r} is held by this very object already")
        deadline = None if timeout is None else time.monotonic() + timeout
        # The common case costs one write and no subscription.
        await self._give_way()
        if not await self._try():
            await self._take_turns(deadline)
        return self

    async def release(self) -> None:
        """Give the lock back.

        Raises:
            LockLostError: It was lost before.
        """
        # Both are taken once: a fork or a second `release` may clear them while this one waits
        # below.
        token, heart = self._token, self._heart
        if token is None:
            return
        if heart is None or self._forked:
            # The lock is the parent's, which goes on renewing it: this process must not delete it.
            self._token = None
            raise LockLostError("lock_lost", f"the lock {self.key!r} stays with the parent process")
        # The heartbeat ends first: a touch that came after the delete would only find a conflict,
        # and take it for a lock that was lost.
        self._stopping.set()
        await heart.join()
        # Before the token is cleared, without which `lost` has nothing to say.
        lost = self.lost
        self._token = self._heart = None
        try:
            # Also where the lease has run out by this clock: the store's may have a moment left,
            # and the next one need not wait for it. The compare keeps this from deleting another's
            # lock.
            await self._operations.delete(self.key, if_revision=token)
        except ConflictError:
            lost = True
        except MemxError as error:
            log.warning("the lock %r frees itself in %g s: %s", self.key, self.ttl, error)
        # Also after a failure: the courtesy costs a few milliseconds at the most.
        self._remember_release()
        if lost:
            raise LockLostError("lock_lost", f"the lock {self.key!r} was lost while it was needed")

    async def __aenter__(self) -> Self:
        return await self.acquire(self._timeout)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.release()
        except LockLostError:
            # An exception of the block goes first; that the lock was lost would only hide it.
            if error is None:
                raise

    async def _give_way(self) -> None:
        """Let those who wait go first: the news of a release reaches them later than its maker."""
        # Popped, so that the courtesy is shown once: the attempt after it is as any other's.
        released = self._released.pop(self.key, 0.0)
        pause = released + _COURTESY - time.monotonic()
        if pause > 0:
            await sleep(pause)

    def _remember_release(self) -> None:
        # Names of locks may be without number. To forget all of them costs some fairness for a
        # moment, and no correctness.
        if len(self._released) >= _MOST_REMEMBERED:
            self._released.clear()
        self._released[self.key] = time.monotonic()

    async def _try(self) -> bool:
        sent_at = lease_clock()
        try:
            # ``if_revision=0`` is the mutual exclusion: of all who try, the store lets one create
            # the key. Without history, since a lock's value tells nothing that the log should keep.
            taken = await self._operations.set(
                self.key, {"holder": self._holder}, if_revision=0, ttl=self.ttl, history=False
            )
        except ConflictError:
            return False
        # That the write was applied is not enough: see `_confirm`.
        confirmed_at = await self._confirm(taken.revision, sent_at)
        if confirmed_at is None:
            return False
        # New for each holding: a lock object that lost the lock may take it again.
        self._lost, self._stopping = Event(), Event()
        self._renewed_at, self._token, self._forked = confirmed_at, taken.revision, False
        # Last, since the heartbeat reads all that is set above.
        self._heart = spawn(f"memx-lock-{self.key}", self._beat, taken.revision)
        return True

    async def _confirm(self, token: int, sent_at: float) -> float | None:
        """Make sure that the lock, which an answer says was taken, is held now.

        An answer may be late: the first one was lost, and the repetition under the same idempotency
        key is answered as the first time, although the key has expired since and another may have
        taken the lock. So a late answer is followed by a renewal on condition of the revision,
        whose own answer must be in time.

        Returns:
            When the request left that proved it; None where the lock is lost already.
        """
        for _ in range(_CONFIRMATIONS):
            # Half of the lease is left at the least: enough for a heartbeat, of which the first may
            # be due at once.
            if lease_clock() < sent_at + self.ttl * _LATE:
                return sent_at
            sent_at = lease_clock()
            try:
                await self._operations.touch(self.key, self.ttl, if_revision=token)
            except ConflictError:
                log.warning("the lock %r was lost before it was known to be taken", self.key)
                return None
        # With a ``ttl`` near the time of a round trip every answer is late; one that came before the
        # end of the lease proves enough to begin with.
        return sent_at if lease_clock() < sent_at + self.ttl else None

    async def _take_turns(self, deadline: float | None) -> None:
        """Take the lock when its holder has let go of it, along with others who wait."""
        # Subscribed before the next attempt: a release between that attempt and the subscription
        # would be seen by nobody, and the wait would never end.
        async with self._subscribe(self.key) as changes:
            await self._next(changes.ready, deadline)
            # How often others were quicker. It shortens the scatter, so that whoever has waited
            # long is more likely to be the first.
            missed = 1
            # An attempt, and where it fails a wait for the news that the lock is free. A change
            # that shows somebody taking it calls for no attempt.
            while not await self._try():
                while _takes(await self._next(changes.next, deadline)) or not (
                    await self._stays_free(changes, missed)
                ):
                    missed += 1

    async def _stays_free(self, changes: AsyncSubscription, missed: int) -> bool:
        """Wait a moment, so that not everyone tries at once; tell whether nobody was quicker."""
        try:
            # Waiting for the pause and for news is one: a change that comes meanwhile shows that
            # another was quicker, and spares an attempt that would be refused.
            change = await changes.next(chance() * _SCATTER / missed)
        except MemxTimeout:
            return True
        return not _takes(change)

    async def _next(
        self, wait: Callable[[float | None], Awaitable[Item]], deadline: float | None
    ) -> Item:
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            return await wait(remaining)
        except MemxTimeout:
            raise MemxTimeout("timeout", f"others held the lock {self.key!r}") from None

    async def _beat(self, token: int) -> None:
        """Give signs of life until the lock is released or lost."""
        while not await self._stopping.wait(self._until_next_beat()):
            # The machine may have been suspended, or this task not run for long: then the lock may
            # be another's, and a renewal would only hide that it was lost.
            if self.lost:
                return
            sent_at = lease_clock()
            try:
                await self._operations.touch(self.key, self.ttl, if_revision=token)
            except ConflictError:
                self._lost.set()
                return
            except MemxClosedError:
                return  # nothing can be renewed any more: the lease ends by time
            except MemxError as error:
                log.warning("no sign of life for the lock %r: %s", self.key, error)
            else:
                # If the lease ran out meanwhile and somebody saw it, ``_lost`` is set and stays so.
                # If nobody did, the renewal on condition of the revision proves that no other has
                # held the lock in between.
                # From when the request left, as in ``__init__``: the time on the way is not the
                # holder's.
                self._renewed_at = sent_at

    def _until_next_beat(self) -> float:
        # Reckoned from the last renewal and not from the last attempt, so that a slow answer does
        # not shift the beats towards the end of the lease.
        due = self._renewed_at + self.ttl / _HEARTBEATS_PER_TTL
        # After a failed beat, which renewed nothing, the next one comes soon, but not at once.
        return max(due - lease_clock(), self.ttl / _HEARTBEATS_PER_TTL / 10)

    def forget_parent(self) -> None:
        """Leave the lock to the parent, in a forked child."""
        # The token is kept: `lost` and `release` answer by it, and say that the lock is the
        # parent's.
        held = self._token is not None
        self._lost, self._stopping, self._heart = Event(), Event(), None
        if held:
            self._forked = True
            self._lost.set()


def _takes(change: Change | Reset) -> bool:
    """Tell whether ``change`` is somebody taking the lock; after any other it may be free."""
    return isinstance(change, Change) and change.action == "set"
