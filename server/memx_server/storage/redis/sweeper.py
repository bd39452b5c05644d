"""The sweeper: logs expiries where no commit comes to log them, and goes on with what a commit left."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from memx_server.storage.base import StoreUnavailable
from memx_server.storage.redis.keyspace import Keyspace, Keyspaces
from memx_server.storage.redis.network.topology import Script, Topology

log = logging.getLogger(__name__)

_EVERY = 0.5
_ANNOUNCE_EVERY = 60.0
_REGISTERED_KEPT = 3600.0
"""Seconds: between sweeps, between two times a writer names its space to the other processes, and
until a space without expiries that nobody names any more is forgotten."""

_SPACES_AT_ONCE = 500
_REGISTERED_AT_ONCE = 50
_PIPELINED = 50
_COMMITS_AT_ONCE = 10
"""Bounds of one sweep: spaces looked at, those of them from the registry, spaces asked in one
pipeline, commits in each space."""


class Sweeper:
    """A task that looks, twice a second, for due expiries in the spaces that matter to this process.

    Those are the spaces that are tailed here or were given expiries from here, and by turns those
    in the registry, whose writers may be gone.

    Args:
        topology: Where the spaces are.
        keyspaces: Names their keys.
        commit: Commits an empty transaction, which logs what is due; returns whether more is left.
        tailed: The spaces that are tailed now.
    """

    def __init__(
        self,
        topology: Topology,
        keyspaces: Keyspaces,
        commit: Callable[[Keyspace], Awaitable[bool]],
        tailed: Callable[[], Iterable[str]],
    ) -> None:
        self._topology = topology
        self._keyspaces = keyspaces
        self._commit = commit
        self._tailed = tailed
        self._due = Script("due")
        self._forget = Script("forget")
        self._given: dict[str, float] = {}
        self._announced: dict[str, float] = {}
        self._unfinished: set[str] = set()
        self._registered_from = 0
        self._turn = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop sweeping."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def before_expiry(self, space: str) -> None:
        """See to it that an expiry about to be given is logged in time, if need be by other processes."""
        now = time.monotonic()
        self._given[space] = now
        # The registry names the space before the commit gives the expiry: if this process dies in
        # between, another one sweeps a space without expiries, and none is forgotten.
        if now > self._announced.get(space, float("-inf")) + _ANNOUNCE_EVERY:
            await self._topology.call(
                self._keyspaces.registry_slot,
                *(b"ZADD", self._keyspaces.expiring, repr(time.time()), space),
            )
            self._announced[space] = now

    def finish(self, space: str) -> None:
        """Go on with what a commit in ``space`` left undone."""
        self._unfinished.add(space)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            try:
                await self._sweep()
            except StoreUnavailable:
                continue
            except Exception:
                log.exception("sweeping expiries failed")

    async def _sweep(self) -> None:
        started = time.monotonic()
        registered = await self._registered()
        spaces = list(
            dict.fromkeys([*self._given, *self._tailed(), *self._unfinished, *registered])
        )
        if len(spaces) > _SPACES_AT_ONCE:
            self._turn = (self._turn + _SPACES_AT_ONCE) % len(spaces)
            spaces = (spaces[self._turn :] + spaces[: self._turn])[:_SPACES_AT_ONCE]
        for first in range(0, len(spaces), _PIPELINED):
            some = spaces[first : first + _PIPELINED]
            states = await asyncio.gather(*[self._due_in(space) for space in some])
            for space, state in zip(some, states, strict=True):
                if state > 0 or space in self._unfinished:
                    await self._work_on(space)
                elif state < 0:
                    await self._let_go(space, started, registered.get(space))

    async def _due_in(self, space: str) -> int:
        keys = self._keyspaces.space(space)
        state: int = await self._due.run(self._topology, keys.slot, [keys.expiries], [])
        return state

    async def _work_on(self, space: str) -> None:
        for _ in range(_COMMITS_AT_ONCE):
            if not await self._commit(self._keyspaces.space(space)):
                self._unfinished.discard(space)
                return
        self._unfinished.add(space)

    async def _let_go(self, space: str, started: float, registered_at: float | None) -> None:
        # A writer that came while the sweep was under way keeps its space.
        if self._given.get(space, started) < started:
            del self._given[space]
            self._announced.pop(space, None)
        if registered_at is not None and registered_at < time.time() - _REGISTERED_KEPT:
            arguments: list[Any] = [space, repr(registered_at)]
            await self._forget.run(
                *(self._topology, self._keyspaces.registry_slot),
                *([self._keyspaces.expiring], arguments),
            )

    async def _registered(self) -> dict[str, float]:
        """The next few spaces of the registry, and when each was last named."""
        first = self._registered_from
        found = await self._topology.call(
            self._keyspaces.registry_slot,
            *(b"ZRANGE", self._keyspaces.expiring, first, first + _REGISTERED_AT_ONCE - 1),
            b"WITHSCORES",
        )
        names, scores = found[::2], found[1::2]
        self._registered_from = first + len(names) if len(names) == _REGISTERED_AT_ONCE else 0
        return {name.decode(): float(score) for name, score in zip(names, scores, strict=True)}
