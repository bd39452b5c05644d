"""``durability`` of a write over HTTP and a socket: what the answer says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from memx_server.settings import Settings
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tests.server.conftest import Api
from tests.support.memx_server import Served


def test_a_write_says_whether_it_is_confirmed(api: Api) -> None:
    for wanted in ("replica", "fsync"):
        headers = {"x-memx-durability": wanted, "idempotency-key": f"once-{wanted}"}
        body = {"key": f"k-{wanted}", "value": 1}
        first = api.call("POST", "/set", json=body, headers=headers)
        assert first["ok"] is True
        assert isinstance(first["confirmed"], bool)
        again = api.call("POST", "/set", json=body, headers=headers)
        assert again["revision"] == first["revision"]
        assert "confirmed" in again
    headers = {"x-memx-durability": "replica"}
    updated = api.call("POST", "/update", json={"key": "n", "increment": 1}, headers=headers)
    then = [{"op": "set", "key": "t", "value": 1}]
    transaction = api.call("POST", "/txn", json={"then": then}, headers=headers)
    assert updated["confirmed"] is transaction["confirmed"] is False
    deleted = api.call("DELETE", "/delete", params={"key": "n"}, headers=headers)
    assert deleted["confirmed"] is False
    body = {"key": "s:*", "schema": {}}
    assert api.call("POST", "/schema", json=body, headers=headers)["confirmed"] is False
    removed = api.call("DELETE", "/schema", params={"key": "s:*"}, headers=headers)
    assert removed["confirmed"] is False


def test_a_frame_of_a_socket_asks_for_itself(served: Served) -> None:
    url = served.url.replace("http", "ws", 1) + "/ws"
    headers = {"x-api-key": served.fresh_key(), "x-memx-durability": "memory"}
    frames: list[tuple[dict[str, Any], bool | None]] = [
        ({"op": "set", "key": "k", "value": 1, "durability": "replica"}, False),
        ({"op": "set", "key": "k", "value": 3}, None),
        ({"op": "update", "key": "n", "increment": 1, "durability": "replica"}, False),
        ({"op": "txn", "then": [], "durability": "replica"}, False),
        ({"op": "set_schema", "key": "s", "schema": {}, "durability": "replica"}, False),
        ({"op": "delete_schema", "key": "s", "durability": "replica"}, False),
        ({"op": "delete", "key": "k", "durability": "replica"}, False),
    ]
    with connect(url, additional_headers=headers) as socket:
        assert _next(socket)["event"] == "hello"
        for number, (frame, _) in enumerate(frames, 1):
            socket.send(json.dumps({"id": number, **frame}))
        answers = {}
        for _ in frames:
            answer = _next(socket)
            answers[answer["id"]] = answer
        for number, (frame, confirmed) in enumerate(frames, 1):
            assert answers[number]["ok"] is True, answers[number]
            assert answers[number].get("confirmed") is confirmed, frame
        socket.send(json.dumps({"id": 99, "op": "set", "key": "k", "value": 1, "durability": "x"}))
        refusal = _next(socket)
    assert (refusal["error"], refusal["field"]) == ("invalid_request", "durability")


def _next(socket: Connection) -> Any:
    return json.loads(socket.recv(timeout=10))


def test_memory_is_the_default_and_says_nothing(api: Api) -> None:
    assert "confirmed" not in api.post("/set", {"key": "k", "value": 1})
    headers = {"x-memx-durability": "memory"}
    answer = api.call("POST", "/set", json={"key": "k", "value": 1}, headers=headers)
    assert "confirmed" not in answer


def test_what_is_none_is_refused(api: Api) -> None:
    headers = {"x-memx-durability": "for ever"}
    answer = api.call("POST", "/set", 400, json={"key": "k", "value": 1}, headers=headers)
    assert answer["field"] == "durability"
    assert "replica" in answer["detail"]


def test_the_setting(tmp_path: Path) -> None:
    assert Settings.from_env({}).durability == "memory"
    assert Settings.from_env({"MEMX_DURABILITY": "fsync"}).durability == "fsync"
    with pytest.raises(ValueError, match="MEMX_DURABILITY"):
        Settings.from_env({"MEMX_DURABILITY": "disk"})
