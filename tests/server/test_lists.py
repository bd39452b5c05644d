"""Lists of keys and entries: newest first, filtered, in pages that join, and only what may be read."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from memx_server.domain.memory import scan

from tests.server.conftest import Api, client
from tests.support.memx_server import Served


def pages(api: Api, **query: Any) -> list[dict[str, Any]]:
    """All pages of a list."""
    found = [api.get("/keys", **query)]
    while found[-1]["next"] is not None:
        found.append(api.get("/keys", **query, cursor=found[-1]["next"]))
    return found


def items(page: dict[str, Any]) -> list[Any]:
    """What a page lists."""
    found: list[Any] = page["keys"] if "keys" in page else page["entries"]
    return found


def joined(found: list[dict[str, Any]]) -> list[Any]:
    return [item for page in found for item in items(page)]


def test_the_newest_come_first(api: Api) -> None:
    for name in ("b", "a", "c"):
        api.set(f"k:{name}", name)
    # One transaction: its keys share a revision, and come in their order.
    api.post(
        "/txn", {"then": [{"op": "set", "key": f"k:{name}", "value": 1} for name in ("z", "y")]}
    )
    api.set("k:b", "again")
    api.set("other", 1)

    expected = ["k:b", "k:y", "k:z", "k:c", "k:a"]
    assert api.get("/keys", pattern="k:*", order="newest") == {"keys": expected, "next": None}
    entries = api.get("/keys", pattern="k:*", order="newest", values="true", limit=3)["entries"]
    assert [each["key"] for each in entries] == expected[:3]
    assert entries[0]["value"] == "again"
    for limit in (1, 2, 4, 5, 6):
        for values in ("true", "false"):
            found = pages(api, pattern="k:*", order="newest", limit=limit, values=values)
            keys = [item["key"] if values == "true" else item for item in joined(found)]
            assert keys == expected
            assert all(map(items, found))


def test_pages_go_on_where_others_write(api: Api) -> None:
    for number in range(6):
        api.set(f"k:{number}", {"n": number})
    first = api.get("/keys", pattern="k:*", order="newest", limit=2)
    assert first["keys"] == ["k:5", "k:4"]

    api.set("k:3", {"n": 3})  # now it is newer than where this list has come to
    api.delete("/delete", key="k:2")
    api.set("k:new", {"n": 9})

    rest = api.get("/keys", pattern="k:*", order="newest", cursor=first["next"])
    assert (rest["keys"], rest["next"]) == (["k:1", "k:0"], None)


def test_a_filter_goes_with_every_order_and_with_limits(api: Api) -> None:
    for start in range(0, 300, 100):
        api.post(
            "/txn",
            {
                "then": [
                    {"op": "set", "key": f"k:{number:03}", "value": {"n": number % 7}}
                    for number in range(start, start + 100)
                ]
            },
        )
    wanted = json.dumps({"n": {"$gte": 5}})
    expected = [f"k:{number:03}" for number in range(300) if number % 7 >= 5]
    newest = [
        key for start in (200, 100, 0) for key in expected if start <= int(key[2:]) < start + 100
    ]

    for limit in (1, 10, 85, 1000):
        query = {"pattern": "k:*", "filter": wanted, "limit": limit}
        assert joined(pages(api, **query)) == expected
        assert joined(pages(api, **query, order="newest")) == newest
    entries = joined(pages(api, pattern="k:*", filter=wanted, order="newest", values="true"))
    assert [each["key"] for each in entries] == newest
    assert {each["value"]["n"] for each in entries} == {5, 6}


def test_a_list_shows_what_may_be_read_and_no_more(served: Served) -> None:
    space = f"lists-{secrets.token_hex(4)}"
    with client(served, served.keys.add(space=space)) as owner:
        for name in ("a:1", "b:1", "a:2", "c:1"):
            owner.set(name, {"n": 1})
        key = served.keys.add(space=space, read=("a:*", "c:*"), write=())
        with client(served, key) as api:
            for extra in ({}, {"filter": '{"n": 1}'}):
                query = {"order": "newest", "limit": 1, **extra}
                assert joined(pages(api, **query)) == ["c:1", "a:2", "a:1"]
                query["order"] = "key"
                assert joined(pages(api, **query)) == ["a:1", "a:2", "c:1"]
            refused = api.get("/keys", 403, pattern="b:1", order="newest", filter='{"n": 1}')
            assert refused["error"] == "forbidden"


@pytest.mark.parametrize(
    ("query", "error", "field"),
    [
        ({"order": "oldest"}, "invalid_request", "order"),
        ({"order": "newest", "cursor": "YQ"}, "invalid_cursor", "cursor"),
        ({"order": "newest", "cursor": ".!"}, "invalid_cursor", "cursor"),
        ({"order": "newest", "cursor": ".YQ"}, "invalid_cursor", "cursor"),
        ({"order": "key", "cursor": ".MS5h"}, "invalid_cursor", "cursor"),
        ({"filter": "n=1"}, "invalid_json", "filter"),
        ({"filter": '{"n": {"$like": "a"}}'}, "invalid_request", "filter"),
    ],
)
def test_what_cannot_be_listed_is_refused_and_named(
    api: Api, query: dict[str, Any], error: str, field: str
) -> None:
    refused = api.get("/keys", 400, **query)
    assert (refused["error"], refused["field"]) == (error, field)


def test_too_many_keys_to_sort_are_refused_with_what_to_do(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "SORTED_KEYS", 4)
    for number in range(5):
        api.set(f"k:{number}", number)
    refused = api.get("/keys", 413, order="newest")
    assert (refused["error"], refused["limit"]) == ("too_large", "sorted_keys")
    assert "narrow the pattern" in refused["detail"]
    assert len(api.get("/keys", order="newest", pattern="k:[0-3]")["keys"]) == 4


def test_a_scan_goes_on_behind_what_one_answer_looks_at(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_SCANNED", 3)
    monkeypatch.setattr(scan, "_PAGE", 3)
    monkeypatch.setattr(scan, "PAGES_PER_ANSWER", 1)
    for number in range(10):
        api.set(f"k:{number}", {"rare": number == 2})
    for order in ("newest", "key"):
        found = pages(api, pattern="k:*", order=order, filter='{"rare": true}')
        assert joined(found) == ["k:2"]
        assert len(found) == 4


def test_large_values_end_a_page_early(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [str(number) * 1_000_000 for number in range(10)]
    for number, value in enumerate(values):
        api.set(f"k:{number}", {"text": value})
    for query in ({"order": "newest"}, {"filter": '{"text": {"$gt": "0"}}'}):
        found = pages(api, pattern="k:*", values="true", **query)
        assert len(found) > 1
        assert all(map(items, found))
        texts = sorted(each["value"]["text"] for each in joined(found))
        assert texts == values
