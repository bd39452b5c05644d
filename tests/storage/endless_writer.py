"""A process that writes to an SQLite store without end and says what was acknowledged; a test kills it.

Each line on stdout: writer, number, revision.
"""

from __future__ import annotations

import asyncio
import os
import sys

from memx_server.storage.base import Committed, Put, Transaction
from memx_server.storage.sqlite import SqliteStore

WRITERS = 8


async def write_for_ever(store: SqliteStore, writer: int) -> None:
    number = 0
    while True:
        number += 1
        value = b"%d" % number
        writes = [Put(f"left:{writer}", value), Put(f"right:{writer}", value)]
        (outcome,) = await store.commit("default", [Transaction(f"writer/{writer}", writes)])
        assert isinstance(outcome, Committed)
        os.write(1, b"%d %d %d\n" % (writer, number, outcome.position.revision))


async def main(path: str) -> None:
    store = SqliteStore(path)
    await store.open()
    store.announce(address="http://127.0.0.1:1234")
    await asyncio.gather(*(write_for_ever(store, writer) for writer in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
