"""The OpenAPI document, put to the test by schemathesis with all its checks; ``/ws`` by hypothesis."""

from __future__ import annotations

import base64
import json
from collections import Counter
from contextlib import suppress
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from memx_server.routes.ws.frames import BY_NAME, CONTROLS
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.memx_server import Served

EXAMPLES = 12
FRAMES = 60

OF_THE_STATE = {
    "invalid_update": "whether an update fits depends on what the key holds",
    "schema_violation": "an earlier request has registered a schema for this key",
    "idempotency_mismatch": "an earlier request came under the same Idempotency-Key",
    "invalid_schema": "a schema of schemas is a document of its own, and not part of this one",
}
"""Refusals of requests that fit the document, by code: all else that fits must be accepted."""

BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _say_what_no_schema_can(document: Any) -> None:
    """Keep the generator from requests that break rules which JSON Schema has no words for."""

    def filter_body(_: Any, body: Any) -> bool:
        return _fits(body)

    def filter_query(_: Any, query: Any) -> bool:
        return _fits(query)

    def map_query(context: Any, query: Any) -> Any:
        if context.operation.path == "/delete":  # a key or a pattern: a query cannot say so
            query = _one_kind_of_deletion(query or {})
        if query and query.get("order") == "newest":  # its cursors have a form of their own
            query.pop("cursor", None)
        if query and "cursor" in query:  # only the server knows how to make one
            text = str(query["cursor"] or "a").encode()  # an empty one is none
            query["cursor"] = base64.urlsafe_b64encode(text).decode().rstrip("=")
        if query and "wait" in query:  # it would take most of the test's time
            query["wait"] = 0
        return query

    for hook in (filter_body, filter_query, map_query):
        document.hook(hook)


def _one_kind_of_deletion(query: dict[str, Any]) -> dict[str, Any]:
    """Leave the members that go with a pattern, or else those that go with a key."""
    if "key" not in query and "pattern" not in query:
        query = {**query, "key": "a"}
    others = ("pattern", "limit", "cursor") if "key" in query else ("if_revision",)
    return {name: value for name, value in query.items() if name not in others}


def _break_what_a_query_can_say(document: Any) -> None:
    """Keep the generator of what does not fit from a number that is null: in a query that is to leave it away."""

    def filter_query(_: Any, query: Any) -> bool:
        return not isinstance(query, dict) or not any(
            query.get(name, 0) in (None, "null") for name in INTEGERS
        )

    document.hook(filter_query)


def _fits(request: Any) -> bool:
    if not isinstance(request, dict):
        return True
    parts = [request, *(part for name in BRANCHES for part in request.get(name, ()))]
    if not _names_no_operator(request.get("filter")):
        return False
    return (
        all(_is_short(part) and _has_plain_integers(part) for part in parts)
        and sum(len(request.get(name, ())) for name in BRANCHES) <= 128
        and all(_writes_keys_once(request.get(name, ())) for name in BRANCHES[1:])
    )


def _names_no_operator(condition: Any) -> bool:
    """A name that begins with $ is an operator, and most of those that are made up are none."""
    if isinstance(condition, str):
        with suppress(ValueError):
            condition = json.loads(condition)
    if not isinstance(condition, dict):
        return True
    return all(
        not name.startswith("$") and _names_no_operator(each) for name, each in condition.items()
    )


def _is_short(part: Any) -> bool:
    """Keys and patterns are counted in bytes of UTF-8, reasons too."""
    texts = [part.get("key"), part.get("pattern"), *(part.get("keys") or ())]
    return all(len(text.encode()) <= 512 for text in texts if isinstance(text, str)) and (
        len((part.get("reason") or "").encode()) <= 1024
    )


def _has_plain_integers(part: Any) -> bool:
    """To JSON Schema 1.0 is an integer; memX takes integers that are written as such."""
    return not any(isinstance(part.get(name), float) for name in INTEGERS)


def _writes_keys_once(operations: Any) -> bool:
    """A branch of a transaction writes a key at most once."""
    keys = [each["key"] for each in operations if each["op"] != "get"]
    return len(keys) == len(set(keys))


BRANCHES = ("if", "then", "else")
INTEGERS = ("if_revision", "revision", "version", "cap", "limit", "at")


@pytest.mark.timeout(150)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
def test_every_answer_is_as_documented(served: Served, mode: GenerationMode) -> None:
    """What fits the document is accepted, what does not is refused, each with what is documented for it."""
    document = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    document.config.checks.negative_data_rejection.expected_statuses += ["413"]  # `too_large`
    fits = mode.is_positive
    (_say_what_no_schema_can if fits else _break_what_a_query_can_say)(document)
    headers = {"x-api-key": served.keys.add(space="schemathesis")}
    asked: Counter[int] = Counter()
    excused: Counter[str] = Counter()
    faults: list[str] = []
    for found in document.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        @settings(BOUNDED, max_examples=EXAMPLES if fits else EXAMPLES // 2)
        def ask(case: Any) -> None:
            answer = case.call(headers=headers, timeout=15)
            asked[answer.status_code] += 1
            refusal = answer.json() if 400 <= answer.status_code < 500 else {}
            code = refusal.get("error", "")
            is_excused = code in OF_THE_STATE
            excused[code] += is_excused
            case.validate_response(
                answer,
                headers=headers,
                excluded_checks=[positive_data_acceptance] if is_excused else [],
            )

        try:
            ask()
        except Unsatisfiable:
            assert not fits, operation.label  # without parameters there is nothing to break
        except (Exception, BaseExceptionGroup) as fault:  # noqa: BLE001 - all are told at the end
            faults.append(f"{operation.label}: {fault}")
    print(f"{asked.total()} requests: {sorted(asked.items())}; excused: {+excused}")
    assert not faults, "\n\n".join(faults)
    assert asked[200 if fits else 400] > asked.total() / 2
    assert excused.total() < asked.total() / 5
    assert asked[500] == 0


_TEXT = st.text(max_size=20) | st.sampled_from(["a", "a:*", "[", "*", "now", "value", "\x00"])
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=8,
)
_MEMBERS = ("key", "value", "pattern", "if", "then", "schema", "since", "sub", "merge", "patch")
_FRAME = st.fixed_dictionaries(
    {"id": st.integers() | _TEXT | _JSON, "op": st.sampled_from([*BY_NAME, *CONTROLS]) | _TEXT},
    optional=dict.fromkeys(_MEMBERS, _JSON),
)
_SENT = st.one_of(_FRAME.map(json.dumps), _JSON.map(json.dumps), _TEXT, st.binary(max_size=40))


@hypothesis.given(sent=st.lists(_SENT, min_size=1, max_size=8))
@settings(BOUNDED, max_examples=FRAMES)
def test_a_socket_answers_whatever_comes(served: Served, sent: list[str | bytes]) -> None:
    headers = {"x-api-key": served.keys.add(space="fuzz")}
    address = served.url.replace("http", "ws", 1) + "/ws"
    with connect(address, additional_headers=headers) as socket:
        socket.recv(10)
        try:
            for each in sent:
                socket.send(each)
            socket.send('{"id":"the last","op":"ping"}')
            while True:
                frame = json.loads(socket.recv(10))
                assert frame.get("error") != "internal", frame
                assert {"id", "ok"} <= set(frame) or "event" in frame
                if frame.get("id") == "the last":
                    break
        except ConnectionClosed:
            assert socket.close_code in (1003, 1007, 1009, 4400)  # closing in due form answers too
    assert httpx.get(f"{served.url}/healthz").status_code == 200
