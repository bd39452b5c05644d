"""Schemas and values that would take for ever cost their sender, and nobody else."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from memx_server.evaluation.worker import EvaluationTask

from tests.server.conftest import Api, client, compact
from tests.support.memx_server import Served

BOUND = 5.0
"""Seconds; the deadline is one, and starting a process may take a while on a busy machine."""


def doubling(levels: int, keyword: str = "allOf") -> dict[str, Any]:
    """A schema that says the same thing 2 ** levels times."""
    definitions: dict[str, Any] = {
        f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)
    }
    definitions[f"d{levels}"] = {"type": "string"}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


RECURSIVE = {
    "$defs": {
        "n": {"anyOf": [{"properties": {"c": {"$ref": "#/$defs/n"}}, "required": ["z"]}] * 2}
    },
    "$ref": "#/$defs/n",
}


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"c": value}
    return value


def looking_back(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"properties": {"x": {}}}
    for _ in range(levels):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    return schema


HOSTILE = [
    ("doubling", doubling(60), "x"),
    ("doubling choices", doubling(60, "oneOf"), 1),
    ("recursive choices", RECURSIVE, nested(60)),
    ("looking back", looking_back(25), {"x": 1}),
    ("big enum", {"items": {"enum": [{"a": n} for n in range(4000)]}}, [{"a": 3999}] * 60_000),
    (
        "many name patterns",
        {"patternProperties": {f"a{n}": {} for n in range(2000)}},
        {str(n): 1 for n in range(60_000)},
    ),
    ("fractions", {"items": {"multipleOf": 1e-300}}, [1e300] * 100_000),
]


@pytest.mark.parametrize(
    ("schema", "value"), [each[1:] for each in HOSTILE], ids=[each[0] for each in HOSTILE]
)
def test_a_bomb_is_refused_in_time_while_others_are_served(
    served: Served, api: Api, schema: Any, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = served.app.services.evaluation
    run = pool._run

    async def run_no_validation(space: str, task: EvaluationTask, seconds: float) -> Any:
        assert task.kind != "validate", "a value that took too long was tried again"
        return await run(space, task, seconds)

    api.post("/schema", {"key": "bomb", "schema": schema})
    body = compact({"key": "bomb", "value": value}).encode()
    waits: list[float] = []
    stop = threading.Event()

    def look_on() -> None:
        with client(served, served.api_key) as other:
            while not stop.is_set():
                began = time.monotonic()
                other.get("/get", key="a")
                waits.append(time.monotonic() - began)

    onlooker = threading.Thread(target=look_on)
    onlooker.start()
    try:
        began = time.monotonic()
        refused = api.raw("/set", body, 413)
        assert (refused["error"], refused["limit"]) == ("too_large", "validation_deadline")
        assert time.monotonic() - began < BOUND
        monkeypatch.setattr(pool, "_run", run_no_validation)
        api.raw("/set", body, 413)  # it is not tried a second time
    finally:
        stop.set()
        onlooker.join()
    assert max(waits) < BOUND / 2
    assert api.get("/get", key="bomb") is None


def test_harmless_values_pass_a_heavy_schema(api: Api) -> None:
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["name"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    }
    api.post("/schema", {"key": "tree", "schema": tree})
    api.set("tree", {"name": "a", "children": [{"name": "b", "children": []}]})
    wrong = {"name": "a", "children": [{"name": 5}, {"nome": "c"}, {"name": 10**30}]}
    refused = api.post("/set", {"key": "tree", "value": wrong}, 400)
    assert {(e["path"], e["rule"]) for e in refused["errors"]} == {
        ("/children/0/name", "type"),
        ("/children/1", "required"),
        ("/children/1", "additionalProperties"),
        ("/children/2/name", "type"),
    }
    assert [e["found"] for e in refused["errors"] if e["path"] == "/children/2/name"] == [10**30]


def test_a_large_value_is_validated_and_explained(api: Api) -> None:
    api.post("/schema", {"key": "big", "schema": {"items": {"type": "integer"}}})
    api.set("big", list(range(100_000)))
    refused = api.post("/set", {"key": "big", "value": [*range(20_000), "x", 1, "y"]}, 400)
    assert [e["path"] for e in refused["errors"]] == ["/20000", "/20002"]
    endless = api.post("/set", {"key": "big", "value": ["x"] * 150_000}, 400)
    assert endless["errors"][0]["path"] == "/0"


def test_a_schema_that_takes_too_long_to_prepare_is_refused(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memx_server.evaluation.pool._CHECK_SECONDS", 0.5)
    schema = {"allOf": [{"pattern": f"^.{{0,900}}.{{0,900}}{n}$"} for n in range(1000)]}
    refused = api.post("/schema", {"key": "k", "schema": schema}, 400)
    assert refused["error"] == "invalid_schema"
    assert "too long" in refused["detail"]


def test_a_heavy_schema_is_checked_all_the_same(api: Api) -> None:
    schema = {"properties": {f"p{n}": {"type": "string"} for n in range(1400)}, "required": "x"}
    refused = api.post("/schema", {"key": "k", "schema": {**doubling(30), **schema}}, 400)
    assert (refused["error"], refused["path"]) == ("invalid_schema", "/required")


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(x+x+)+y", "(.*a){20}b", "^(([a-z])+.)+[A-Z]$"])
def test_a_pattern_runs_in_linear_time(api: Api, pattern: str) -> None:
    api.post("/schema", {"key": "p", "schema": {"pattern": pattern}})
    began = time.monotonic()
    refused = api.post("/set", {"key": "p", "value": "a" * 10_000 + "!"}, 400)
    assert refused["errors"][0]["rule"] == "pattern"
    assert time.monotonic() - began < BOUND
