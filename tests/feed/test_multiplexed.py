"""``WS /ws``: every operation and many subscriptions over one socket."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import websockets
from memx_server.domain.feed.hub import FeedSettings
from memx_server.routes.api.operations import OPERATIONS
from memx_server.storage.redis import RedisStore

from tests.feed.sockets import (
    DEADLINE,
    Frame,
    address,
    api_key,
    client,
    multiplexed,
    refusal,
    subscribed,
)
from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import RedisServer, newest_redis


async def test_every_operation_answers_as_over_http(server: Served) -> None:
    """The table's examples, run in order, say the same on both roads but for what tells them apart."""
    one, other = server.fresh_key(), server.fresh_key()
    async with multiplexed(server, key=one) as socket, client(server, other) as http:
        for operation in OPERATIONS:
            fields = dict(operation.example)
            over_socket = await socket.ask(operation.name, **fields)
            if operation.method == "GET":
                answer = await http.get(operation.path, params=fields)
            else:
                answer = await http.request(operation.method, operation.path, json=fields)
            assert answer.status_code == 200, (operation.name, answer.text)
            assert over_socket.pop("ok") is True, (operation.name, over_socket)
            del over_socket["id"]
            if operation.member is not None:
                over_socket = over_socket[operation.member]
            assert _shape(over_socket) == _shape(answer.json()), operation.name


def _shape(value: Any) -> Any:
    """The names of members, without those that an answer may also hold in its frame."""
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items() if name != "ok"}
    if isinstance(value, list):
        return [_shape(each) for each in value[:1]]
    return None if isinstance(value, int | float | str) else value


async def test_values_pass_byte_for_byte(server: Served) -> None:
    value = '{"a": 1.0, "b":[ 1e2, 12345678901234567890123, "\\u00e9é" ]}'
    async with multiplexed(server) as socket:
        await socket.ask("subscribe", pattern="k")
        await socket.connection.send(f'{{"id":"set","op":"set","key":"k","value":{value}}}')
        frames = [str(await socket.connection.recv()) for _ in range(3)]
        await socket.connection.send('{"id":"get","op":"get","key":"k"}')
        frames.append(str(await socket.connection.recv()))
    assert sum(f'"value":{value}' in frame for frame in frames) == 2


async def test_requests_are_pipelined_and_writes_keep_their_order(server: Served) -> None:
    async with multiplexed(server) as socket, subscribed(server, "n:*") as observer:
        for number in range(100):
            await socket.send(id=number, op="set", key=f"n:{number % 9}", value=number)
            await socket.send(id=1000 + number, op="update", key="n:sum", increment=1)
            await socket.send(id=2000 + number, op="get", key="n:0")
        answers: dict[int, Frame] = {}
        while len(answers) < 300:
            frame = await socket.receive()
            assert frame["ok"], frame
            answers[frame["id"]] = frame
        order = [answers[id]["revision"] for n in range(100) for id in (n, 1000 + n)]
        assert order == sorted(order)
        events = [await observer.receive() for _ in range(200)]
        assert [event["value"] for event in events[::2]] == list(range(100))
        assert [event["value"] for event in events[1::2]] == list(range(1, 101))


async def test_reads_sent_together_are_each_answered_for_themselves(server: Served) -> None:
    key = server.fresh_key(read=["open:*"], write=["*"])
    async with multiplexed(server, key=key) as socket:
        first = await socket.ask("set", key="open:a", value=[1.0])
        await socket.ask("set", key="closed:a", value="secret")
        asked = {
            "there": {"key": "open:a"},
            "again": {"key": "open:a"},
            "missing": {"key": "open:b"},
            "forbidden": {"key": "closed:a"},
            "pattern": {"key": "open:*"},
            "past": {"key": "open:a", "at": first["revision"]},
        }
        for id, fields in asked.items():
            await socket.send(id=id, op="get", **fields)
        frames = [await socket.receive() for _ in asked]
    answers = {frame["id"]: frame for frame in frames}
    assert [answers[id]["entry"]["value"] for id in ("there", "again", "past")] == [[1.0]] * 3
    assert answers["missing"]["entry"] is None
    assert answers["forbidden"]["error"] == "forbidden"
    assert answers["pattern"]["error"] == "invalid_key"


