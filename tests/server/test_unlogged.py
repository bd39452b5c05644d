"""Unlogged keys over HTTP: what shows them, what never does, and what is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.server.conftest import Api, client
from tests.support.memx_server import Served


def test_every_kind_of_write_makes_one(api: Api) -> None:
    api.set("u:set", 1, logged=False)
    for name, part in {
        "merge": {"a": 1},
        "patch": [{"op": "add", "path": "", "value": 1}],
        "increment": 1,
        "append": [1],
    }.items():
        made = api.post("/update", {"key": f"u:{name}", name: part, "logged": False})
        assert made["logged"] is False
        # Once it is made, nothing more need be said of it.
        again = api.post("/update", {"key": f"u:{name}", name: part})
        assert (again["logged"], again["version"]) == (False, 2)
        operations = [
            {"op": name, "key": f"t:{name}", name: part, "logged": False},
            {"op": "set", "key": "t:set", "value": 1, "logged": False},
        ]
        api.post("/txn", {"then": operations})

    entries = api.get("/keys", values="true", limit=100)["entries"]
    assert len(entries) == 10
    assert {each["logged"] for each in entries} == {False}
    assert api.get("/get", key="u:increment")["value"] == 2
    assert api.get("/changes", event="all") | {"cursor": ""} == {
        "changes": [],
        "more": False,
        "cursor": "",
    }
    assert api.get("/history", key="u:merge")["changes"] == []
    assert [
        each["logged"] for each in api.post("/mget", {"keys": ["u:set"]})["entries"].values()
    ] == [False]
    assert api.delete("/delete", pattern="*")["deleted"] == 10
    assert api.get("/changes")["changes"] == []


def test_it_cannot_be_said_otherwise_later(api: Api) -> None:
    api.set("u", 1, logged=False)
    api.set("l", {"a": 1})
    refusals: list[Any] = [
        api.post("/set", {"key": "u", "value": 2, "logged": True}, 400),
        api.post("/set", {"key": "l", "value": 2, "logged": False}, 400),
        api.post("/update", {"key": "l", "merge": {}, "logged": False}, 400),
        api.post("/txn", {"then": [{"op": "set", "key": "u", "value": 2, "logged": True}]}, 400),
    ]
    for refused in refusals:
        assert (refused["error"], refused["field"]) == ("invalid_update", "logged")
        assert "until it is deleted" in refused["detail"]
    assert (api.get("/get", key="u")["value"], api.get("/get", key="l")["version"]) == (1, 1)
    api.set("u", 2, logged=False)
    api.set("l", 2, logged=True, history=False)

    api.delete("/delete", key="u")
    assert api.set("u", 3)["version"] == 1
    assert "logged" not in api.get("/get", key="u")
    assert [each["key"] for each in api.get("/changes")["changes"]] == ["l", "l", "u"]


def test_no_past_of_it_is_made_up(api: Api) -> None:
    first = api.set("u", 1, logged=False)
    second = api.set("u", 2)
    assert api.get("/get", key="u", at=second["revision"])["value"] == 2
    refused = api.get("/get", 410, key="u", at=first["revision"])
    assert refused["error"] == "compacted"


def test_its_cursor_waits_for_what_is_logged_next(served: Served) -> None:
    key = served.fresh_key()
    with client(served, key) as api, client(served, key) as other:
        api.set("l", 1)
        cursor = api.set("u", 1, logged=False)["cursor"]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(api.get, "/changes", since=cursor, wait=10)
            other.set("u", 2)
            written = other.set("l", 2)
            page = waiting.result(15)
        assert [each["revision"] for each in page["changes"]] == [written["revision"]]
        # Nothing new: a wait that ends without a change may be taken up from where it ended.
        cursor = other.set("u", 3)["cursor"]
        page = api.get("/changes", since=cursor, wait=0.05)
        assert (page["changes"], page["more"], page["cursor"]) == ([], False, cursor)


@pytest.mark.parametrize("options", [{"snapshot": True}, {"since": "cursor"}])
def test_no_subscription_shows_it(served: Served, options: dict[str, Any]) -> None:
    key = served.fresh_key()
    url = served.url.replace("http", "ws", 1) + "/ws"
    with client(served, key) as api, connect(url, additional_headers={"x-api-key": key}) as socket:
        api.set("k:l", 1)
        cursor = api.set("k:u", 1, logged=False)["cursor"]
        asked = options | {"since": cursor} if "since" in options else options
        frame = {"id": 1, "op": "subscribe", "pattern": "k:*", **asked}
        socket.send(json.dumps(frame))
        events = [json.loads(socket.recv(10)) for _ in range(3 + ("snapshot" in options))]
        assert events[-1]["event"] == "live"
        assert [each["key"] for each in events if each.get("snapshot")] == ["k:l"] * (
            "snapshot" in options
        )

        api.set("k:u", 2)
        api.post(
            "/txn",
            {"then": [{"op": "set", "key": key, "value": 3} for key in ("k:u", "k:l")]},
        )
        event = json.loads(socket.recv(10))
        assert (event["event"], event["key"], event["value"]) == ("value", "k:l", 3)


def test_an_update_that_is_sent_again_answers_as_the_first_time(api: Api) -> None:
    """The log cannot tell what it made, so the answer is kept."""
    text = "x" * 2000
    api.set("u", {"a": text}, logged=False)
    body = {"key": "u", "merge": {"b": 1}}
    first = api.post("/update", body, idempotency_key="once")
    assert api.post("/update", body, idempotency_key="once") == first
    assert first["value"] == {"a": text, "b": 1}
    assert api.get("/get", key="u")["version"] == 2
