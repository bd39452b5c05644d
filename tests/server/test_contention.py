"""Many updates of one key at once: they wait for each other, and a long queue is no fault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memx_server.settings import Settings
from memx_server.storage.base import Transaction
from memx_server.storage.sqlite import SqliteStore

from memx_sdk import AsyncMemxContext
from tests.support.memx_server import serve_store


class SlowDisk(SqliteStore):
    """A store whose commits take their time."""

    async def commit(self, space: str, transactions: Sequence[Transaction]) -> Any:
        await asyncio.sleep(0.02)
        return await super().commit(space, transactions)


async def test_a_queue_longer_than_the_deadline_of_a_write_is_served_to_its_end(
    tmp_path: Path,
) -> None:
    deadline, updates = 0.3, 40
    with serve_store(SlowDisk(tmp_path / "memx.db"), Settings(write_deadline=deadline)) as served:
        async with AsyncMemxContext(served.api_key, served.url, max_retries=0) as memx:
            begun = time.monotonic()
            await asyncio.gather(*(memx.increment("count") for _ in range(updates)))
            took = time.monotonic() - begun
            entry = await memx.get("count")

    assert took > deadline, "the queue was too short to show anything"
    assert entry is not None
    assert entry.value == updates