async def test_reads_that_wait_for_a_change_hold_up_no_other(server: Served) -> None:
    async with multiplexed(server, key=server.fresh_key()) as socket:
        cursor = (await socket.ask("set", key="a", value=1))["cursor"]
        for number in range(100):
            await socket.send(id=f"w{number}", op="changes", since=cursor, wait=30)
        for number in range(100):
            await socket.send(id=number, op="mget", keys=["a", f"b{number}"])
        read = [await socket.receive() for _ in range(100)]
        assert {frame["id"] for frame in read} == set(range(100))
        assert all(f"b{frame['id']}" in frame["entries"] for frame in read)

        await socket.send(id="set", op="set", key="a", value=2)
        ended = [await socket.receive() for _ in range(101)]
        told = [frame["changes"][0]["value"] for frame in ended if frame["id"] != "set"]
        assert told == [2] * 100


async def test_reads_sent_together_meet_an_outage_together() -> None:
    with RedisServer(newest_redis()) as redis, serve_store(RedisStore(redis.url)) as server:
        async with multiplexed(server) as socket:
            await socket.ask("set", key="a", value=1)
            redis.stop()
            for number in range(10):
                await socket.send(id=number, op="get", key=f"k{number}")
            frames = [await socket.receive() for _ in range(10)]
    assert {frame["error"] for frame in frames} == {"unavailable"}
    assert sorted(frame["id"] for frame in frames) == list(range(10))


async def test_plain_writes_keep_their_order(server: Served) -> None:
    async with multiplexed(server) as socket:
        for number in range(300):
            await socket.send(id=number, op="set", key=f"k{number % 50}", value=number)
        answers: dict[int, int] = {}
        while len(answers) < 300:
            answer = await socket.receive()
            answers[answer["id"]] = answer["revision"]
        order = [answers[number] for number in range(300)]
        assert order == sorted(order)


async def test_subscriptions_are_apart(server: Served) -> None:
    async with multiplexed(server) as socket:
        a = (await socket.ask("subscribe", pattern="a:*"))["sub"]
        await socket.send(id="b", op="subscribe", pattern="b:*", event="all")
        b = (await socket.until(id="b"))[-1]["sub"]
        await socket.until(event="live", sub=b)
        await socket.ask("set", key="a:1", value=1)
        await socket.send(id="x", op="set", key="b:1", value=2)
        frame = (await socket.until(sub=b, event="value"))[-1]
        assert frame["key"] == "b:1"
        assert (await socket.ask("unsubscribe", sub=b))["sub"] == b
        await socket.ask("set", key="b:2", value=3)
        await socket.send(id="y", op="set", key="a:2", value=4)
        frames = await socket.until(sub=a, event="value")
        assert not [frame for frame in frames if frame.get("sub") == b]


async def test_a_subscription_resumes_over_the_same_socket(server: Served) -> None:
    async with multiplexed(server) as socket:
        cursor = (await socket.ask("set", key="k", value=1))["cursor"]
        await socket.ask("set", key="k", value=2)
        sub = (await socket.ask("subscribe", pattern="*", since=cursor))["sub"]
        change, live = await socket.until(event="live")
        assert change["sub"] == live["sub"] == sub
        assert change["value"] == 2
        await socket.ask("subscribe", pattern="*", snapshot=True)
        entry, live = await socket.until(event="live")
        assert (entry["value"], entry["snapshot"]) == (2, True)


async def test_a_thousand_subscriptions_and_no_more(server: Served) -> None:
    async with multiplexed(server) as socket:
        for number in range(1000):
            await socket.send(id=number, op="subscribe", pattern="k" if number % 2 else "k*")
        await socket.send(id="one too many", op="subscribe", pattern="k")
        frames = await socket.until(id="one too many")
        assert frames[-1].items() >= {"error": "quota_exceeded", "limit": "subscriptions"}.items()
        assert len([frame for frame in frames if frame.get("ok")]) == 1000
        await socket.send(id="set", op="set", key="k", value=1)
        heard: set[int] = set()
        while len(heard) < 1000:
            frame = await socket.receive()
            if frame.get("event") == "value":
                heard.add(frame["sub"])


