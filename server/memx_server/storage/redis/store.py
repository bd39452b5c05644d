"""The Store protocol on Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from memx_sdk.protocol.cursors import Position
from memx_sdk.protocol.durability import Durability
from memx_server.storage.base import (
    NO_QUOTAS,
    HistoryPage,
    KeyPage,
    LogPage,
    Outcome,
    Put,
    RevisionPage,
    SpaceQuotas,
    SpaceSchemas,
    StateStore,
    StoreUnavailable,
    TailListener,
    Touch,
    Transaction,
)
from memx_server.storage.redis.advice import (
    advice_from,
    advice_on_sentinels,
    facts_of,
    fault_from,
)
from memx_server.storage.redis.commits import CommitRunner, LogLimits
from memx_server.storage.redis.confirmations import Confirmations
from memx_server.storage.redis.format import check_format
from memx_server.storage.redis.keyspace import Keyspace, Keyspaces
from memx_server.storage.redis.network.pubsub import PubSub
from memx_server.storage.redis.network.sentinel import Sentinel
from memx_server.storage.redis.network.urls import topology_of
from memx_server.storage.redis.reads import RedisReads
from memx_server.storage.redis.rights import RedisRights
from memx_server.storage.redis.state import RedisState
from memx_server.storage.redis.sweeper import Sweeper

_OLDEST_VERSION = (6, 2)

_PATIENCE = 0.5
"""Seconds that a write waits for a replica or the disk."""

_NOTHING = Transaction(writer="", writes=())


class RedisStore:
    """Spaces in Redis 6.2 or later, or Valkey: standalone, behind Sentinels, or a cluster.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``,
            ``redis+sentinel://host:port,.../service/db`` or ``redis+cluster://host:port,...``.
        log_max_records: Records that the log of a space keeps.
        log_max_bytes: Bytes of change texts that the log of a space keeps.
        quotas: The most that a space may hold.
        timeout: Seconds without a sign of life after which Redis counts as unavailable.
        prefix: What every Redis key starts with.

    Raises:
        ValueError: The URL or the prefix cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        log_max_records: int = 100_000,
        log_max_bytes: int = 64 * 1024 * 1024,
        quotas: SpaceQuotas = NO_QUOTAS,
        timeout: float = 1.0,
        prefix: str = "memx",
    ) -> None:
        self._topology = topology_of(url, timeout)
        self._keyspaces = Keyspaces(prefix)
        log_limits = LogLimits(log_max_records, log_max_bytes)
        self._rights = RedisRights(self._topology, prefix, timeout)
        self._commits = CommitRunner(
            self._topology, log_limits, quotas, on_denied=self._rights.suspect
        )
        self._confirmations = Confirmations(self._topology, _PATIENCE, timeout)
        self._reads = RedisReads(self._topology)
        self._tail = PubSub(self._topology, timeout, on_denied=self._rights.suspect)
        self._sweeper = Sweeper(
            self._topology, self._keyspaces, self._commit_nothing, lambda: self._tail.spaces
        )
        self.state: StateStore = RedisState(self._topology, self._keyspaces)

    async def open(self) -> None:
        """Connect and start the expiry sweep.

        Raises:
            StoreUnavailable: Redis cannot be reached (the store works all the same once it can),
                is too old, or denies memX's user a right that it cannot do without.
            CannotOpen: A newer memX has written there.
        """
        self._topology.start()
        self._sweeper.start()
        info = await self._topology.call(0, b"INFO", b"server")
        version = info.partition(b"redis_version:")[2].split(b"\r\n")[0].decode()
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_VERSION:
            raise StoreUnavailable(f"memX needs Redis 6.2 or later; this is {version}")
        await self._rights.test()
        if advice := list(self._rights.advice()):
            self._rights.suspect()  # until it has been given
        if self._rights.refusal is not None:
            raise StoreUnavailable(*advice)
        await check_format(self._topology, self._keyspaces)

    async def close(self) -> None:
        """Stop background work and close every connection."""
        await self._rights.close()
        await self._confirmations.close()
        await self._sweeper.close()
        await self._tail.close()
        await self._topology.close()

    async def ping(self) -> None:
        """Return when Redis answers and, as far as it tells, takes writes.

        Raises:
            StoreUnavailable: It does not answer, is full, cannot write to its disk, or denies memX's user
                a right.
        """
        info: bytes = await self._topology.call(0, b"INFO")
        fault = self._rights.refusal or fault_from(facts_of(info.decode(errors="replace")))
        if fault is not None:
            raise fault

    async def advice(self) -> Sequence[str]:
        """Say what in Redis's settings could lose memory, or keeps memX from its work."""
        info: bytes = await self._topology.call(0, b"INFO")
        facts = facts_of(info.decode(errors="replace"))
        advice = [*self._rights.advice(), *advice_from(facts)]
        if isinstance(self._topology, Sentinel):
            advice += advice_on_sentinels(*self._topology.reach, facts)
        return advice

    async def read(
        self, space: str, keys: Sequence[str], *, most_bytes: int | None = None
    ) -> Sequence[bytes | None]:
        """Read entries of one moment; None for each key that does not exist.

        Raises:
            TooMuch: Several of them hold more than ``most_bytes``.
        """
        return await self._reads.entries(self._keyspaces.space(space), keys, most_bytes)

    async def list(
        self, space: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> KeyPage:
        """Read the live entries whose keys start with ``prefix`` and sort behind ``after``."""
        return await self._reads.keys(self._keyspaces.space(space), prefix, after, limit)

    async def revisions(
        self, space: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> RevisionPage:
        """Read the keys that ``list`` finds with their entries' revisions."""
        return await self._reads.revisions(self._keyspaces.space(space), prefix, after, limit)

    async def commit(
        self, space: str, transactions: Sequence[Transaction]
    ) -> Sequence[Outcome | StoreUnavailable]:
        """Apply each of ``transactions`` atomically, in this order, in the total order of the space.

        Raises:
            CommitRefused: Redis refused the commit script for what it found in the space.
        """
        if (refusal := self._rights.refusal) is not None:
            return [refusal.copy() for _ in transactions]
        if any(map(_gives_expiry, transactions)):
            try:
                await self._sweeper.before_expiry(space)
            except StoreUnavailable as error:  # nothing was sent
                return [error.copy() for _ in transactions]
        keyspace = self._keyspaces.space(space)
        outcomes, unfinished = await self._commits.commit(keyspace, transactions)
        if unfinished:
            self._sweeper.finish(space)
        return outcomes

    async def confirm(self, space: str, durability: Durability) -> bool:
        """Wait, half a second at the most, until a replica or the disk has all that was committed to ``space``."""
        if durability == "memory":
            return True
        return await self._confirmations.confirm(self._keyspaces.space(space).slot, durability)

    async def head(self, space: str) -> Position:
        """The position after the newest change; revision 0 in a space that never held anything."""
        return await self._reads.head(self._keyspaces.space(space))

    async def log(self, space: str, since: Position | None, limit: int) -> LogPage:
        """Read the log after ``since`` (None: from the oldest record kept).

        Raises:
            Compacted: The log has been trimmed past ``since``.
            Diverged: ``since`` is above the head or names a history that was lost or never was.
        """
        return await self._reads.log(self._keyspaces.space(space), since, limit)

    async def history(
        self, space: str, key: str, limit: int, *, until: int | None = None
    ) -> HistoryPage:
        """Read the changes of ``key``, newest first, from revision ``until`` (None: head) down."""
        return await self._reads.history(self._keyspaces.space(space), key, limit, until)

    async def schemas(self, space: str) -> SpaceSchemas:
        """Read all schemas of the space."""
        return await self._reads.schemas(self._keyspaces.space(space))

    async def tail(self, space: str, listener: TailListener) -> Callable[[], Awaitable[None]]:
        """Tell ``listener`` of every commit from now on; await what is returned to stop."""
        return await self._tail.add(self._keyspaces.space(space), listener)

    async def _commit_nothing(self, space: Keyspace) -> bool:
        (outcome,), unfinished = await self._commits.commit(space, (_NOTHING,))
        if isinstance(outcome, StoreUnavailable):
            raise outcome
        return unfinished


def _gives_expiry(transaction: Transaction) -> bool:
    return any(
        isinstance(write, Put | Touch) and write.ttl_ms is not None for write in transaction.writes
    )
