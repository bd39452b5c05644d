"""Hostile and mistaken requests: each gets a 4xx in the one error shape that names the field."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from memx_server.routes.api.operations import OPERATIONS

from tests.server.conftest import Api
from tests.support.memx_server import Served

BODIES: list[tuple[bytes, str, str]] = [
    (b"", "invalid_json", "body"),
    (b"   ", "invalid_json", "body"),
    (b"not json", "invalid_json", "body"),
    (b'{"key":"a","value":1', "invalid_json", "body"),
    (b'{"key":"a","value":}', "invalid_json", "body"),
    (b'{"key":"a","value":1}}', "invalid_json", "body"),
    (b"{'key':'a','value':1}", "invalid_json", "body"),
    (b'{"key":"a","value":01}', "invalid_json", "body"),
    (b'{"key":"a","value":NaN}', "invalid_json", "body"),
    (b'{"key":"a","value":Infinity}', "invalid_json", "body"),
    (b'{"key":"a","value":-Infinity}', "invalid_json", "body"),
    (b'{"key":"a","value":1e999}', "invalid_json", "body"),
    (b'{"key":"a","value":[-1e400]}', "invalid_json", "body"),
    (b'{"key":"a","value":["' + b"x" * 1000 + b'",1e-300,1e999]}', "invalid_json", "body"),
    (b'{"key":"a","value":1' + b"0" * 5000 + b"}", "invalid_json", "body"),
    (b'{"key":"a","value":"\xff"}', "invalid_json", "body"),
    (b'{"key":"a","value":"\xed\xa0\x80"}', "invalid_json", "body"),
    (b'{"key":"a","value":"\\ud800"}', "invalid_json", "body"),
    (b'{"key":"a","value":"\\udc00 x"}', "invalid_json", "body"),
    (b'{"key":"\\ud800","value":1}', "invalid_json", "body"),
    (b'{"key":"a","value":"a\nb"}', "invalid_json", "body"),
    (b'\xef\xbb\xbf{"key":"a","value":1}', "invalid_json", "body"),
    ('{"key":"a","value":1}'.encode("utf-16"), "invalid_json", "body"),
    (b'{"key":"a","key":"b","value":1}', "invalid_json", "key"),
    (b'{"key":"a","value":1,"value":2}', "invalid_json", "value"),
    (b'{"key":"a","value":{"x":1,"x":2}}', "invalid_json", "x"),
    (b'{"key":"a","value":[{"x":{"y":1,"y":1}}]}', "invalid_json", "y"),
    (b'{"key":"a","value":{"x":1,"\\u0078":2}}', "invalid_json", "x"),
    (b"[]", "invalid_request", "body"),
    (b'[{"key":"a","value":1}]', "invalid_request", "body"),
    (b'"text"', "invalid_request", "body"),
    (b"null", "invalid_request", "body"),
    (b"{}", "invalid_request", "key"),
    (b'{"key":"a"}', "invalid_request", "value"),
    (b'{"value":1}', "invalid_request", "key"),
    (b'{"key":1,"value":1}', "invalid_request", "key"),
    (b'{"key":null,"value":1}', "invalid_request", "key"),
    (b'{"key":["a"],"value":1}', "invalid_request", "key"),
    (b'{"key":"a","value":1,"nonsense":1}', "invalid_request", "nonsense"),
    (b'{"key":"a","value":1,"if_revision":"1"}', "invalid_request", "if_revision"),
    (b'{"key":"a","value":1,"if_revision":-1}', "invalid_request", "if_revision"),
    (b'{"key":"a","value":1,"if_revision":1.5}', "invalid_request", "if_revision"),
    (b'{"key":"a","value":1,"if_revision":true}', "invalid_request", "if_revision"),
    (b'{"key":"a","value":1,"if_revision":9007199254740992}', "invalid_request", "if_revision"),
    (b'{"key":"a","value":1,"if_revision":' + b"9" * 300 + b"}", "invalid_request", "if_revision"),
    (b'{"key":"a","value":' + b"9" * 400 + b"}", "invalid_json", "body"),  # no double is so large
    (b'{"key":"a","value":1,"ttl":0}', "invalid_request", "ttl"),
    (b'{"key":"a","value":1,"ttl":-5}', "invalid_request", "ttl"),
    (b'{"key":"a","value":1,"ttl":1e300}', "invalid_request", "ttl"),
    (b'{"key":"a","value":1,"ttl":"60"}', "invalid_request", "ttl"),
    (b'{"key":"a","value":1,"history":1}', "invalid_request", "history"),
    (b'{"key":"a","value":1,"reason":5}', "invalid_request", "reason"),
    (b'{"key":"","value":1}', "invalid_key", "key"),
    (b'{"key":"a*","value":1}', "invalid_key", "key"),
    (b'{"key":"a\\u0000","value":1}', "invalid_key", "key"),
    (b'{"key":"a\\nb","value":1}', "invalid_key", "key"),
    (b'{"key":"' + b"k" * 513 + b'","value":1}', "invalid_key", "key"),
    (('{"key":"' + "é" * 257 + '","value":1}').encode(), "invalid_key", "key"),
]


@pytest.mark.parametrize(("body", "error", "field"), BODIES)
def test_a_bad_body_is_refused_and_named(api: Api, body: bytes, error: str, field: str) -> None:
    refused = api.raw("/set", body, 400)
    assert (refused["error"], refused["field"]) == (error, field)
    assert api.get("/keys")["keys"] == []


@pytest.mark.parametrize("operation", [op for op in OPERATIONS if op.method == "POST"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"\xff", b'{"nonsense":1}'])
def test_every_call_refuses_a_bad_body(api: Api, operation: Any, body: bytes) -> None:
    refused = api.raw(operation.path, body, 400)
    assert refused["error"] in {"invalid_json", "invalid_request"}
    assert refused["field"]


def test_limits_are_exact_and_named(api: Api) -> None:
    fits = "x" * (1024 * 1024 - 2)
    api.set("k" * 512, fits)
    refused = api.post("/set", {"key": "k", "value": fits + "x"}, 413)
    assert (refused["error"], refused["limit"]) == ("too_large", "value_bytes")
    api.raw("/set", b'{"key":"deep","value":' + b"[" * 64 + b"]" * 64 + b"}")
    for value in (b"[" * 65 + b"]" * 65, b'{"a":' * 65 + b"1" + b"}" * 65):
        refused = api.raw("/set", b'{"key":"deep","value":' + value + b"}", 413)
        assert (refused["error"], refused["limit"]) == ("too_large", "nesting")
    api.raw("/set", b'{"key":"flat","value":[' + b",".join([b"[]"] * 1000) + b',"]]]]"]}')
    refused = api.post("/set", {"key": "k", "value": 1, "reason": "r" * 1025}, 413)
    assert (refused["error"], refused["limit"]) == ("too_large", "reason_bytes")


@pytest.mark.parametrize("opener", [b"[", b'{"a":'])
def test_ten_thousand_levels_are_refused(api: Api, opener: bytes) -> None:
    closer = b"]" if opener == b"[" else b"}"
    value = opener * 10_000 + b"1" + closer * 10_000
    refused = api.raw("/set", b'{"key":"k","value":' + value + b"}", 400)
    assert (refused["error"], "deep" in refused["detail"]) == ("invalid_json", True)


def test_a_value_grown_past_the_limit_by_updates_is_refused(api: Api) -> None:
    api.set("k", ["x" * 1024 * 700])
    refused = api.post("/update", {"key": "k", "append": ["x" * 1024 * 700]}, 413)
    assert refused["limit"] == "value_bytes"
    nested: Any = 1
    for _ in range(63):
        nested = [nested]
    api.set("deep", {"a": nested})
    refused = api.post("/update", {"key": "deep", "merge": {"a": [nested]}}, 413)
    assert refused["limit"] == "nesting"


def test_a_body_over_the_limit_is_refused_before_it_is_read(served: Served, api: Api) -> None:
    refused = api.raw("/set", b"x" * (8 * 1024 * 1024 + 1), 413)
    assert (refused["error"], refused["limit"]) == ("too_large", "body_bytes")
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as raw:
        key = served.api_key.encode()
        raw.sendall(
            b"POST /set HTTP/1.1\r\nHost: x\r\nx-api-key: %b\r\nContent-Length: 99999999999\r\n\r\n"
            % key
        )
        assert b" 413 " in raw.recv(1000)


QUERIES = [
    ("/get", "", "invalid_request", "key"),
    ("/get", "key=a&key=b", "invalid_request", "key"),
    ("/get", "key=a&nonsense=1", "invalid_request", "nonsense"),
    ("/get", "key=%ff", "invalid_request", "key"),
    ("/get", "key=a&=1", "invalid_request", "body"),
    ("/get", "key=a&at=x", "invalid_request", "at"),
    ("/get", "key=a&at=-1", "invalid_request", "at"),
    ("/get", "key=a&at=null", "invalid_request", "at"),
    ("/get", "key=a&at=NULL", "invalid_request", "at"),
    ("/get", "key=", "invalid_key", "key"),
    ("/get", "key=a*", "invalid_key", "key"),
    ("/get", "key=%00", "invalid_key", "key"),
    ("/keys", "pattern=[", "invalid_pattern", "pattern"),
    ("/keys", "pattern=", "invalid_pattern", "pattern"),
    ("/keys", "limit=0", "invalid_request", "limit"),
    ("/keys", "limit=1001", "invalid_request", "limit"),
    ("/keys", "values=maybe", "invalid_request", "values"),
    ("/keys", "cursor=%2F%2F", "invalid_cursor", "cursor"),
    ("/keys", "cursor=!", "invalid_cursor", "cursor"),
    ("/changes", "since=nonsense", "invalid_cursor", "since"),
    ("/changes", "since=" + "a" * 40 + "-1", "invalid_cursor", "since"),
    ("/changes", "since=a-99999999999999999", "invalid_cursor", "since"),
    ("/changes", "event=everything", "invalid_request", "event"),
    ("/history", "key=a&limit=x", "invalid_request", "limit"),
    ("/schema", "key=[", "invalid_pattern", "pattern"),
    ("/whoami", "x=1", "invalid_request", "x"),
    ("/schemas", "x=1", "invalid_request", "x"),
]


@pytest.mark.parametrize(("path", "query", "error", "field"), QUERIES)
def test_a_bad_query_is_refused_and_named(
    api: Api, path: str, query: str, error: str, field: str
) -> None:
    refused = api.call("GET", f"{path}?{query}", 400)
    assert (refused["error"], refused["field"]) == (error, field)


def test_an_unknown_word_is_answered_with_the_known_ones(api: Api) -> None:
    refused = api.call("GET", "/changes?event=everything", 400)
    assert refused["detail"].endswith("; there are all, schema, value")
    refused = api.post("/txn", {"then": [{"op": "swap", "key": "a"}]}, 400)
    assert refused["field"] == "then[0].op"
    for word in ("set", "delete", "get", "merge", "patch", "increment", "append", "touch"):
        assert word in refused["detail"]


def test_a_space_in_a_query_may_be_a_plus(api: Api) -> None:
    api.set("a b+c", 1)
    assert api.call("GET", "/get?key=a+b%2Bc")["value"] == 1


def test_a_post_takes_no_query(api: Api) -> None:
    refused = api.call("POST", "/set?key=a", 400, json={"key": "a", "value": 1})
    assert refused["field"] == "query"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "x"])
def test_a_body_that_is_not_labelled_json(api: Api, content_type: str) -> None:
    refused = api.call(
        "POST", "/set", 415, content=b'{"key":"a"}', headers={"content-type": content_type}
    )
    assert refused["error"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
)
def test_a_body_that_is_labelled_json(api: Api, content_type: str) -> None:
    api.call(
        "POST",
        "/set",
        content=b'{"key":"a","value":1}',
        headers={"content-type": content_type},
    )


@pytest.mark.parametrize("agent", ["", "x" * 65, "tab\there"])
def test_a_malformed_agent(api: Api, agent: str) -> None:
    refused = api.post("/set", {"key": "a", "value": 1}, 400, x_memx_agent=agent)
    assert refused["field"] == "x-memx-agent"


def test_unknown_paths_and_methods(api: Api) -> None:
    assert api.get("/nonsense", 404)["error"] == "not_found"
    assert api.get("/get/", 404)["error"] == "not_found"
    for method, path in (
        ("POST", "/get"),
        ("PUT", "/set"),
        ("PATCH", "/txn"),
        ("POST", "/healthz"),
    ):
        refused = api.call(method, path, 405)
        assert refused["error"] == "method_not_allowed"
        assert refused["allowed"]


@pytest.mark.parametrize("path", sorted({op.path for op in OPERATIONS} | {"/healthz"}))
def test_options_and_head_answer_on_every_path(api: Api, path: str) -> None:
    options = api.http.options(path)
    assert options.status_code == 204
    assert "OPTIONS" in options.headers["allow"]
    wrong = api.http.request("TRACE", path)
    assert wrong.status_code == 405
    assert wrong.json()["error"] == "method_not_allowed"


def test_head_is_get_without_the_body(api: Api) -> None:
    api.set("a", [1, 2])
    got = api.http.get("/get", params={"key": "a"})
    head = api.http.head("/get", params={"key": "a"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))
    assert api.http.head("/get").status_code == 400
    assert api.http.head("/set").status_code == 405


def test_pipelined_garbage_ends_the_connection_and_not_the_server(served: Served) -> None:
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as raw:
        raw.sendall(b"\x00\x01 nonsense\r\n\r\n" * 10)
        raw.recv(1000)
    assert httpx.get(f"{served.url}/healthz").json() == {"ok": True}


def test_an_unexpected_error_shows_no_traceback(
    served: Served, api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(served.app.store, "read", broken)
    answer = api.get("/get", 500, key="a")
    assert answer["error"] == "internal"
    assert "secret" not in json.dumps(answer)
    assert answer["id"] in caplog.text
    assert "the secret inside" in caplog.text
