"""One run under faults: clients, subscribers and faults side by side, then the final state and the verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from memx_sdk.protocol.cursors import decode_cursor
from tests.faults.checker import check, lost_writes, stale_at_a_failover
from tests.faults.clients import API_KEY, Client, HttpRoad, Road, SocketRoad
from tests.faults.faults import faults_of
from tests.faults.history import FinalState, History, Operation, Violation
from tests.faults.observers import Observer, observers
from tests.faults.topologies import Topology

_QUIET = 60.0
"""Seconds in which, after the last fault, everything must work again and every subscriber must be up to date."""

_HEADERS = {"x-api-key": API_KEY}


@dataclass(slots=True)
class Plan:
    """What a run does.

    Attributes:
        seed: Of every choice.
        seconds: How long clients write.
        clients: How many.
        subscribers: How many.
        faults: Names of faults, made one after the other, each again and again; empty for all that fit.
        pairs: Whether faults come in random pairs.
        pause: Seconds between two operations of a client, on average.
    """

    seed: int = 1
    seconds: float = 10.0
    clients: int = 12
    subscribers: int = 8
    faults: Sequence[str] = ()
    pairs: bool = False
    pause: float = 0.02


@dataclass(slots=True)
class Verdict:
    """What came of a run.

    Attributes:
        topology: Where it ran.
        plan: What it did.
        operations: Requests, by outcome.
        lost: Acknowledged writes that the log does not hold.
        violations: Broken promises.
        stale: Reads that went back while a failover was under way.
        silence: The longest time, in seconds, in which no write at all was acknowledged.
        faults: The faults, with their proofs.
    """

    topology: str
    plan: Plan
    operations: Counter[str]
    lost: int
    violations: list[Violation]
    stale: int
    silence: float
    faults: list[dict[str, Any]] = field(default_factory=list)


async def run(topology: Topology, plan: Plan) -> Verdict:
    """Run ``plan`` on a topology that has been started."""
    dice = random.Random(plan.seed)
    operations: list[Operation] = []
    begun = time.monotonic()
    deadline = begun + plan.seconds
    clients = [_client(at, topology.urls, dice, operations) for at in range(plan.clients)]
    watchers = observers(
        topology.urls, dice, plan.subscribers, lambda at: 0.01 if at % 4 == 3 else 0.0
    )
    watching = [asyncio.create_task(each.run()) for each in watchers]
    working = [
        asyncio.create_task(each.run(lambda: time.monotonic() > deadline, plan.pause))
        for each in clients
    ]
    try:
        made = await _break_things(topology, plan, random.Random(dice.random()), deadline)
        await asyncio.gather(*working)
        final = await _final_state(topology, operations, watchers)
    finally:
        for task in (*watching, *working):
            task.cancel()
        await asyncio.gather(*watching, *working, return_exceptions=True)
    history = History(operations, [each.observation for each in watchers], final, made)
    history.replicated = topology.replicated
    return Verdict(
        topology.name,
        plan,
        Counter(each.outcome for each in operations),
        len(lost_writes(history)),
        check(history),
        stale_at_a_failover(history),
        _silence(operations, begun),
        made,
    )


def _client(
    at: int, urls: Sequence[str], dice: random.Random, operations: list[Operation]
) -> Client:
    own = random.Random(dice.random())
    road: Road = SocketRoad(urls, own) if at % 3 == 2 else HttpRoad(urls, own)
    return Client(f"client-{at}", road, own, operations.append)


async def _break_things(
    topology: Topology, plan: Plan, dice: random.Random, deadline: float
) -> list[dict[str, Any]]:
    """Make faults until shortly before the end, each with its proof."""
    possible = faults_of(topology)
    names = [name for name in (plan.faults or possible) if name in possible]
    dice.shuffle(names)
    made: list[dict[str, Any]] = []
    at = 0
    await asyncio.sleep(min(1.0, plan.seconds / 5))
    while names and time.monotonic() < deadline - 1:
        chosen = [names[at % len(names)]]
        if plan.pairs and len(names) > 1:
            chosen.append(
                dice.choice([name for name in names if not _brings_back(name, chosen[0])])
            )
        at += 1
        begun = time.monotonic()
        # Two faults of one pair may hit the same process: the second then has nothing left to break.
        proofs = await asyncio.gather(
            *(possible[name](topology, dice) for name in chosen), return_exceptions=plan.pairs
        )
        took = round(time.monotonic() - begun, 2)
        made += [
            {"fault": name, "seconds": took, "proof": proof}
            for name, proof in zip(chosen, proofs, strict=True)
            if not isinstance(proof, BaseException)
        ]
        await asyncio.sleep(dice.uniform(0.3, 1.2))
    return made


def _brings_back(*names: str) -> bool:
    """Whether a pair is one fault twice, or a FLUSHALL that a crash undoes: what was gone would come back."""
    return len(set(names)) < len(names) or (
        "redis_flushed" in names
        and not {"redis_on_an_older_file", "redis_killed"}.isdisjoint(names)
    )


async def _final_state(
    topology: Topology, operations: Sequence[Operation], watchers: Sequence[Observer]
) -> FinalState:
    """Wait until all works and every subscriber is up to date; then read everything."""
    async with httpx.AsyncClient(headers=_HEADERS, timeout=10) as client:
        url = topology.urls[0]
        head = await _write_last(client, topology.urls)
        give_up = asyncio.get_running_loop().time() + _QUIET
        for each in watchers:
            each.hurry()
        for each in watchers:
            try:
                async with asyncio.timeout_at(give_up):
                    await each.reaches(head)
            except TimeoutError:
                each.observation.faults.append(
                    f"it is not up to date {_QUIET:g} s after the last fault"
                )
        log, trimmed = await _whole_log(client, url)
        entries = await _all_entries(client, url)
        kept = {change["revision"] for change in log}
        asked = [each.cursor for each in operations if each.cursor]
        doubtful = {cursor for cursor in asked if decode_cursor(cursor).revision not in kept}
        diverged = {cursor: await _is_diverged(client, url, cursor) for cursor in doubtful}
    return FinalState(log, entries, trimmed, diverged)


async def _write_last(client: httpx.AsyncClient, urls: Sequence[str]) -> int:
    """Write to each server until it takes it, in every pattern that somebody follows; return the last revision."""
    revision = 0
    async with asyncio.timeout(_QUIET):
        for url in urls:
            for key in ("plain:last", "pair:last", "counter:last", "brief:last"):
                while True:
                    try:
                        response = await client.post(
                            f"{url}/set", json={"key": key, "value": "end"}
                        )
                    except httpx.HTTPError:
                        await asyncio.sleep(0.1)
                        continue
                    if response.status_code == 200:
                        revision = max(revision, response.json()["revision"])
                        break
                    await asyncio.sleep(0.1)
    return revision


async def _whole_log(client: httpx.AsyncClient, url: str) -> tuple[list[dict[str, Any]], bool]:
    query: dict[str, Any] = {"event": "all", "limit": 1000}
    changes: list[dict[str, Any]] = []
    while True:
        body = (await client.get(f"{url}/changes", params=query)).raise_for_status().json()
        changes += body["changes"]
        query["since"] = body["cursor"]
        if not body["more"]:
            return changes, False


async def _all_entries(client: httpx.AsyncClient, url: str) -> dict[str, dict[str, Any]]:
    query: dict[str, Any] = {"values": "true", "limit": 1000}
    found: dict[str, dict[str, Any]] = {}
    while True:
        body = (await client.get(f"{url}/keys", params=query)).raise_for_status().json()
        found |= {entry["key"]: entry for entry in body["entries"]}
        if body["next"] is None:
            return found
        query["cursor"] = body["next"]


async def _is_diverged(client: httpx.AsyncClient, url: str, cursor: str) -> bool:
    response = await client.get(f"{url}/changes", params={"since": cursor, "limit": 1})
    return response.status_code == 409


def _silence(operations: Sequence[Operation], begun: float) -> float:
    """Return the longest time in which no write was acknowledged."""
    ends = sorted(each.end for each in operations if each.writes and each.outcome == "ok")
    gaps = [later - earlier for earlier, later in zip([begun, *ends], ends, strict=False)]
    return round(max(gaps, default=0.0), 2)