async def test_an_idempotent_write_is_applied_once(server: Served) -> None:
    write = {"key": "k", "increment": 1, "idempotency_key": "once"}
    async with multiplexed(server) as socket:
        first = await socket.ask("update", **write)
    async with multiplexed(server) as socket:
        again = await socket.ask("update", **write)
        other = await socket.ask("update", **{**write, "increment": 2})
    assert again["revision"] == first["revision"]
    assert other["error"] == "idempotency_mismatch"


BAD_FRAMES: list[tuple[str | bytes, str, str | None]] = [
    ("", "invalid_json", None),
    ("nonsense", "invalid_json", None),
    ("[]", "invalid_request", "body"),
    ("17", "invalid_request", "body"),
    ("{}", "invalid_request", "id"),
    ('{"id":1}', "invalid_request", "op"),
    ('{"id":null,"op":"ping"}', "invalid_request", "id"),
    ('{"id":[1],"op":"ping"}', "invalid_request", "id"),
    ('{"id":"' + "x" * 65 + '","op":"ping"}', "invalid_request", "id"),
    ('{"id":1,"op":7}', "invalid_request", "op"),
    ('{"id":1,"op":"nonsense"}', "invalid_request", "op"),
    ('{"id":1,"op":"ping","x":1}', "invalid_request", "x"),
    ('{"id":1,"op":"set","key":"k"}', "invalid_request", "value"),
    ('{"id":1,"op":"set","key":"k","value":NaN}', "invalid_json", None),
    ('{"id":1,"op":"set","key":"k","value":1e999}', "invalid_json", None),
    ('{"id":1,"op":"set","key":"k","value":1,"value":2}', "invalid_json", "value"),
    ('{"id":1,"id":2,"op":"ping"}', "invalid_json", "id"),
    ('{"id":1,"op":"set","key":"k*","value":1}', "invalid_key", "key"),
    ('{"id":1,"op":"get","key":"k","idempotency_key":"x"}', "invalid_request", "idempotency_key"),
    ('{"id":1,"op":"set","key":"k","value":1,"idempotency_key":""}', "invalid_request", None),
    ('{"id":1,"op":"subscribe"}', "invalid_request", "pattern"),
    ('{"id":1,"op":"subscribe","pattern":"[a"}', "invalid_pattern", "pattern"),
    ('{"id":1,"op":"subscribe","pattern":"a","since":"b"}', "invalid_cursor", "since"),
    ('{"id":1,"op":"subscribe","pattern":"a","event":"b"}', "invalid_request", "event"),
    ('{"id":1,"op":"unsubscribe","sub":5}', "not_found", "sub"),
    ('{"id":1,"op":"unsubscribe","sub":"5"}', "invalid_request", "sub"),
    (b'{"id":1,"op":"\xff"}', "invalid_json", None),
    ('{"x":' + "[" * 100_000, "invalid_json", None),
    ('{"id":1,"op":"set","key":"k","value":' + "[" * 70 + "]" * 70 + "}", "too_large", "value"),
]


async def test_a_frame_that_cannot_be_is_answered_with_an_error(server: Served) -> None:
    async with multiplexed(server) as socket:
        for frame, error, field in BAD_FRAMES:
            await socket.connection.send(frame)
            answer = await socket.receive()
            assert (answer["ok"], answer["error"]) == (False, error), (frame[:80], answer)
            assert field is None or answer["field"] == field, (frame[:80], answer)
            assert (await socket.ask("ping"))["ok"] is True  # and the socket lives on


async def test_frames_over_the_limit(server: Served) -> None:
    limits = (await _hello(server))["limits"]
    async with multiplexed(server) as socket:
        big = json.dumps("x" * limits["value_bytes"])
        await socket.connection.send(f'{{"id":1,"op":"set","key":"k","value":{big}}}')
        answer = await socket.receive()
        assert answer.items() >= {"id": 1, "error": "too_large", "limit": "value_bytes"}.items()
        await socket.connection.send("x" * (limits["body_bytes"] + 1))
        answer = await socket.receive()
        assert answer.items() >= {"error": "too_large", "limit": "body_bytes"}.items()
        assert (await socket.ask("ping"))["ok"] is True
        with suppress(websockets.ConnectionClosed):
            await socket.connection.send("x" * (16 * 1024 * 1024 + 1))
        assert (await socket.closed())[0] == 1009


