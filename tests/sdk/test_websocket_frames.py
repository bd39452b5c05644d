"""The frames of the multiplexed socket, without one."""

from __future__ import annotations

import json

import pytest

from memx_sdk.core import reads, writes
from memx_sdk.core.multiplex import (
    read_frame,
    read_response,
    request_frame,
    subscribe_frame,
    unsubscribe_frame,
)
from memx_sdk.core.writes import WriteOptions


def test_a_request_carries_its_number_and_its_key() -> None:
    request = writes.set('a"b', [1.10, None], WriteOptions(idempotency_key="once")).request

    assert json.loads(request_frame(7, request)) == {
        "id": 7,
        "op": "set",
        "key": 'a"b',
        "value": [1.1, None],
        "idempotency_key": "once",
    }


def test_a_subscription_is_asked_for_as_over_http() -> None:
    frame = subscribe_frame(3, "a:*", {"event": "all", "snapshot": "true"})

    assert json.loads(frame) == {
        "id": 3,
        "op": "subscribe",
        "pattern": "a:*",
        "event": "all",
        "snapshot": True,
    }
    assert json.loads(unsubscribe_frame(4, 9)) == {"id": 4, "op": "unsubscribe", "sub": 9}


def test_frames_are_sorted_without_reading_them_whole() -> None:
    event = read_frame(b'{"sub":7,"event":"value","key":"k","value":{"id":1}}')
    assert (event.id, event.sub, event.event) == (None, 7, "value")
    answer = read_frame(b'{"id":2,"ok":true,"sub":7}')
    assert (answer.id, answer.ok, answer.sub) == (2, True, 7)
    hello = read_frame(b'{"event":"hello","version":"9"}')
    assert (hello.id, hello.sub) == (None, None)


def test_an_entry_comes_as_over_http_to_the_last_digit() -> None:
    text = b'{"id":1,"ok":true,"entry":{"revision":5,"value":1.10000000000000000001}}'

    response = read_response("get", text)

    assert (response.status, response.body) == (
        200,
        b'{"revision":5,"value":1.10000000000000000001}',
    )
    assert read_response("get", b'{"id":1,"ok":true,"entry":null}').body == b"null"


@pytest.mark.parametrize(("op", "expected"), [("set", {"ok": True, "a": 1}), ("whoami", {"a": 1})])
def test_ok_is_shown_where_http_shows_it(op: str, expected: object) -> None:
    assert json.loads(read_response(op, b'{"id":1,"ok":true,"a":1}').body) == expected


@pytest.mark.parametrize(
    ("code", "status"), [("conflict", 409), ("unavailable", 503), ("a_new_code", 500)]
)
def test_an_error_gets_the_status_of_its_code(code: str, status: int) -> None:
    text = json.dumps({"id": 1, "ok": False, "error": code, "detail": "no"}).encode()

    response = read_response("set", text)

    assert response.status == status
    assert json.loads(response.body) == {"ok": False, "error": code, "detail": "no"}


def test_reads_carry_no_idempotency_key() -> None:
    frame = request_frame(1, reads.get("k", at=None, model=None).request)

    assert json.loads(frame) == {"id": 1, "op": "get", "key": "k"}
