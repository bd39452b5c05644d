"""A write sent again under its Idempotency-Key is applied once and answers as the first time."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tests.server.conftest import Api, client
from tests.support.memx_server import Served

WRITES: list[tuple[str, dict[str, Any]]] = [
    ("/set", {"key": "k", "value": {"a": [1]}, "ttl": 60}),
    ("/update", {"key": "n", "increment": 1}),
    ("/update", {"key": "l", "append": ["x" * 30_000]}),
    ("/update", {"key": "m", "merge": {"a": 1}, "history": False}),
    (
        "/txn",
        {
            "if": [{"key": "t", "exists": False}],
            "then": [
                {"op": "set", "key": "t", "value": 1},
                {"op": "increment", "key": "c", "increment": 1},
                {"op": "get", "key": "k"},
            ],
            "else": [{"op": "get", "key": "t"}],
        },
    ),
    ("/schema", {"key": "s", "schema": {"type": "string"}}),
]


@pytest.mark.parametrize(("path", "body"), WRITES)
def test_a_repeated_write_is_applied_once(api: Api, path: str, body: dict[str, Any]) -> None:
    first = api.post(path, body, idempotency_key="once")
    api.set("between", 1)
    assert api.post(path, body, idempotency_key="once") == first
    other = {**body, "reason": "another"} if path != "/schema" else {**body, "schema": True}
    mismatch = api.post(path, other, 422, idempotency_key="once")
    assert mismatch["error"] == "idempotency_mismatch"


def test_a_repeated_delete(api: Api) -> None:
    api.set("k", 1)
    headers = {"idempotency-key": "d"}
    first = api.call("DELETE", "/delete", params={"key": "k"}, headers=headers)
    api.set("k", 2)
    assert api.call("DELETE", "/delete", params={"key": "k"}, headers=headers) == first
    assert api.get("/get", key="k")["value"] == 2


def test_the_same_key_for_another_operation_is_a_mismatch(api: Api) -> None:
    api.post("/set", {"key": "k", "value": 1}, idempotency_key="x")
    api.post("/update", {"key": "k", "increment": 1}, 422, idempotency_key="x")


def test_a_repetition_answers_though_the_state_would_refuse_it_now(api: Api) -> None:
    counted = api.post("/update", {"key": "n", "increment": 1, "maximum": 1}, idempotency_key="a")
    assert (
        api.post("/update", {"key": "n", "increment": 1, "maximum": 1}, idempotency_key="a")
        == counted
    )
    first = api.post("/set", {"key": "s", "value": 1}, idempotency_key="b")
    api.post("/schema", {"key": "s", "schema": {"type": "string"}})
    assert api.post("/set", {"key": "s", "value": 1}, idempotency_key="b") == first
    assert api.post("/set", {"key": "s", "value": 1}, 400, idempotency_key="c")["error"] == (
        "schema_violation"
    )
    conditional = {"key": "r", "increment": 1, "if_revision": 0}
    first = api.post("/update", conditional, idempotency_key="d")
    assert api.post("/update", conditional, idempotency_key="d") == first


def test_a_refused_write_can_be_sent_again_under_its_key(api: Api) -> None:
    api.set("k", 1)
    api.post("/set", {"key": "k", "value": 2, "if_revision": 0}, 409, idempotency_key="r")
    api.delete("/delete", key="k")
    assert api.post("/set", {"key": "k", "value": 2, "if_revision": 0}, idempotency_key="r")["ok"]


def test_keys_are_per_principal(served: Served) -> None:
    space = "shared-by-two"
    one = served.keys.add(space=space, agent="one")
    two = served.keys.add(space=space, agent="two")
    with client(served, one) as first, client(served, two) as second:
        a = first.post("/update", {"key": "n", "increment": 1}, idempotency_key="same")
        b = second.post("/update", {"key": "n", "increment": 1}, idempotency_key="same")
        assert (a["value"], b["value"]) == (1, 2)


def test_two_api_keys_of_one_agent_do_not_share_theirs(served: Served) -> None:
    space = f"shared-{secrets.token_hex(4)}"
    keys = [served.keys.add(space=space, agent="one") for _ in range(2)]
    with client(served, keys[0]) as first, client(served, keys[1]) as second:
        a = first.post("/update", {"key": "n", "increment": 1}, idempotency_key="same")
        b = second.post("/update", {"key": "n", "increment": 1}, idempotency_key="same")
        second.post("/set", {"key": "n", "value": 5}, 422, idempotency_key="same")
        first.post("/set", {"key": "n", "value": 5}, idempotency_key="other")
        second.post("/set", {"key": "n", "value": 6}, idempotency_key="other")
        assert (a["value"], b["value"]) == (1, 2)


def test_one_api_key_in_two_spaces_does_not_share_them(served: Served) -> None:
    with client(served, served.fresh_key()) as first, client(served, served.fresh_key()) as second:
        for api in (first, second):
            done = api.post("/update", {"key": "n", "increment": 1}, idempotency_key="same")
            assert done["value"] == 1


@pytest.mark.parametrize("bad", ["", "x" * 256])
def test_a_malformed_key_is_refused(api: Api, bad: str) -> None:
    refused = api.post("/set", {"key": "k", "value": 1}, 400, idempotency_key=bad)
    assert refused["field"] == "idempotency-key"
