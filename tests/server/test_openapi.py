"""The OpenAPI document: complete, true, and with examples that run as shown."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urljoin

import httpx
import msgspec
import pytest
from memx_server.routes.api.operations import OPERATIONS

from tests.server.conftest import Api
from tests.support.memx_server import Served


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    answer = httpx.get(f"{served.url}/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_it_describes_every_operation(document: Any) -> None:
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert {(each.method, each.path) for each in OPERATIONS} <= described
    assert {("GET", "/healthz"), ("GET", "/readyz")} <= described


def test_it_is_valid_openapi_as_far_as_its_schemas_go(document: Any) -> None:
    """Each schema in it is a JSON Schema, and each reference leads somewhere."""
    import jsonschema

    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in _references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def _references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(_references, part.values()))
    return set().union(*map(_references, part)) if isinstance(part, list) else set()


def test_the_examples_run_as_shown(api: Api, document: Any) -> None:
    """In the document's order, each with the answer's status and form that the document tells."""
    for operation in OPERATIONS:
        described = document["paths"][operation.path][operation.method.lower()]
        if operation.method == "POST":
            content = described["requestBody"]["content"]["application/json"]
            answer = api.http.request(operation.method, operation.path, json=content["example"])
        else:
            query = {
                each["name"]: each["example"]
                for each in described["parameters"]
                if each["in"] == "query" and "example" in each
            }
            answer = api.http.request(operation.method, operation.path, params=query)
        assert answer.status_code == 200, (operation.name, answer.text)
        msgspec.json.decode(answer.content, type=operation.answer)


def test_documented_errors_are_the_ones_that_come(api: Api, document: Any) -> None:
    refused = api.post("/set", {"key": "a*", "value": 1}, 400)
    responses = document["paths"]["/set"]["post"]["responses"]
    assert refused["error"] in responses["400"]["description"]
    assert {"200", "400", "401", "403", "409", "413", "415", "422", "500", "503"} <= set(responses)


def test_the_interactive_page_is_there(served: Served) -> None:
    page = httpx.get(f"{served.url}/docs")
    assert page.status_code == 200
    parts = re.findall('(?:src|href)="([^"]*)"', page.text)
    assert parts
    for part in parts:
        # Relative, so that the page also works under a path of a proxy.
        found = httpx.get(urljoin(f"{served.url}/docs", part))
        assert found.status_code == 200, "it must work without internet"


def test_every_answer_keeps_to_its_shape(api: Api) -> None:
    """Beyond the examples: the shapes that only some requests bring about."""
    by_name = {each.name: each for each in OPERATIONS}

    def check(name: str, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        msgspec.json.decode(answer.content, type=by_name[name].answer)

    def post(path: str, body: Any) -> httpx.Response:
        return api.http.post(path, content=json.dumps(body))

    check("set", post("/set", {"key": "a", "value": 1, "ttl": 60}))
    check("get", api.http.get("/get", params={"key": "a"}))
    check("get", api.http.get("/get", params={"key": "none"}))
    check("keys", api.http.get("/keys", params={"values": "true"}))
    check("update", post("/update", {"key": "a", "touch": None}))
    operations = [
        {"op": "touch", "key": "a", "touch": 5},
        {"op": "get", "key": "none"},
        {"op": "get", "key": "a"},
        {"op": "delete", "key": "none"},
        {"op": "set", "key": "b", "value": 1, "ttl": 5},
    ]
    check("txn", post("/txn", {"then": operations}))
    check("set_schema", post("/schema", {"key": "b", "schema": {"type": "number"}}))
    check("validate", post("/validate", {"key": "b", "value": "x"}))
    check("delete", api.http.delete("/delete", params={"key": "a", "reason": "r"}))
    check("history", api.http.get("/history", params={"key": "a"}))
    check("changes", api.http.get("/changes", params={"event": "all"}))
