"""Schemas over HTTP: registered, found, enforced, explained."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.server.conftest import Api, client
from tests.support.memx_server import Served

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def register(api: Api, key: str, schema: Any, expect: int = 200) -> Any:
    return api.post("/schema", {"key": key, "schema": schema}, expect)


def refuse(api: Api, key: str, value: Any) -> Any:
    refused = api.post("/set", {"key": key, "value": value}, 400)
    assert refused["error"] == "schema_violation"
    return refused


def test_registered_read_listed_removed(api: Api) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1.0}}}
    assert register(api, "team:*", schema)["ok"]
    assert api.get("/schema", key="team:*") == {"key": "team:*", "schema": schema}
    assert api.get("/schema", 404, key="team:goal")["error"] == "not_found"
    register(api, "a", True)
    listed = api.get("/schemas")
    assert [each["key"] for each in listed["schemas"]] == ["a", "team:*"]
    assert listed["revision"] > 0
    assert api.delete("/schema", key="a") == {"ok": True, "key": "a"}
    assert api.delete("/schema", 404, key="a")["error"] == "not_found"
    api.set("a", "anything")


def test_a_refused_value_says_where_which_rule_and_what_was_expected(api: Api) -> None:
    register(
        api,
        "plan",
        {
            "type": "object",
            "properties": {
                "steps": {"type": "array", "items": {"type": "string"}},
                "votes": {"minimum": 3},
                "state": {"enum": ["open", "done"]},
            },
            "required": ["title"],
            "additionalProperties": False,
        },
    )
    refused = refuse(api, "plan", {"steps": ["a", 2], "votes": 1, "state": "new", "x": 1})
    assert (refused["key"], refused["schema"]) == ("plan", "plan")
    errors = {(e["path"], e["rule"]): e for e in refused["errors"]}
    assert len(refused["errors"]) == 5
    step = errors["/steps/1", "type"]
    assert (step["expected"], step["found"]) == (["string"], 2)
    assert "string" in step["message"]
    assert errors["/votes", "minimum"]["expected"] == 3
    assert errors["/state", "enum"]["expected"] == ["open", "done"]
    assert errors["", "required"]["expected"] == "title"
    assert errors["", "additionalProperties"]["expected"] is False
    assert "'x' was unexpected" in errors["", "additionalProperties"]["message"]
    assert api.get("/get", key="plan") is None


def test_a_found_value_is_shortened(api: Api) -> None:
    register(api, "n", {"type": "integer"})
    refused = refuse(api, "n", "long " * 1000)
    assert len(refused["errors"][0]["found"]) < 300
    assert len(refused["detail"]) < 3000


def test_the_most_specific_schema_wins_alone(api: Api) -> None:
    register(api, "*", {"type": "null"})
    register(api, "team:*", {"type": "string"})
    register(api, "team:g*", {"type": "integer"})
    register(api, "team:*l", {"type": "boolean"})
    register(api, "team:goal", {"type": "array"})
    for key, fits in {
        "team:goal": [],
        "team:gate": 1,
        "team:meal": True,
        "team:plan": "text",
        "other": None,
    }.items():
        api.set(key, fits)
        refuse(api, key, {})
    assert refuse(api, "team:gate", "x")["schema"] == "team:g*"


def test_false_refuses_every_value_and_true_none(api: Api) -> None:
    register(api, "closed:*", False)
    refused = refuse(api, "closed:a", None)
    assert refused["errors"][0]["rule"] == "falseSchema"
    register(api, "closed:open", True)
    api.set("closed:open", {"any": "thing"})


def test_every_way_to_write_is_checked(api: Api) -> None:
    register(api, "n", {"type": "number", "maximum": 3})
    register(api, "l", {"maxItems": 1})
    api.set("n", 3)
    for body in ({"key": "n", "increment": 1}, {"key": "n", "merge": "x"}):
        assert api.post("/update", body, 400)["error"] == "schema_violation"
    assert api.post("/update", {"key": "l", "append": [1, 2]}, 400)["error"] == "schema_violation"
    then = [{"op": "set", "key": "n", "value": 4}]
    assert api.post("/txn", {"then": then}, 400)["error"] == "schema_violation"
    assert api.get("/get", key="n")["value"] == 3


def test_validate_tries_without_writing(api: Api) -> None:
    assert api.post("/validate", {"key": "a", "value": 1}) == {
        "ok": True,
        "valid": True,
        "schema": None,
        "errors": [],
    }
    register(api, "a*", {"type": "string"})
    tried = api.post("/validate", {"key": "a", "value": 1})
    assert (tried["valid"], tried["schema"]) == (False, "a*")
    assert tried["errors"][0]["rule"] == "type"
    assert api.post("/validate", {"key": "a", "value": "x"})["valid"] is True
    assert api.get("/get", key="a") is None


@pytest.mark.parametrize(
    ("schema", "fits", "breaks"),
    [
        ('{"maximum":9007199254740992}', "9007199254740992", "9007199254740993"),
        ('{"maximum":0.3}', "0.3", "0.30000000000000000001"),
        ('{"multipleOf":0.01}', "19.99", "19.995"),
        ('{"multipleOf":0.1}', "0.3", "0.35"),
        ('{"const":1}', "1.0", "1.00000000000000000001"),
        ('{"type":"integer"}', "1.0", "1.5"),
        (
            '{"type":"integer"}',
            "123456789012345678901234567890",
            "123456789012345678901234567890.5",
        ),
        (
            '{"minimum":123456789012345678901234567890}',
            "123456789012345678901234567890",
            "123456789012345678901234567889",
        ),
        (
            '{"enum":[12345678901234567890123]}',
            "12345678901234567890123",
            "12345678901234567890124",
        ),
        ('{"uniqueItems":true}', "[1,1.00000000000000000001]", "[1,1.0]"),
        ('{"exclusiveMinimum":1e-400}', "1e-399", "1e-400"),
    ],
)
def test_numbers_are_judged_exactly(api: Api, schema: str, fits: str, breaks: str) -> None:
    api.raw("/schema", f'{{"key":"n","schema":{schema}}}'.encode())
    api.raw("/set", f'{{"key":"n","value":{fits}}}'.encode())
    refused = api.raw("/set", f'{{"key":"n","value":{breaks}}}'.encode(), 400)
    assert refused["error"] == "schema_violation"


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "strnig"}, "strnig"),
        ({"properties": {"a": {"minLength": "x"}}}, "/properties/a/minLength"),
        ({"required": "a"}, "/required"),
        ([], "object, true or false"),
        ("x", "object, true or false"),
        (None, "object, true or false"),
        (1, "object, true or false"),
        ({"$schema": "http://example.com/mine"}, "2020-12"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "2020-12"),
        ({"$schema": 7}, "$schema"),
        ({"$ref": "#/$defs/none"}, "$ref"),
        ({"$ref": "http://127.0.0.1:9/x.json"}, "nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
        ({"$ref": "other.json"}, "nothing is fetched"),
        ({"properties": {"a": {"pattern": "^(?=x)y"}}}, "^(?=x)y"),
        ({"patternProperties": {"(?<!a)b": {}}}, "(?<!a)b"),
        ({"pattern": "(a)\\1"}, "linear"),
        ({"pattern": "("}, "("),
        ({"pattern": "(a{1000}){1000}"}, "smaller"),
    ],
)
def test_a_schema_that_cannot_be_relied_on_is_refused(api: Api, schema: Any, says: str) -> None:
    refused = register(api, "k", schema, 400)
    assert refused["error"] == "invalid_schema"
    assert refused["field"] == "schema"
    assert says in refused["detail"]
    assert api.get("/schemas")["schemas"] == []


def test_a_schema_too_long_or_too_deep(api: Api) -> None:
    refused = register(api, "k", {"description": "x" * 70_000}, 413)
    assert (refused["error"], refused["limit"]) == ("too_large", "schema_bytes")
    deep: Any = {}
    for _ in range(40):
        deep = {"properties": {"a": deep}}
    assert "deep" in register(api, "k", deep, 400)["detail"]


@pytest.mark.parametrize("pattern", ["team[", "team]", "[]", "", "x" * 600, "a\u0007b"])
def test_a_malformed_pattern_is_refused(api: Api, pattern: str) -> None:
    refused = register(api, pattern, True, 400)
    assert refused["error"] in {"invalid_pattern", "invalid_key"}


def test_drafts_are_told_apart(api: Api) -> None:
    register(api, "new", {"prefixItems": [{"type": "string"}]})
    register(api, "old", {"$schema": DRAFT_7, "prefixItems": [{"type": "string"}]})
    register(api, "tuple", {"$schema": DRAFT_7, "items": [{"type": "string"}]})
    refuse(api, "new", [1])
    api.set("old", [1])
    refuse(api, "tuple", [1])


def test_a_schema_change_holds_for_every_write_after_it(served: Served) -> None:
    """Writers race with schema changes; whatever was written fits the schema of its revision."""
    key = served.fresh_key()
    kinds = [{"type": "integer"}, {"type": "string"}]

    def write(value: Any) -> None:
        with client(served, key) as api:
            for _ in range(40):
                answer = api.http.post("/set", json={"key": "k", "value": value})
                assert answer.status_code in {200, 400}

    def change(_: Any) -> None:
        with client(served, key) as api:
            for n in range(20):
                register(api, "k", kinds[n % 2])

    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(write, value) for value in (1, 2, "a", "b")]
        jobs.append(pool.submit(change, None))
        for job in jobs:
            job.result()
    with client(served, key) as api:
        current: Any = None
        for entry in api.get("/changes", event="all", limit=1000)["changes"]:
            if entry["event"] == "schema":
                current = entry["schema"]["type"]
            elif current is not None:
                assert isinstance(entry["value"], {"integer": int, "string": str}[current])


def test_another_process_schema_is_obeyed_at_once(served: Served) -> None:
    """A server whose cache is old learns of the change from the commit itself."""
    key = served.fresh_key()
    with client(served, key) as api:
        api.set("k", 1)  # the schema set is cached now
        services = served.app.services
        space = served.keys.space_of(key)
        stale = services.schemas.cached(space)
        assert stale is not None
        register(api, "k", {"type": "string"})
        services.schemas._sets[space] = stale
        refuse(api, "k", 1)
        api.set("k", "text")
