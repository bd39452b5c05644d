"""The filter language: which entries a filter finds, and what is refused before anything is looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from memx_server.domain.evaluator import EvaluationTimeout, Evaluator
from memx_server.domain.filters import FILTER_BYTES, OPERATORS, Filter, parse_filter
from memx_server.evaluation.pool import EvaluationPool
from memx_server.settings import Limits

from memx_sdk.protocol.errors import ProtocolError
from tests.server.conftest import Api

VALUES: dict[str, str] = {
    "a": '{"n": 1, "t": "2026-11-27", "tags": ["x", "y"], "by": {"name": "ann", "age": 30}}',
    "b": '{"n": 1.0, "t": "2026-01-05", "tags": [], "by": {"name": "bob"}}',
    "c": '{"n": 12345678901234567890123, "t": "2025-12-31T23:59:59Z", "by": "ann"}',
    "d": '{"n": 0.1, "ok": true, "by": {}}',
    "e": '{"n": null, "ok": false, "$n": 5, "": "empty"}',
    "f": '{"n": "1", "ok": 1}',
    "g": '[{"n": 1}]',
    "h": '"n"',
    "i": '{"n": -1e300, "\\u006fk": "escaped"}',
    "j": "{}",
}

FOUND: list[tuple[Any, str]] = [
    ({}, "abcdefghij"),
    ({"n": 1}, "ab"),
    ({"n": 1.0}, "ab"),
    ({"n": {"$eq": 1}}, "ab"),
    ({"n": "1"}, "f"),
    ({"n": None}, "ej"),
    ({"n": {"$ne": 1}}, "cdefij"),
    ({"n": {"$gt": 0}}, "abcd"),
    ({"n": {"$gte": 1, "$lt": 2}}, "ab"),
    ({"n": {"$gt": 12345678901234567890122}}, "c"),
    ({"n": {"$gte": 12345678901234567890124}}, ""),
    ({"n": {"$lt": 0}}, "i"),
    ({"n": {"$lte": 0.1}}, "di"),
    ({"n": {"$gt": "0"}}, "f"),
    ({"n": {"$in": [1, "1", None]}}, "abefj"),
    ({"n": {"$nin": [1, "1", None]}}, "cdi"),
    ({"n": {"$in": []}}, ""),
    ({"n": {"$exists": True}}, "abcdefi"),
    ({"n": {"$exists": False}}, "j"),
    ({"t": {"$gte": "2026-01-01", "$lt": "2026-12-01"}}, "ab"),
    ({"t": {"$lt": "2026"}}, "c"),
    ({"ok": True}, "d"),
    ({"ok": 1}, "f"),
    ({"ok": {"$ne": False}}, "abcdfij"),
    ({"ok": "escaped"}, "i"),
    ({"tags": ["x", "y"]}, "a"),
    ({"tags": []}, "b"),
    ({"by": "ann"}, "c"),
    ({"by": {"name": "ann"}}, "a"),
    ({"by": {"name": {"$ne": "ann"}}}, "bd"),
    ({"by": {"name": {"$in": ["ann", "bob"]}, "age": {"$gt": 29.5}}}, "a"),
    ({"by": {}}, "abd"),
    ({"by": {"$eq": {}}}, "d"),
    ({"by": {"$eq": {"age": 30, "name": "ann"}}}, "a"),
    ({"n": 1, "t": {"$gt": "2026-06"}}, "a"),
    ({"": "empty"}, "e"),
]

REFUSED: list[tuple[str, str, str]] = [
    ("", "invalid_json", "empty"),
    ("{", "invalid_json", "JSON"),
    ("[]", "invalid_request", "object"),
    ("5", "invalid_request", "object"),
    ('{"n": {"$near": 1}}', "invalid_request", "$near"),
    ('{"n": {"$gt": 1, "$or": []}}', "invalid_request", "$or"),
    ('{"$or": []}', "invalid_request", "$or"),
    ('{"$gt": 1}', "invalid_request", "$gt"),
    ('{"by": {"$eq": 1, "name": 2}}', "invalid_request", "name"),
    ('{"n": {"$gt": null}}', "invalid_request", "/n/$gt"),
    ('{"n": {"$lt": true}}', "invalid_request", "/n/$lt"),
    ('{"n": {"$gte": [1]}}', "invalid_request", "/n/$gte"),
    ('{"n": {"$in": 5}}', "invalid_request", "list"),
    ('{"n": {"$exists": 1}}', "invalid_request", "true"),
    ('{"n": {"$gt": 1' + "0" * 400 + "}}", "invalid_json", "double"),
    ('{"n": 1e999}', "invalid_json", "double"),
    ('{"n": NaN}', "invalid_json", "NaN"),
    ('{"n": {"$gt": NaN}}', "invalid_json", "NaN"),
    ('{"n": {"$gt": -Infinity}}', "invalid_json", "NaN"),
    ('{"n": 1, "n": 2}', "invalid_json", "twice"),
    ('{"n": "\\ud800"}', "invalid_json", "surrogate"),
    ('{"a":' * 9 + "1" + "}" * 9, "invalid_request", "8 deep"),
    ('{"a":{"$eq":' + "[" * 500 + "]" * 500 + "}}", "invalid_request", "64 levels"),
    ('{"a":' * 1300 + "1" + "}" * 1300, "invalid_json", "nested"),
    (json.dumps({f"m{at}": at for at in range(65)}), "invalid_request", "64 conditions"),
    (json.dumps({"m": {"$in": list(range(65))}}), "invalid_request", "64 values"),
    (json.dumps({"m": "x" * FILTER_BYTES}), "too_large", str(FILTER_BYTES)),
]


@pytest.mark.parametrize(("wanted", "expected"), FOUND, ids=[str(each[0]) for each in FOUND])
def test_a_filter_finds_exactly_what_it_says(wanted: Any, expected: str) -> None:
    filter = parse_filter(json.dumps(wanted).encode())
    entries = {
        name: b'{"revision":1,"key":"k","value":%b}' % VALUES[name].encode() for name in VALUES
    }
    found = [
        name for name, entry in entries.items() if filter is None or filter.matches_entry(entry)
    ]
    assert "".join(found) == expected


@pytest.mark.parametrize(("text", "code", "word"), REFUSED, ids=[each[0][:40] for each in REFUSED])
def test_what_is_no_filter_is_refused_in_words(text: str, code: str, word: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_filter(text.encode())
    assert (caught.value.code, caught.value.extra["field"]) == (code, "filter")
    assert word in caught.value.detail


def test_an_unknown_operator_is_told_all_that_there_are() -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_filter(b'{"n": {"$regex": "a"}}')
    assert all(name in caught.value.detail for name in OPERATORS)


def test_the_server_finds_them_and_refuses_over_http(api: Api) -> None:
    for name, value in VALUES.items():
        api.raw("/set", b'{"key":"v:%b","value":%b}' % (name.encode(), value.encode()))
    for wanted, expected in FOUND:
        keys = api.get("/keys", pattern="v:*", filter=json.dumps(wanted))["keys"]
        assert "".join(key[2:] for key in keys) == expected, wanted
    for text, code, _ in REFUSED:
        status = 413 if code == "too_large" else 400
        if len(text) < FILTER_BYTES:
            refused = api.get("/keys", status, pattern="v:*", filter=text)
            assert (refused["error"], refused["field"]) == (code, "filter")


ENTRIES = [
    b'{"revision":1,"value":{"n":%d,"text":"%b"}}' % (number, b"x" * 100) for number in range(1000)
]


async def test_many_entries_are_filtered_in_a_process() -> None:
    filter = parse_filter(b'{"n": {"$gte": 995}, "text": {"$ne": 1e308}}')
    assert filter is not None
    pool = EvaluationPool(1.0)
    try:
        evaluator = Evaluator(pool, Limits())
        assert await evaluator.matching("space", filter, ENTRIES) == [995, 996, 997, 998, 999]
        assert pool._processes, "it was done elsewhere"
        assert await evaluator.matching("space", filter, ENTRIES[-7:]) == [2, 3, 4, 5, 6]
    finally:
        await pool.close()


async def test_a_filter_that_takes_too_long_is_refused() -> None:
    class TooSlow:
        async def matching(self, space: str, filter: Filter, entries: Sequence[bytes]) -> list[int]:
            raise EvaluationTimeout

    filter = parse_filter(b'{"n": 1}')
    assert filter is not None
    with pytest.raises(ProtocolError) as caught:
        await Evaluator(TooSlow(), Limits()).matching("space", filter, ENTRIES)  # type: ignore[arg-type]  # it needs no more
    assert (caught.value.code, caught.value.extra["field"]) == ("too_large", "filter")
