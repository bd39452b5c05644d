"""Reads and writes of NATS JetStream's key-value store, by nats-py.

Started by ``peers.py`` under an interpreter that has nats-py, as
``python -m benchmarks.nats_client URL get|set VALUE SECONDS``; prints a ``Sample`` as JSON.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys

import nats  # type: ignore[import-not-found, unused-ignore]  # lives in the peers' own environment
import uvloop

from benchmarks.calls import by_tasks
from benchmarks.table import Sample

_CALLERS = 32


async def measure(url: str, verb: str, value: bytes, seconds: float) -> Sample:
    """Read or write one key of a bucket."""
    client = await nats.connect(url)
    bucket = await client.jetstream().create_key_value(bucket="bench", direct=True)
    await bucket.put("plain", value)

    async def get() -> None:
        if (await bucket.get("plain")).value != value:
            raise RuntimeError("the bucket answers with something else")

    async def put() -> None:
        await bucket.put("plain", value)

    try:
        return await by_tasks(None, get if verb == "get" else put, _CALLERS, seconds)
    finally:
        await client.close()


if __name__ == "__main__":
    url, verb, value, seconds = sys.argv[1:]
    found = uvloop.run(asyncio.wait_for(measure(url, verb, value.encode(), float(seconds)), 120))
    print(json.dumps(dataclasses.asdict(found)))
