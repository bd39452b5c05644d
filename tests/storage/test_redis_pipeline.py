"""Commands of one turn of the event loop leave as one pipeline, in parts where it is long."""

from __future__ import annotations

import asyncio
import json

from memx_server.storage.base import Put
from memx_server.storage.redis import RedisStore

from tests.storage.helpers import SPACE, commit, put
from tests.support.redis_server import RedisServer


def reads_by(server: RedisServer) -> int:
    """How often the server has read from a socket so far."""
    with server.client() as client:
        count: int = client.info("stats")["total_reads_processed"]
        return count


async def test_what_is_asked_in_one_turn_is_one_pipeline(redis_any: RedisServer) -> None:
    store = RedisStore(redis_any.url, prefix="pipeline")
    await asyncio.gather(*(put(store, f"k{number}", number) for number in range(50)))

    before = reads_by(redis_any)
    entries = await asyncio.gather(*(store.read(SPACE, [f"k{number}"]) for number in range(50)))
    await asyncio.gather(*(put(store, f"k{number}", -number) for number in range(50)))
    used = reads_by(redis_any) - before
    await store.close()

    assert [json.loads(entry)["value"] for (entry,) in entries if entry] == list(range(50))
    # Fifty reads fill about one part of 4 KiB, fifty commits about twelve; one by one it were 100.
    assert used < 20


async def test_answers_come_to_those_who_asked(redis_any: RedisServer) -> None:
    store = RedisStore(redis_any.url, prefix="answers")

    async def one(number: int) -> bool:
        key = f"k{number % 7}:{number}"
        done = await commit(store, Put(key, b"%d" % number))
        (entry,) = await store.read(SPACE, [key])
        page = await store.history(SPACE, key, 1)
        assert entry is not None
        return (
            json.loads(entry)["value"] == number
            and json.loads(page.changes[0].data)["revision"] == done.position.revision
            and (await store.log(SPACE, None, 1)).records[0].previous == 0
        )

    assert all(await asyncio.gather(*(one(number) for number in range(300))))
    await store.close()


async def test_big_and_small_answers_share_a_connection(redis_any: RedisServer) -> None:
    store = RedisStore(redis_any.url, prefix="big")
    big = "x" * 1_000_000
    await put(store, "big", big)
    await put(store, "small", 1)

    calls = [store.read(SPACE, ["big" if number % 4 == 0 else "small"]) for number in range(40)]
    entries = [json.loads(entry)["value"] for (entry,) in await asyncio.gather(*calls) if entry]
    await store.close()

    assert entries == [big if number % 4 == 0 else 1 for number in range(40)]