async def test_subscribing_where_it_is_not_permitted(server: Served) -> None:
    async with multiplexed(server, key=server.fresh_key(read=("mine:*",))) as socket:
        refused = await socket.ask("subscribe", pattern="yours:a")
        assert (refused["ok"], refused["error"]) == (False, "forbidden")
        assert (await socket.ask("subscribe", pattern="*"))["ok"] is True
        await socket.ask("set", key="yours:a", value=1)
        await socket.send(id=99, op="set", key="mine:a", value=1)
        frames = await socket.until(event="value")
        assert frames[-1]["key"] == "mine:a"


async def test_who_is_nobody_is_refused(server: Served) -> None:
    assert (await refusal(server, "/ws"))[0] == 401
    status, answer = await refusal(server, "/ws", additional_headers=api_key(server, "unknown"))
    assert (status, answer["error"]) == (403, "forbidden")
    headers = {**api_key(server, None), "x-memx-agent": "\t"}
    status, answer = await refusal(server, "/ws", additional_headers=headers)
    assert (status, answer["field"]) == (400, "x-memx-agent")


async def test_hello(server: Served) -> None:
    hello = await _hello(server)
    assert hello.items() >= {"event": "hello", "principal": "tester", "space": "default"}.items()
    assert hello["limits"]["subscriptions"] == 1000


async def _hello(served: Served) -> Frame:
    async with websockets.connect(
        address(served, "/ws"), additional_headers=api_key(served, None)
    ) as connection:
        frame: Frame = json.loads(await connection.recv())
        return frame


async def test_a_subscription_that_cannot_go_on_says_so(server: Served) -> None:
    server.app.services.feed.settings = FeedSettings(snapshot_bytes=100)
    async with multiplexed(server) as socket, client(server) as http:
        await socket.ask("set", key="k", value="x" * 200)
        sub = (await socket.ask("subscribe", pattern="*", snapshot=True))["sub"]
        end = await socket.receive()
        assert end.items() >= {"sub": sub, "event": "end", "error": "too_large"}.items()
        assert (await socket.ask("unsubscribe", sub=sub))["ok"] is True
        async with subscribed(server, snapshot="true") as alone:
            code, reason = await alone.closed()
            assert code == 4400
            assert "too_large" in (reason or "")
        asked = {"accept": "text/event-stream"}
        stream = await http.get("/changes?snapshot=true", headers=asked)
        assert "event: end" in stream.text


async def test_answers_come_before_the_events_of_their_subscription(server: Served) -> None:
    """Even where many answers wait: a client must know the number before it hears of it."""
    async with multiplexed(server) as socket:
        await socket.ask("set", key="k", value=1)
        for number in range(400):
            await socket.send(id=number, op="subscribe", pattern="k", snapshot=True)
        known, lives = set(), 0
        while lives < 400:
            frame = await socket.receive()
            if "id" in frame:
                known.add(frame["sub"])
            else:
                assert frame["sub"] in known
                lives += frame["event"] == "live"


async def test_a_write_that_is_judged_slowly_is_not_overtaken(server: Served) -> None:
    slow = list(range(10_000))  # too long to be judged on the event loop
    async with multiplexed(server) as socket:
        assert (await socket.ask("set_schema", key="slow", schema={"type": "array"}))["ok"]
        async with asyncio.timeout(DEADLINE):  # who judges it may take a while to start
            while not (await socket.ask("set", key="slow", value=slow))["ok"]:
                pass
        await socket.send(id="slow", op="set", key="slow", value=slow)
        await socket.send(id="quick", op="set", key="quick", value=1)
        answers = {frame["id"]: frame for frame in [await socket.receive(), await socket.receive()]}
        assert answers["slow"]["revision"] < answers["quick"]["revision"]
