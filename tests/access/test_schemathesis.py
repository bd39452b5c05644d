"""The OpenAPI document, put to the test by schemathesis with all its checks; ``/ws`` by hypothesis."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from memx_server.routes.frames import BY_NAME, CONTROLS
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.memx_server import Served

EXAMPLES = 12
FRAMES = 60

NOT_ALL_IS_SCHEMA = [positive_data_acceptance]
"""What fits the document's schemas may still be refused: keys are counted in bytes, cursors are read, an update is
exactly one of several; those rules answer 400 and are tested elsewhere."""

BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(150)
def test_every_answer_is_as_documented(served: Served) -> None:
    document = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    headers = {"x-api-key": served.keys.add(space="schemathesis")}
    asked: Counter[int] = Counter()
    faults: list[str] = []
    for found in document.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @hypothesis.given(case=operation.as_strategy())
        @BOUNDED
        def ask(case: Any) -> None:
            if isinstance(case.query, dict):
                case.query.pop("wait", None)  # it would take most of the test's time
            answer = case.call(headers=headers, timeout=15)
            asked[answer.status_code] += 1
            case.validate_response(answer, headers=headers, excluded_checks=NOT_ALL_IS_SCHEMA)

        try:
            ask()
        except (Exception, BaseExceptionGroup) as fault:  # noqa: BLE001 - all are told at the end
            faults.append(f"{operation.label}: {fault}")
    print(f"{sum(asked.values())} requests: {sorted(asked.items())}")
    assert not faults, "\n\n".join(faults)
    assert asked[200] > 0
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
