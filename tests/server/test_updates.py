"""Computed updates: merge, patch, increment, append and touch."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.server.conftest import Api, client
from tests.support.memx_server import Served


def raw_value(api: Api, key: str) -> str:
    text = api.text("/get", key=key)
    return text.partition('"value":')[2][:-1]


@pytest.mark.parametrize(
    ("present", "patch", "result"),
    [
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('["a","b"]', '["c","d"]', '["c","d"]'),
        ('{"a":"foo"}', "null", "null"),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
        ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
        ('{"big":12345678901234567890.10}', '{"x":[]}', '{"big":12345678901234567890.10,"x":[]}'),
    ],
)
def test_merge_follows_rfc_7396(api: Api, present: str, patch: str, result: str) -> None:
    api.raw("/set", f'{{"key":"k","value":{present}}}'.encode())
    api.raw("/update", f'{{"key":"k","merge":{patch}}}'.encode())
    assert raw_value(api, "k") == result


def test_merge_makes_a_missing_entry(api: Api) -> None:
    answer = api.post("/update", {"key": "k", "merge": {"a": {"b": None, "c": 1}}})
    assert answer["value"] == {"a": {"c": 1}}
    assert (answer["ok"], answer["updated"], answer["version"]) == (True, True, 1)
    assert api.get("/get", key="k") == {
        name: answer[name]
        for name in ("revision", "version", "ts", "writer", "expires_at", "key", "value")
    }


@pytest.mark.parametrize(
    ("present", "by", "result"),
    [
        ("1", "1", "2"),
        ("0.1", "0.2", "0.3"),
        ("9007199254740993", "1", "9007199254740994"),
        ("1.10", "-0.1", "1.00"),
        ("12345678901234567890123456789", "0.5", "12345678901234567890123456789.5"),
        ("-5", "5", "0"),
        ("1e3", "1", "1001"),
    ],
)
def test_increment_is_exact(api: Api, present: str, by: str, result: str) -> None:
    api.raw("/set", f'{{"key":"k","value":{present}}}'.encode())
    api.raw("/update", f'{{"key":"k","increment":{by}}}'.encode())
    assert raw_value(api, "k") == result


def test_increment_counts_from_nothing_and_keeps_to_its_bounds(api: Api) -> None:
    assert api.post("/update", {"key": "n", "increment": 3, "maximum": 5})["value"] == 3
    refused = api.post("/update", {"key": "n", "increment": 3, "maximum": 5}, 400)
    assert (refused["error"], refused["value"]) == ("invalid_update", 3)
    refused = api.post("/update", {"key": "n", "increment": -4, "minimum": 0}, 400)
    assert refused["error"] == "invalid_update"
    assert api.get("/get", key="n")["version"] == 1


@pytest.mark.parametrize("present", ['"1"', "true", "null", "[]"])
def test_increment_needs_a_number(api: Api, present: str) -> None:
    api.raw("/set", f'{{"key":"k","value":{present}}}'.encode())
    refused = api.post("/update", {"key": "k", "increment": 1}, 400)
    assert (refused["error"], refused["field"]) == ("invalid_update", "key")


@pytest.mark.parametrize("by", ['"1"', "true", "null", "[1]"])
def test_increment_by_what_is_no_number(api: Api, by: str) -> None:
    refused = api.raw("/update", f'{{"key":"k","increment":{by}}}'.encode(), 400)
    assert (refused["error"], refused["field"]) == ("invalid_request", "increment")


@pytest.mark.parametrize(
    ("held", "by"), [("1e308", "1e308"), ("1", "1e-300000"), ("1e300", "1e-2000")]
)
def test_increment_refuses_what_cannot_be_kept_exactly(api: Api, held: str, by: str) -> None:
    api.raw("/set", f'{{"key":"k","value":{held}}}'.encode())
    refused = api.raw("/update", f'{{"key":"k","increment":{by}}}'.encode(), 400)
    assert refused["error"] == "invalid_update"


def test_append_with_a_cap(api: Api) -> None:
    assert api.post("/update", {"key": "l", "append": [1, 2]})["value"] == [1, 2]
    assert api.post("/update", {"key": "l", "append": [3], "cap": 2})["value"] == [2, 3]
    api.raw("/update", b'{"key":"l","append":[1.10, {"a":[]}]}')
    assert raw_value(api, "l") == '[2,3,1.10,{"a":[]}]'
    api.set("s", "text")
    assert api.post("/update", {"key": "s", "append": [1]}, 400)["error"] == "invalid_update"
    assert api.post("/update", {"key": "l", "append": 1}, 400)["field"] == "append"


def test_patch_follows_rfc_6902(api: Api) -> None:
    api.raw("/set", b'{"key":"k","value":{"a":[1,2],"n":1.10}}')
    operations = [
        {"op": "test", "path": "/a/0", "value": 1},
        {"op": "add", "path": "/a/-", "value": 3},
        {"op": "replace", "path": "/a/0", "value": 0},
        {"op": "move", "from": "/a/1", "path": "/moved"},
        {"op": "copy", "from": "/moved", "path": "/copied"},
        {"op": "remove", "path": "/moved"},
    ]
    api.post("/update", {"key": "k", "patch": operations})
    assert raw_value(api, "k") == '{"a":[0,3],"n":1.10,"copied":2}'


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "test", "path": "/a", "value": True},
        {"op": "remove", "path": "/nope"},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "nonsense", "path": "/a"},
        {"op": "add", "path": "/a"},
        {"op": "add", "path": 1, "value": 1},
        {"op": "copy", "path": "/a"},
        {"path": "/a"},
        "text",
        None,
        [],
    ],
)
def test_a_patch_that_does_not_fit_writes_nothing(api: Api, operation: Any) -> None:
    api.set("k", {"a": 1})
    refused = api.post(
        "/update",
        {"key": "k", "patch": [{"op": "add", "path": "/b", "value": 1}, operation]},
        400,
    )
    assert (refused["error"], refused["operation"]) == ("invalid_update", 1)
    assert api.get("/get", key="k")["value"] == {"a": 1}


def test_a_patch_of_nothing_must_add_the_root(api: Api) -> None:
    add = {"op": "add", "path": "/a", "value": 1}
    assert api.post("/update", {"key": "k", "patch": [add]}, 400)["error"] == "invalid_update"
    root = {"op": "add", "path": "", "value": {}}
    assert api.post("/update", {"key": "k", "patch": [root, add]})["value"] == {"a": 1}


def test_a_patch_cannot_copy_itself_to_gigabytes(api: Api) -> None:
    api.set("k", ["x" * 1000])
    doubling = [{"op": "copy", "from": "", "path": "/-"}] * 60
    refused = api.post("/update", {"key": "k", "patch": doubling}, 413)
    assert refused["error"] == "too_large"


def test_touch_moves_only_the_expiry(api: Api) -> None:
    written = api.set("k", 1)
    touched = api.post("/update", {"key": "k", "touch": 60})
    assert abs(touched["expires_at"] - time.time() - 60) < 30
    assert (touched["revision"], touched["value"]) == (written["revision"], 1)
    assert api.post("/update", {"key": "k", "touch": None})["expires_at"] is None
    assert len(api.get("/history", key="k")["changes"]) == 1
    refused = api.post(
        "/update", {"key": "k", "touch": 5, "if_revision": written["revision"] - 1}, 409
    )
    assert refused["entry"]["value"] == 1
    assert api.post("/update", {"key": "none", "touch": 5}, 404)["error"] == "not_found"


def test_updates_keep_the_expiry_unless_they_bring_one(api: Api) -> None:
    expires_at = api.set("n", 1, ttl=60)["expires_at"]
    kept = api.post("/update", {"key": "n", "increment": 1})
    assert abs(kept["expires_at"] - expires_at) < 0.01
    moved = api.post("/update", {"key": "n", "increment": 1, "ttl": 600})
    assert moved["expires_at"] > expires_at + 300


def test_an_update_takes_exactly_one_kind_with_its_own_options(api: Api) -> None:
    for body, field in (
        ({"key": "k"}, "merge"),
        ({"key": "k", "merge": {}, "append": []}, "append"),
        ({"key": "k", "merge": {}, "cap": 3}, "cap"),
        ({"key": "k", "append": [], "minimum": 3}, "minimum"),
        ({"key": "k", "touch": 1, "ttl": 3}, "ttl"),
    ):
        refused = api.post("/update", body, 400)
        assert (refused["error"], refused["field"]) == ("invalid_request", field)


def test_if_revision_on_an_update(api: Api) -> None:
    revision = api.set("n", 1)["revision"]
    assert api.post("/update", {"key": "n", "increment": 1, "if_revision": revision})["value"] == 2
    late = api.post("/update", {"key": "n", "increment": 1, "if_revision": revision}, 409)
    assert late["entry"]["value"] == 2
    api.post("/update", {"key": "new", "increment": 1, "if_revision": 0})


def test_many_clients_on_one_counter_lose_no_step(served: Served) -> None:
    key = served.fresh_key()

    def count(_: int) -> None:
        with client(served, key) as api:
            for _ in range(25):
                api.post("/update", {"key": "hot", "increment": 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    with client(served, key) as api:
        entry = api.get("/get", key="hot")
        assert (entry["value"], entry["version"]) == (200, 200)


def test_an_update_sees_what_was_set_between_its_turns(served: Served) -> None:
    key = served.fresh_key()

    def appender(name: int) -> None:
        with client(served, key) as api:
            for n in range(20):
                api.post("/update", {"key": "log", "append": [f"{name}.{n}"]})
                if n % 7 == 0:
                    api.post("/update", {"key": "log", "merge": [f"reset {name}.{n}"]})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(appender, range(6)))
    with client(served, key) as api:
        changes = api.get("/history", key="log", limit=200)["changes"][::-1]
    for before, after in itertools.pairwise(changes):
        grown = after["value"][:-1] == before["value"]
        assert grown or after["value"][0].startswith("reset")
        assert after["version"] == before["version"] + 1
