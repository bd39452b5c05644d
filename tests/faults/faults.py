"""The faults: what is broken, for how long, and the proof that it was.

Each is a coroutine that breaks something, waits a moment, mends it and returns its proof: figures that would be
different had it not happened. What it raises fails the run, since a fault that did not happen proves nothing.
"""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import redis

from tests.faults.clock import faketime_library
from tests.faults.topologies import RedisCluster, Sentinel, Sqlite, Topology, command, settled
from tests.support.redis_server import RedisServer

Fault = Callable[[Topology, random.Random], Awaitable[dict[str, Any]]]


async def ask(server: RedisServer, *words: Any) -> Any:
    """Run a command without holding up the clients of this process: a Redis that is frozen answers late."""
    return await asyncio.to_thread(command, server, *words)


def _standalone(topology: Topology) -> RedisServer:
    return topology.redis[0]


def _counter(server: RedisServer, section: str, name: str) -> int:
    with server.client(decode_responses=True) as client:
        return int(client.info(section)[name])


async def redis_killed(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Kill Redis as a power cut would, and start it on what its append-only file holds."""
    server = dice.choice(topology.redis)
    before = server.pid
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(dice.uniform(0.05, 1.0))
    await asyncio.to_thread(server.start)
    return {"pid": before, "new_pid": server.pid}


async def redis_restarted(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Stop Redis as an operator would, and start it again."""
    server = dice.choice(topology.redis)
    before = server.pid
    await asyncio.to_thread(server.restart)
    return {"pid": before, "new_pid": server.pid}


async def redis_paused(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Freeze Redis: connections stay open and nothing answers."""
    server, seconds = dice.choice(topology.redis), dice.uniform(0.5, 3.0)
    server.pause()
    try:
        await asyncio.sleep(seconds)
        state = _process_state(server.pid)
    finally:
        server.resume()
    assert state == "T", state
    return {"seconds": round(seconds, 2), "state": state}


def _process_state(pid: int) -> str:
    """Return the state that the kernel tells of a process; T is stopped (proc_pid_stat(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def redis_on_an_older_file(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Take a copy of Redis's files, let writes go on, and start Redis on the copy."""
    server = _standalone(topology)
    copy = server.directory.with_name(server.directory.name + "-older")
    await asyncio.to_thread(shutil.copytree, server.directory, copy)
    await asyncio.sleep(dice.uniform(0.5, 2.0))
    newer = await ask(server, "DBSIZE")
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(shutil.rmtree, server.directory)
    await asyncio.to_thread(copy.rename, server.directory)
    await asyncio.to_thread(server.start)
    return {"keys_before": newer, "keys_after": await ask(server, "DBSIZE")}


async def redis_out_of_memory(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Leave Redis no memory for writes."""
    server = dice.choice(topology.redis)
    before = await asyncio.to_thread(_oom_errors, server)
    await ask(server, "CONFIG SET", "maxmemory", "1")
    try:
        await asyncio.sleep(dice.uniform(0.5, 2.0))
    finally:
        await ask(server, "CONFIG SET", "maxmemory", "0")
    return {"refused": await asyncio.to_thread(_oom_errors, server) - before}


def _oom_errors(server: RedisServer) -> int:
    with server.client(decode_responses=True) as client:
        errors = client.info("errorstats")
    return sum(int(errors.get(name, {}).get("count", 0)) for name in ("errorstat_OOM",))


async def redis_cannot_save(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Let a background save fail, so that Redis refuses writes (MISCONF), as on a full disk."""
    server = dice.choice(topology.redis)
    await ask(server, "CONFIG SET", "save", "3600 1")
    with suppress(redis.RedisError):
        await ask(server, "CONFIG SET", "dbfilename", "dump.rdb")
    (server.directory / "blocked").mkdir(exist_ok=True)
    (server.directory / "dump.rdb").unlink(missing_ok=True)
    (server.directory / "dump.rdb").mkdir()
    try:
        await ask(server, "BGSAVE")
        await settled(lambda: _last_save(server) == "err", 10)
        await asyncio.sleep(dice.uniform(0.5, 1.5))
        status = await asyncio.to_thread(_last_save, server)
    finally:
        (server.directory / "dump.rdb").rmdir()
        await ask(server, "CONFIG SET", "save", "")
        await ask(server, "BGSAVE")
        await settled(lambda: _last_save(server) == "ok", 10)
    return {"rdb_last_bgsave_status": status}


def _last_save(server: RedisServer) -> str:
    with server.client(decode_responses=True) as client:
        return str(client.info("persistence")["rdb_last_bgsave_status"])


async def redis_without_rights(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Take a right that memX needs from its user, and give it back."""
    server = dice.choice(topology.redis)
    right = dice.choice(("-publish", "-xadd", "-set", "-hset", "resetchannels"))
    await ask(server, "ACL SETUSER", "default", right)
    try:
        await asyncio.sleep(dice.uniform(0.5, 1.5))
        denied = (await ask(server, "ACL LIST"))[0]
    finally:
        await ask(server, "ACL SETUSER", "default", "+@all", "allchannels")
    return {"right": right, "acl": denied[-60:]}


async def redis_flushed(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Delete everything in Redis."""
    server = _standalone(topology)
    before = await ask(server, "DBSIZE")
    await ask(server, "FLUSHALL")
    return {"keys": before}


async def scripts_flushed(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Let Redis forget its scripts, several times."""
    server = dice.choice(topology.redis)
    before = await asyncio.to_thread(_counter, server, "memory", "number_of_cached_scripts")
    for _ in range(5):
        await ask(server, "SCRIPT FLUSH")
        await asyncio.sleep(0.1)
    return {"scripts": before}


async def clients_killed(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Cut every connection to Redis, those of pub/sub too, several times."""
    server, killed = dice.choice(topology.redis), 0
    for _ in range(4):
        for kind in ("normal", "pubsub"):
            killed += await ask(server, "CLIENT KILL", "TYPE", kind, "SKIPME", "yes")
        await asyncio.sleep(0.2)
    return {"killed": killed}


async def connections_cut(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Reset connections between memX and Redis in mid-reply."""
    cut = 0
    for _ in range(6):
        cut += topology.links[0].cut()
        await asyncio.sleep(dice.uniform(0.05, 0.3))
    return {"cut": cut}


async def replies_dropped(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Let commands reach Redis and lose the replies."""
    link = topology.links[0]
    before = link.harmed
    link.drop()
    await asyncio.sleep(dice.uniform(0.3, 1.0))
    link.release()
    assert link.harmed > before
    return {"harmed": link.harmed - before}


async def replies_late(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Hold replies back, longer than a server waits, and then let them go on."""
    link = topology.links[0]
    before = link.harmed
    link.hold()
    await asyncio.sleep(dice.uniform(0.5, 2.5))
    link.release()
    assert link.harmed > before
    return {"harmed": link.harmed - before}


async def server_killed(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Kill a memX server under load, and start it again."""
    server = dice.choice(topology.servers)
    before = server.pid
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(dice.uniform(0.05, 1.0))
    await asyncio.to_thread(server.start)
    return {"pid": before, "new_pid": server.pid}


async def server_clock_jumps(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Let a server's time of day jump ahead, for a while, and back."""
    at = dice.randrange(len(topology.servers))
    clock, offset = topology.clocks[at], dice.randint(20, 600)
    clock.jump(offset)
    try:
        # A busy server names a new second late.
        await settled(lambda: _seconds_ahead(topology.urls[at]) > offset / 2, 20)
        await asyncio.sleep(dice.uniform(0.5, 2.0))
    finally:
        clock.jump(0)
    await settled(lambda: _seconds_ahead(topology.urls[at]) < offset / 2, 20)
    return {"server": at, "seconds": offset}


def _seconds_ahead(url: str) -> float:
    """Return how far the time that a server names is ahead of this machine's."""
    try:
        answer = httpx.get(f"{url}/healthz", timeout=2)
    except httpx.HTTPError as error:
        raise OSError(f"no answer: {error}") from error  # it is asked again
    return parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()


async def sqlite_cannot_grow(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Let no file of the server grow any further, as on a full disk, and give the room back."""
    server = topology.servers[0]
    files = [path for path in server.directory.iterdir() if path.is_file()]
    largest = max(path.stat().st_size for path in files)
    unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (largest + 4096, unlimited[1]))
    try:
        await asyncio.sleep(dice.uniform(1.0, 3.0))
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
    return {"bytes": largest + 4096}


async def server_stopped(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """End a memX server as an operator would, under load, and start it again."""
    server = dice.choice(topology.servers)
    code = await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    return {"exit": code, "new_pid": server.pid}


async def sentinel_failover(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Ask for a planned failover."""
    assert isinstance(topology, Sentinel)
    before = topology.primary.port
    await settled(lambda: _failover_begins(topology))
    await settled(lambda: topology.primary.port != before)
    await asyncio.sleep(1)
    return {"from": before, "to": topology.primary.port}


def _failover_begins(topology: Sentinel) -> bool:
    try:
        command(topology.sentinels[0], "SENTINEL FAILOVER", "main")
    except redis.ResponseError:
        return False
    return True


async def sentinel_primary_killed(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Kill the primary, ahead of its replicas, wait for the failover and bring it back as a replica."""
    assert isinstance(topology, Sentinel)
    primary = topology.primary
    await asyncio.to_thread(primary.kill)
    await settled(lambda: topology.primary is not primary)
    await asyncio.to_thread(primary.start)
    return {"from": primary.port, "to": topology.primary.port}


async def sentinel_primary_paused(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Freeze the primary until another one is named, and let the old one go on as if nothing had happened."""
    assert isinstance(topology, Sentinel)
    primary = topology.primary
    primary.pause()
    try:
        await settled(lambda: topology.primary is not primary)
    finally:
        primary.resume()
    return {"from": primary.port, "to": topology.primary.port}


async def cluster_primary_killed(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Kill the primary that holds the space, wait for its replica's promotion, and bring it back."""
    assert isinstance(topology, RedisCluster)
    server = _busiest(topology)
    await asyncio.to_thread(server.kill)
    others = [each for each in topology.redis if each is not server]
    await settled(lambda: all(_state(each) == "ok" for each in others))
    await asyncio.to_thread(server.start)
    await settled(lambda: all(_state(each) == "ok" for each in topology.redis))
    return {"port": server.port}


async def cluster_failover(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Ask the replica of the primary that holds the space to take over."""
    assert isinstance(topology, RedisCluster)
    server = _busiest(topology)
    name = await ask(server, "CLUSTER MYID")
    for other in topology.redis:
        nodes = await ask(other, "CLUSTER NODES")
        mine = next((node for node in nodes.values() if "myself" in node["flags"]), None)
        if mine is not None and mine["master_id"] == name:
            await ask(other, "CLUSTER FAILOVER")
            await settled(partial(_is_primary, other))
            return {"from": server.port, "to": other.port}
    raise AssertionError("the primary has no replica")


async def cluster_slot_moved(topology: Topology, dice: random.Random) -> dict[str, Any]:
    """Move the slot of the space to another primary, key by key, or begin to and give it up."""
    assert isinstance(topology, RedisCluster)
    source = _busiest(topology)
    primaries = [each for each in topology.redis if each is not source and _role(each) == "master"]
    target = dice.choice(primaries)
    slot = _busy_slot(source)
    names = await ask(source, "CLUSTER MYID"), await ask(target, "CLUSTER MYID")
    await ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", names[0])
    await ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", names[1])
    await asyncio.sleep(dice.uniform(0.3, 1.0))
    if dice.random() < 0.4:
        await ask(source, "CLUSTER SETSLOT", slot, "STABLE")
        await ask(target, "CLUSTER SETSLOT", slot, "STABLE")
        return {"slot": slot, "given_up": True}
    moved = 0
    while keys := await ask(source, "CLUSTER GETKEYSINSLOT", slot, 20):
        await ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        moved += len(keys)
        await asyncio.sleep(0.01)
    for server in (target, source, *(each for each in primaries if each is not target)):
        await ask(server, "CLUSTER SETSLOT", slot, "NODE", names[1])
    return {"slot": slot, "moved": moved, "to": target.port}


def _state(server: RedisServer) -> str:
    found: dict[str, str] = command(server, "CLUSTER INFO")
    return found["cluster_state"]


def _role(server: RedisServer) -> str:
    return str(command(server, "ROLE")[0])


def _is_primary(server: RedisServer) -> bool:
    return _role(server) == "master"


def _busiest(topology: RedisCluster) -> RedisServer:
    """Return the primary that holds the space."""
    primaries = [each for each in topology.redis if _role(each) == "master"]
    return max(primaries, key=lambda each: int(command(each, "DBSIZE")))


def _busy_slot(server: RedisServer) -> int:
    key = command(server, "RANDOMKEY")
    return int(command(server, "CLUSTER KEYSLOT", key))


_SERVERS: dict[str, Fault] = {"server_killed": server_killed, "server_stopped": server_stopped}
_REDIS: dict[str, Fault] = {
    "redis_killed": redis_killed,
    "redis_restarted": redis_restarted,
    "redis_paused": redis_paused,
    "redis_out_of_memory": redis_out_of_memory,
    "redis_without_rights": redis_without_rights,
    "scripts_flushed": scripts_flushed,
    "clients_killed": clients_killed,
}
_STANDALONE: dict[str, Fault] = {
    "redis_on_an_older_file": redis_on_an_older_file,
    "redis_cannot_save": redis_cannot_save,
    "redis_flushed": redis_flushed,
    "connections_cut": connections_cut,
    "replies_dropped": replies_dropped,
    "replies_late": replies_late,
}
_SENTINEL: dict[str, Fault] = {
    "sentinel_failover": sentinel_failover,
    "sentinel_primary_killed": sentinel_primary_killed,
    "sentinel_primary_paused": sentinel_primary_paused,
    "scripts_flushed": scripts_flushed,
    "clients_killed": clients_killed,
}
_CLUSTER: dict[str, Fault] = {
    "cluster_primary_killed": cluster_primary_killed,
    "cluster_failover": cluster_failover,
    "cluster_slot_moved": cluster_slot_moved,
    "scripts_flushed": scripts_flushed,
    "clients_killed": clients_killed,
}


def faults_of(topology: Topology) -> dict[str, Fault]:
    """Return the faults that can be made to ``topology``, by name."""
    servers = {**_SERVERS}
    if faketime_library() is not None:
        servers["server_clock_jumps"] = server_clock_jumps
    if isinstance(topology, Sqlite):
        return {**servers, "sqlite_cannot_grow": sqlite_cannot_grow}
    if isinstance(topology, Sentinel):
        return {**servers, **_SENTINEL}
    if isinstance(topology, RedisCluster):
        return {**servers, **_CLUSTER}
    return {**servers, **_REDIS, **_STANDALONE}
