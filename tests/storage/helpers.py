"""Short words for what the storage tests do again and again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from memx_server.storage.base import (
    Change,
    Committed,
    Compare,
    Conflicted,
    Outcome,
    Put,
    Record,
    Store,
    StoreUnavailable,
    Transaction,
    Write,
)
from memx_server.storage.encoding import StoredEntry, decode_entry

from memx_sdk.protocol.cursors import Position

SPACE = "default"
WRITER = "tester/one"
PATIENCE = 10.0
"""Seconds that a test waits for what must come."""


async def commit_one(store: Store, space: str, transaction: Transaction) -> Outcome:
    """Commit one transaction by itself.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    (outcome,) = await store.commit(space, [transaction])
    if isinstance(outcome, StoreUnavailable):
        raise outcome
    return outcome


async def commit(
    store: Store, *writes: Write, space: str = SPACE, compares: Sequence[Compare] = ()
) -> Committed:
    """Commit ``writes`` in one transaction, which has to succeed."""
    outcome = await commit_one(store, space, Transaction(WRITER, writes, compares))
    assert isinstance(outcome, Committed), outcome
    return outcome


async def put(store: Store, key: str, value: object = 1, *, space: str = SPACE) -> int:
    """Set ``key``; returns the revision."""
    return (await commit(store, Put(key, text(value)), space=space)).position.revision


async def refused(
    store: Store, *writes: Write, space: str = SPACE, compares: Sequence[Compare]
) -> Conflicted:
    """Commit ``writes`` where a compare has to fail."""
    outcome = await commit_one(store, space, Transaction(WRITER, writes, compares))
    assert isinstance(outcome, Conflicted), outcome
    return outcome


def text(value: object) -> bytes:
    """A value as JSON text."""
    return json.dumps(value, separators=(",", ":")).encode()


async def read(store: Store, key: str, *, space: str = SPACE) -> StoredEntry | None:
    """Read one entry."""
    (found,) = await store.read(space, [key])
    return None if found is None else decode_entry(found)


async def entry(store: Store, key: str, *, space: str = SPACE) -> StoredEntry:
    """Read one entry that has to exist."""
    found = await read(store, key, space=space)
    assert found is not None
    return found


async def value(store: Store, key: str, *, space: str = SPACE) -> Any:
    """Read a value, None where there is none."""
    found = await read(store, key, space=space)
    return None if found is None else json.loads(bytes(found.value))


async def whole_log(
    store: Store, since: Position | None = None, *, space: str = SPACE, limit: int = 1000
) -> list[Record]:
    """Read the log to its head."""
    records: list[Record] = []
    while True:
        page = await store.log(space, since, limit)
        records += page.records
        since = page.position
        if since.revision == page.head:
            return records


def changes_of(records: Sequence[Record]) -> list[Change]:
    """The changes of records that carry them."""
    return [change for record in records for change in record.changes or ()]


def seen(change: Change) -> dict[str, Any]:
    """A change as a subscriber sees it."""
    parsed: dict[str, Any] = json.loads(change.data)
    return parsed


def summary(changes: Sequence[Change]) -> list[tuple[str, str]]:
    """What happened to which key."""
    return [(change.action, change.key) for change in changes]


class Listener:
    """A TailListener that collects; a test waits on it for what must come."""

    def __init__(self) -> None:
        self._told: list[Record] = []
        self._news = asyncio.Event()

    def on_record(self, record: Record) -> None:
        self._told.append(record)
        self._news.set()

    def on_gap(self) -> None:
        self._news.set()

    @property
    def records(self) -> list[Record]:
        """What was told, each record once, in order: a store may repeat itself."""
        by_revision = {record.position.revision: record for record in self._told}
        return [by_revision[revision] for revision in sorted(by_revision)]

    @property
    def changes(self) -> list[Change]:
        return changes_of(self.records)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until ``holds``, which is asked again after each record."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def heard(self, revision: int) -> None:
        """Wait for the record of ``revision``."""
        await self.until(lambda: any(record.position.revision == revision for record in self._told))


async def eventually(holds: Callable[[], Any]) -> None:
    """Ask again and again until what ``holds`` makes returns something true."""
    async with asyncio.timeout(PATIENCE):
        while not await holds():  # noqa: ASYNC110 - only asking can tell, an expiry makes no event
            await asyncio.sleep(0.005)


async def in_time(act: Callable[[str, int], Awaitable[None]]) -> str:
    """Do ``act(name, ttl_ms)`` in less than that time; a busy machine gets a longer one.

    Returns the name that it was done with, once the time is over.
    """
    for ttl_ms in (50, 500, 5000):
        name = f"within-{ttl_ms}"
        started = time.monotonic()
        await act(name, ttl_ms)
        if time.monotonic() < started + ttl_ms / 1000:
            await asyncio.sleep(ttl_ms / 1000 + 0.005)  # it began to count somewhere in between
            return name
    raise AssertionError("the machine is too busy for a test of time")
