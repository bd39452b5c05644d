"""The bytes that a write leaves behind for its idempotency key, in both stores.

    python tools/write_footprint.py [--writes 2000]

It writes through the SDK, whose every write carries such a key, and measures what the store holds of the results
afterwards: the pages of their table in SQLite, the memory of their keys in Redis. The last column is what one client
leaves behind at 100 writes a second. It needs a `redis-server` on the PATH.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sqlite3
import tempfile
from pathlib import Path

import redis
from memx_server.app import create_app
from memx_server.serving import background_server
from memx_server.settings import Settings

from memx_sdk import AsyncMemxContext
from tests.support.redis_server import RedisServer


async def write(api_key: str | None, url: str, writes: int) -> None:
    """Make ``writes`` writes, of which a third are updates."""
    async with AsyncMemxContext(api_key, base_url=url) as memx:
        for number in range(0, writes, 50):
            await asyncio.gather(
                *(memx.set(f"k:{n % 10}", {"n": n}) for n in range(number, number + 34)),
                *(memx.increment("count") for _ in range(16)),
            )


def in_sqlite(writes: int, folder: Path) -> tuple[float, float]:
    """Return the bytes of a result, and for how many seconds it is kept."""
    asyncio.run(write(None, f"embedded:{folder}", writes))
    with sqlite3.connect(folder / "memx.db") as file:
        (size,) = file.execute(
            "SELECT sum(pgsize) FROM dbstat WHERE name LIKE '%idempotency%'"
        ).fetchone()
        (kept_until,) = file.execute("SELECT max(expires_at) FROM idempotency").fetchone()
        (written,) = file.execute("SELECT max(ts) / 1000 FROM entries").fetchone()
    return size / writes, (kept_until - written) / 1000


def in_redis(writes: int, folder: Path) -> tuple[float, float]:
    """Return the bytes of a result, and for how many seconds it is kept."""
    acl = folder / "acl.json"
    acl.write_text('{"footprint": ["*"]}')
    server = RedisServer(shutil.which("redis-server") or "redis-server").start()
    try:
        settings = Settings(store_url=server.url, acl_file=acl)
        with background_server(create_app(settings)) as url:
            asyncio.run(write("footprint", url, writes))
        with redis.Redis.from_url(server.url) as client:
            results = client.keys("memx:*:i:*")
            expiry_entry = 40  # of the table of expiries, which MEMORY USAGE leaves out
            size = sum(client.memory_usage(key) + expiry_entry for key in results)
            kept = max(map(client.pttl, results)) / 1000
    finally:
        server.stop()
    return size / writes, kept


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writes", type=int, default=2000)
    writes = parser.parse_args().writes // 50 * 50
    print(f"{'store':8}{'bytes a write':>15}{'kept':>10}{'at 100 a second':>18}")
    for name, measure in (("sqlite", in_sqlite), ("redis", in_redis)):
        with tempfile.TemporaryDirectory() as folder:
            size, seconds = measure(writes, Path(folder))
        held = 100 * seconds * size / 1e6
        print(f"{name:8}{size:15.0f}{seconds:8.0f} s{held:15,.0f} MB")


if __name__ == "__main__":
    main()
