"""Nobody misses a change and nobody gets one twice, on any server, whatever breaks meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.feed.followers import EventFollower, Follower, MultiplexedFollower, Seen, Writer
from tests.feed.sockets import Address, api_key
from tests.support.memx_server import MemxServer
from tests.support.redis_server import RedisServer, newest_redis

PROGRESS = 120
"""Acknowledged writes between one fault and the next."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of its own that keeps what it has acknowledged."""
    options = {"appendonly": "yes", "appendfsync": "always"}
    with RedisServer(newest_redis(), options) as server:
        yield server


@pytest.mark.timeout(120)
async def test_every_subscriber_ends_with_exactly_the_logs_history(redis: RedisServer) -> None:
    """Four writers, fifty subscribers, two servers; pub/sub cut, a worker killed, Redis restarted."""
    environ = {"REDIS_URL": redis.url}
    with (
        MemxServer("serve", environ=environ, arguments=("--workers", "2")) as one,
        MemxServer("serve", environ=environ) as two,
    ):
        servers = [Address(one.url), Address(two.url)]
        start = await _head(servers[1])
        followers = _followers(servers, start)
        writers = [Writer(f"w{n}", [*servers[n % 2 :], *servers[: n % 2]]) for n in range(4)]
        following = [asyncio.create_task(each.run()) for each in followers]
        writing = [asyncio.create_task(each.run()) for each in writers]

        await _progress(writers)
        _cut_pubsub(redis)
        await _progress(writers)
        _kill_a_worker(one)
        await _progress(writers)
        await asyncio.to_thread(redis.restart)
        await _progress(writers)
        _cut_pubsub(redis)
        await _progress(writers)

        for writer in writers:
            writer.stopped = True
        await asyncio.gather(*writing)
        log = await _log(servers[1], start)
        await _caught_up(followers, log)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)

    assert {each.connections for each in followers} != {1}  # some were cut off
    acknowledged = sorted(revision for writer in writers for revision in writer.acknowledged)
    assert sorted({revision for revision, _, _ in log}) == acknowledged  # each write once
    for follower in followers:
        assert not follower.resets
        assert follower.seen == log


def _followers(servers: list[Address], start: str) -> list[Follower]:
    kinds = [Follower] * 30 + [MultiplexedFollower] * 12 + [EventFollower] * 4
    followers = [kind(servers[n % 2], start) for n, kind in enumerate(kinds)]
    return followers + [Follower(servers[n % 2], start, pause=0.004) for n in range(4)]


async def _progress(writers: list[Writer]) -> None:
    """Wait until every writer has got on."""
    goals = [len(writer.acknowledged) + PROGRESS // len(writers) for writer in writers]
    async with asyncio.timeout(30):
        for writer, goal in zip(writers, goals, strict=True):
            await writer.acknowledges(goal)


async def _caught_up(followers: list[Follower], log: list[Seen]) -> None:
    """Wait until every follower has been told as much as there is, or more."""
    async with asyncio.timeout(30):
        for follower in followers:
            await follower.sees(len(log))
    await asyncio.sleep(0.2)  # for what would come twice


def _cut_pubsub(redis: RedisServer) -> None:
    with redis.client() as client:
        assert client.execute_command("CLIENT", "KILL", "TYPE", "pubsub") > 0


def _kill_a_worker(server: MemxServer) -> None:
    """Kill the process that serves most of the server's connections."""
    workers = psutil.Process(server.pid).children()
    busiest = max(workers, key=lambda worker: len(worker.net_connections()))
    os.kill(busiest.pid, signal.SIGKILL)


async def _head(server: Address) -> str:
    async with httpx.AsyncClient(base_url=server.url, headers=api_key(server, None)) as http:
        return str((await http.get("/changes")).json()["cursor"])


async def _log(server: Address, since: str) -> list[Seen]:
    """The whole log after ``since``, page by page."""
    found: list[Seen] = []
    async with httpx.AsyncClient(base_url=server.url, headers=api_key(server, None)) as http:
        more = True
        while more:
            page = (await http.get(f"/changes?limit=500&since={since}")).json()
            found += [(each["revision"], each["key"], each["value"]) for each in page["changes"]]
            since, more = page["cursor"], page["more"]
    return found
