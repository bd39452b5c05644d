"""Writes that come over one socket together: one call of the store, and each stands for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from memx_server.storage.redis import RedisStore

from tests.feed.sockets import DEADLINE, Frame, Multiplexed, client, multiplexed
from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import RedisServer, newest_redis

Write = dict[str, Any]


async def _answers(socket: Multiplexed, writes: Sequence[Write]) -> list[Frame]:
    """Send writes in one go and return their answers in the order of asking."""
    for number, write in enumerate(writes):
        await socket.send(id=number, **write)
    frames = [await socket.receive() for _ in writes]
    return sorted(frames, key=lambda frame: int(frame["id"]))


def _set(key: str, value: object = 1, **more: Any) -> Write:
    return {"op": "set", "key": key, "value": value, **more}


@contextmanager
def _two_servers() -> Iterator[tuple[Served, Served]]:
    """Two servers on one Redis, neither of which knows what the other does."""
    with (
        RedisServer(newest_redis()) as redis,
        serve_store(RedisStore(redis.url)) as one,
        serve_store(RedisStore(redis.url)) as other,
    ):
        yield one, other


async def _warmed(socket: Multiplexed) -> None:
    """The first write of a socket goes ahead alone."""
    assert (await socket.ask("set", key="open:warm", value=0))["ok"]


async def test_each_is_answered_for_itself(server: Served) -> None:
    key = server.fresh_key(read=["*"], write=["open:*"], admin=["*"])
    async with multiplexed(server, key=key) as socket:
        await _warmed(socket)
        number = {"type": "integer"}
        assert (await socket.ask("set_schema", key="open:number:*", schema=number))["ok"]
        held = (await socket.ask("set", key="open:held", value=1))["revision"]
        answers = await _answers(
            socket,
            [
                _set("open:first", {"a": 1.0}),
                _set("open:number:a", "no number"),
                _set("open:number:b", 2),
                _set("closed:a"),
                _set("open:*"),
                _set("open:held", 2, if_revision=held),
                _set("open:new", 2, if_revision=held),
                {"op": "delete", "key": "open:warm"},
                {"op": "delete", "key": "open:missing"},
                {"op": "txn", "then": [_set("open:x"), _set("open:y")]},
                {"op": "update", "key": "open:sum", "increment": 3},
                _set("open:before"),
                {
                    "op": "txn",
                    "if": [{"key": "open:x", "exists": False}],
                    "else": [_set("open:z"), {"op": "delete", "key": "open:y"}],
                },
                _set("open:last", history=False, reason="the end"),
            ],
        )
        found = await socket.ask("mget", keys=["open:first", "open:held", "open:x", "open:last"])

    codes = [answer.get("error", "ok") for answer in answers]
    assert codes == [
        *("ok", "schema_violation", "ok", "forbidden", "invalid_key", "ok", "conflict"),
        *("ok", "ok", "ok", "ok", "ok", "ok", "ok"),
    ]
    assert [answers[7]["deleted"], answers[8]["deleted"]] == [True, False]
    revisions = [answers[at]["revision"] for at in (0, 2, 5, 7, 9, 10, 11, 12, 13)]
    assert revisions == list(range(revisions[0], revisions[0] + len(revisions)))
    values = {name: entry["value"] for name, entry in found["entries"].items()}
    assert values == {"open:first": {"a": 1.0}, "open:held": 2, "open:x": 1, "open:last": 1}


async def test_they_are_counted_one_by_one(server: Served) -> None:
    async with multiplexed(server) as socket:
        await _warmed(socket)
        await _answers(socket, [_set(f"k{number}") for number in range(30)] + [_set("k*")])
    async with httpx.AsyncClient() as http:
        figures = (await http.get(f"{server.url}/metrics")).text.splitlines()
    assert 'memx_requests_total{operation="set",outcome="ok"} 31.0' in figures
    assert 'memx_requests_total{operation="set",outcome="invalid_key"} 1.0' in figures
    assert 'memx_request_duration_seconds_count{operation="set"} 32.0' in figures


async def test_a_burst_sent_again_is_applied_once(server: Served) -> None:
    writes = [_set(f"k{number}", number, idempotency_key=f"n{number}") for number in range(20)]
    async with multiplexed(server) as socket:
        await _warmed(socket)
        first = await _answers(socket, writes)
        changed = _set("k3", "other", idempotency_key="n3")
        again = await _answers(socket, [*writes, changed])
        other = again.pop()
        over_http = {"key": "k7", "value": 7}
        async with client(server) as http:
            tagged = await http.post("/set", json=over_http, headers={"idempotency-key": "n7"})
    assert [answer["revision"] for answer in again] == [answer["revision"] for answer in first]
    assert {answer["version"] for answer in again} == {1}
    assert other["error"] == "idempotency_mismatch"
    assert tagged.json()["revision"] == first[7]["revision"]


async def test_a_schema_that_another_server_registers_is_met_by_all_behind_it() -> None:
    with _two_servers() as (server, other):
        async with multiplexed(server) as socket, client(other) as http:
            await _warmed(socket)
            schema = {"key": "*", "schema": {"type": "integer"}}
            assert (await http.post("/schema", json=schema)).status_code == 200
            values = [number if number % 3 else "no number" for number in range(60)]
            answers = await _answers(
                socket, [_set(f"k{number}", value) for number, value in enumerate(values)]
            )
    assert [answer["ok"] for answer in answers] == [number % 3 > 0 for number in range(60)]
    assert {answer["error"] for answer in answers[::3]} == {"schema_violation"}
    revisions = [answer["revision"] for answer in answers if answer["ok"]]
    assert revisions == sorted(revisions)


async def test_writes_keep_their_order_while_schemas_change() -> None:
    with _two_servers() as (server, other):
        async with multiplexed(server) as socket, client(other) as http:
            await _warmed(socket)
            for turn in range(10):
                schema = {"key": "*", "schema": {"type": "integer", "title": str(turn)}}
                writes = [_set(f"k{number}", number) for number in range(200)]
                answers, registered = await asyncio.gather(
                    _answers(socket, writes), http.post("/schema", json=schema)
                )
                assert registered.status_code == 200
                revisions = [answer["revision"] for answer in answers]
                assert revisions == sorted(revisions)


async def test_they_meet_an_outage_together_and_go_on_after_it() -> None:
    with RedisServer(newest_redis()) as redis, serve_store(RedisStore(redis.url)) as server:
        async with multiplexed(server) as socket:
            await _warmed(socket)
            redis.stop()
            writes = [_set(f"k{number}", number) for number in range(40)]
            async with asyncio.timeout(DEADLINE):
                answers = await _answers(socket, writes)
                assert {answer["error"] for answer in answers} == {"unavailable"}
                redis.start()
                while not (await socket.ask("set", key="k", value=0))["ok"]:
                    pass
                answers = await _answers(socket, writes)
    assert all(answer["ok"] for answer in answers)


async def test_an_outage_that_ends_in_time_is_bridged_for_those_with_a_token() -> None:
    durable = {"appendonly": "yes", "appendfsync": "always"}
    with (
        RedisServer(newest_redis(), durable) as redis,
        serve_store(RedisStore(redis.url)) as server,
    ):
        async with multiplexed(server) as socket:
            await _warmed(socket)
            redis.kill()
            writes = [
                _set(f"k{number}", number, idempotency_key=f"n{number}") for number in range(40)
            ]
            answering = asyncio.ensure_future(_answers(socket, writes))
            await asyncio.get_running_loop().run_in_executor(None, redis.start)
            async with asyncio.timeout(DEADLINE):
                answers = await answering
            found = await socket.ask("mget", keys=[f"k{number}" for number in range(40)])
    assert [answer.get("version") for answer in answers] == [1] * 40, answers
    assert [entry["value"] for entry in found["entries"].values()] == list(range(40))
