"""Transactions over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.server.conftest import Api, client
from tests.support.memx_server import Served


def txn(api: Api, then: list[Any], /, expect: int = 200, **parts: Any) -> Any:
    body = {"then": then} | {name.rstrip("_"): part for name, part in parts.items()}
    return api.post("/txn", body, expect)


def test_all_writes_share_one_revision(api: Api) -> None:
    api.set("old", 1)
    done = txn(
        api,
        [
            {"op": "set", "key": "a", "value": [1]},
            {"op": "increment", "key": "n", "increment": 2},
            {"op": "append", "key": "l", "append": ["x"]},
            {"op": "merge", "key": "m", "merge": {"a": 1}},
            {"op": "delete", "key": "old"},
            {"op": "get", "key": "a"},
        ],
        reason="together",
    )
    assert (done["ok"], done["branch"]) == (True, "then")
    by_key = {(r["op"], r["key"]): r for r in done["results"]}
    assert by_key["increment", "n"]["value"] == 2
    assert by_key["append", "l"]["value"] == ["x"]
    assert by_key["merge", "m"]["value"] == {"a": 1}
    assert by_key["delete", "old"]["deleted"] is True
    assert by_key["get", "a"]["entry"] is None  # as it was before the transaction
    changes = [c for c in api.get("/changes")["changes"] if c["revision"] == done["revision"]]
    assert [c["key"] for c in changes] == ["a", "n", "l", "m", "old"]
    assert {c["reason"] for c in changes} == {"together"}
    assert api.get("/changes", since=done["cursor"])["changes"] == []


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        ({"key": "n", "exists": True}, True),
        ({"key": "n", "exists": False}, False),
        ({"key": "none", "exists": False}, True),
        ({"key": "none", "revision": 0}, True),
        ({"key": "n", "revision": 0}, False),
        ({"key": "n", "version": 2}, True),
        ({"key": "n", "version": 1}, False),
        ({"key": "none", "version": 0}, True),
        ({"key": "n", "value": {"a": [1, True, None], "b": 1.5}}, True),
        ({"key": "n", "value": {"a": [1.0, True, None], "b": 1.50}}, True),
        ({"key": "n", "value": {"a": [True, True, None], "b": 1.5}}, False),
        ({"key": "n", "value": {"a": [1, 1, None], "b": 1.5}}, False),
        ({"key": "n", "value": {"a": [1, True, None]}}, False),
        ({"key": "none", "value": None}, False),
    ],
)
def test_compares(api: Api, compare: dict[str, Any], holds: bool) -> None:
    api.set("n", 0)
    api.raw("/set", b'{"key":"n","value":{"b":1.50,"a":[1,true,null]}}')
    done = txn(
        api,
        [{"op": "set", "key": "then", "value": 1}],
        if_=[compare],
        else_=[{"op": "get", "key": "n"}],
    )
    assert done["branch"] == ("then" if holds else "else")
    assert (api.get("/get", key="then") is not None) is holds


def test_a_failed_compare_without_else_writes_nothing(api: Api) -> None:
    head = api.set("a", 1)["revision"]
    done = txn(api, [{"op": "set", "key": "b", "value": 1}], if_=[{"key": "a", "revision": 5}])
    assert (done["branch"], done["results"], done["revision"]) == ("else", [], head)


def test_one_refused_operation_undoes_all(api: Api) -> None:
    api.post("/schema", {"key": "strict", "schema": {"type": "integer"}})
    refused = txn(
        api,
        [{"op": "set", "key": "a", "value": 1}, {"op": "set", "key": "strict", "value": "x"}],
        expect=400,
    )
    assert (refused["error"], refused["key"]) == ("schema_violation", "strict")
    api.set("text", "t")
    refused = txn(
        api,
        [
            {"op": "set", "key": "a", "value": 1},
            {"op": "increment", "key": "text", "increment": 1},
        ],
        expect=400,
    )
    assert (refused["error"], refused["operation"]) == ("invalid_update", 1)
    assert api.get("/get", key="a") is None


def test_a_key_is_written_at_most_once_per_branch(api: Api) -> None:
    twice = [{"op": "set", "key": "a", "value": 1}, {"op": "delete", "key": "a"}]
    assert txn(api, twice, expect=400)["key"] == "a"


def test_too_many_operations(api: Api) -> None:
    operations = [{"op": "set", "key": f"k{n}", "value": n} for n in range(129)]
    refused = txn(api, operations, expect=413)
    assert (refused["error"], refused["limit"]) == ("too_large", "transaction_operations")
    assert len(txn(api, operations[:128])["results"]) == 128


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"then": [{"op": "nonsense", "key": "a"}]}, "then[0].op"),
        ({"then": [{"key": "a"}]}, "then[0].op"),
        ({"then": [{"op": "set", "key": "a"}]}, "then[0].value"),
        (
            {"then": [{"op": "set", "key": "a", "value": 1, "if_revision": 3}]},
            "then[0].if_revision",
        ),
        ({"if": [{"key": "a"}]}, "if"),
        ({"if": [{"key": "a", "exists": True, "version": 1}]}, "if"),
        ({"if": {}}, "if"),
        ({"otherwise": []}, "otherwise"),
    ],
)
def test_a_malformed_transaction_names_the_place(api: Api, body: Any, field: str) -> None:
    refused = api.post("/txn", body, 400)
    assert (refused["error"], refused["field"]) == ("invalid_request", field)


def test_touch_and_expiries(api: Api) -> None:
    api.set("a", 1)
    done = txn(
        api,
        [
            {"op": "touch", "key": "a", "touch": 60},
            {"op": "touch", "key": "none", "touch": 60},
            {"op": "set", "key": "b", "value": 1, "ttl": 60},
        ],
    )
    touched, missing, written = done["results"]
    assert (touched["touched"], missing["touched"]) == (True, False)
    assert touched["expires_at"] == api.get("/get", key="a")["expires_at"]
    assert written["expires_at"] == api.get("/get", key="b")["expires_at"]


def test_money_moves_between_accounts_without_loss(served: Served) -> None:
    key = served.fresh_key()

    def move(n: int) -> None:
        there, back = ("a", "b") if n % 2 else ("b", "a")
        with client(served, key) as api:
            for _ in range(10):
                txn(
                    api,
                    [
                        {"op": "increment", "key": there, "increment": -1},
                        {"op": "increment", "key": back, "increment": 1},
                    ],
                )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(move, range(4)))
    with client(served, key) as api:
        entries = api.post("/mget", {"keys": ["a", "b"]})["entries"]
        assert entries["a"]["value"] + entries["b"]["value"] == 0
        assert entries["a"]["version"] == 40


def test_only_one_claims_a_task(served: Served) -> None:
    key = served.fresh_key()

    def claim(n: int) -> str:
        with client(served, key) as api:
            done = txn(
                api,
                [{"op": "set", "key": "task", "value": n}],
                if_=[{"key": "task", "exists": False}],
                else_=[{"op": "get", "key": "task"}],
            )
            branch: str = done["branch"]
            return branch

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, range(8))) == ["else"] * 7 + ["then"]
