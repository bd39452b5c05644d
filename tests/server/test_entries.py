"""Setting, reading, listing and deleting entries over HTTP."""

from __future__ import annotations

import time

import pytest

from tests.server.conftest import Api, client
from tests.support.memx_server import Served


def test_set_then_get(api: Api) -> None:
    written = api.set("team:goal", {"text": "Map the ocean floor"})
    assert written["ok"] is True
    assert written["updated"] is True
    assert written["version"] == 1
    entry = api.get("/get", key="team:goal")
    assert entry == {
        "revision": written["revision"],
        "version": 1,
        "ts": written["ts"],
        "writer": "tester",
        "expires_at": None,
        "key": "team:goal",
        "value": {"text": "Map the ocean floor"},
    }
    assert abs(written["ts"] - time.time()) < 60


def test_a_missing_key_is_null_and_a_stored_null_is_not(api: Api) -> None:
    assert api.get("/get", key="a") is None
    api.set("a", None)
    assert api.get("/get", key="a")["value"] is None


@pytest.mark.parametrize(
    "value",
    [
        "[]",
        "{}",
        "0.1",
        "1.10",
        "-0.0",
        "1E5",
        "12345678901234567890123456789012345678901234567890",
        "0.12345678901234567890123456789012345678901234567890",
        '{"b":1,"a":[ 1 , 2 ]}',
        '"\\u00e9\\ud83d\\ude00"',
        '"é😀\u2028"',
        '"\\u0000"',
        "[[[]]]",
        "1e308",
        "1e-400",
    ],
)
def test_a_value_comes_back_byte_for_byte(api: Api, value: str) -> None:
    api.raw("/set", f'{{"key":"k","value":{value}}}'.encode())
    assert api.text("/get", key="k").endswith(f'"key":"k","value":{value}}}')
    history = api.text("/history", key="k")
    assert f'"value":{value}}}' in history


def test_versions_count_and_revisions_rise(api: Api) -> None:
    first, second = api.set("a", 1), api.set("a", 2)
    assert (first["version"], second["version"]) == (1, 2)
    assert second["revision"] == first["revision"] + 1


def test_the_writer_is_principal_and_agent(served: Served) -> None:
    with client(served, served.fresh_key(agent="alice"), x_memx_agent="critic") as api:
        api.set("a", 1)
        assert api.get("/get", key="a")["writer"] == "alice/critic"
        assert api.get("/whoami")["writer"] == "alice/critic"


def test_if_revision_lets_one_writer_through(api: Api) -> None:
    first = api.set("a", 1, if_revision=0)
    conflict = api.post("/set", {"key": "a", "value": 2, "if_revision": 0}, 409)
    assert conflict["error"] == "conflict"
    assert conflict["entry"]["value"] == 1
    api.set("a", 2, if_revision=first["revision"])
    conflict = api.post("/set", {"key": "a", "value": 3, "if_revision": first["revision"]}, 409)
    assert conflict["entry"]["value"] == 2


def test_a_conflict_on_a_missing_key_says_null(api: Api) -> None:
    conflict = api.post("/set", {"key": "a", "value": 2, "if_revision": 7}, 409)
    assert conflict["entry"] is None


def test_delete(api: Api) -> None:
    api.set("a", 1)
    gone = api.delete("/delete", key="a")
    assert (gone["ok"], gone["deleted"]) == (True, True)
    assert api.get("/get", key="a") is None
    again = api.delete("/delete", key="a")
    assert (again["deleted"], again["revision"]) == (False, gone["revision"])


def test_delete_takes_a_body_too_and_a_condition(api: Api) -> None:
    revision = api.set("a", 1)["revision"]
    api.call("DELETE", "/delete", 409, json={"key": "a", "if_revision": revision + 1})
    assert api.call("DELETE", "/delete", json={"key": "a", "if_revision": revision})["deleted"]


def test_a_ttl_ends_an_entry_and_a_set_without_one_clears_it(api: Api) -> None:
    written = api.set("a", 1, ttl=0.15)
    assert abs(written["expires_at"] - time.time() - 0.15) < 5
    api.set("b", 1, ttl=0.15)
    assert "expires_at" not in api.set("b", 2)
    deadline = time.monotonic() + 5
    while api.get("/get", key="a") is not None:
        assert time.monotonic() < deadline
    assert api.get("/get", key="b")["value"] == 2
    assert api.get("/get", key="b")["expires_at"] is None


def test_mget(api: Api) -> None:
    api.set("a", [1])
    api.set("b", {"x": 2})
    found = api.post("/mget", {"keys": ["b", "a", "c", "a"]})
    assert {k: e and e["value"] for k, e in found["entries"].items()} == {
        "a": [1],
        "b": {"x": 2},
        "c": None,
    }
    api.set("a", 2)
    later = api.get("/changes", since=found["cursor"])
    assert [change["value"] for change in later["changes"]] == [2]


def test_keys_page_by_page(api: Api) -> None:
    names = [f"team:{n:03}" for n in range(25)]
    for name in names:
        api.set(name, 1)
    api.set("other", 1)
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"pattern": "team:*", "limit": 10, **({"cursor": cursor} if cursor else {})}
        page = api.get("/keys", **query)
        assert len(page["keys"]) <= 10
        found += page["keys"]
        cursor = page["next"]
    assert found == names
    entries = api.get("/keys", pattern="team:00?", values=True)["entries"]
    assert [entry["key"] for entry in entries] == names[:10]


def test_get_at_an_older_revision(api: Api) -> None:
    first = api.set("a", {"n": 1}, ttl=1000)
    second = api.set("a", {"n": 2})
    api.delete("/delete", key="a")
    old = api.get("/get", key="a", at=first["revision"])
    assert (old["value"], old["revision"], old["version"]) == ({"n": 1}, first["revision"], 1)
    assert abs(old["expires_at"] - first["expires_at"]) < 0.01
    assert api.get("/get", key="a", at=second["revision"])["value"] == {"n": 2}
    assert api.get("/get", key="a", at=second["revision"] + 1) is None
    assert api.get("/get", key="a", at=first["revision"] - 1) is None


def test_get_at_a_revision_whose_value_was_not_kept(api: Api) -> None:
    first = api.set("a", 1, history=False)
    assert api.get("/get", key="a", at=first["revision"])["value"] == 1
    api.set("a", 2)
    gone = api.get("/get", 410, key="a", at=first["revision"])
    assert gone["error"] == "compacted"


def test_history_newest_first_with_reasons(api: Api) -> None:
    api.set("a", 1, reason="why not")
    api.set("a", 2, history=False)
    api.delete("/delete", key="a", reason="done")
    page = api.get("/history", key="a")
    assert [c["action"] for c in page["changes"]] == ["delete", "set", "set"]
    assert [c.get("reason") for c in page["changes"]] == ["done", None, "why not"]
    assert ["value" in c for c in page["changes"]] == [True, False, True]
    assert page["complete"] is True
    assert len(api.get("/history", key="a", limit=1)["changes"]) == 1


def test_changes_from_a_cursor(api: Api) -> None:
    api.set("a:1", 1)
    cursor = api.get("/changes")["cursor"]
    api.set("b:1", 2)
    api.set("a:2", 3)
    page = api.get("/changes", pattern="a:*", since=cursor)
    assert [c["key"] for c in page["changes"]] == ["a:2"]
    assert page["more"] is False
    assert api.get("/changes", since=page["cursor"])["changes"] == []


def test_changes_come_in_pages_that_lose_nothing(api: Api) -> None:
    for n in range(12):
        api.set("a" if n % 2 else "b", n)
    seen: list[int] = []
    query = {"pattern": "a", "limit": 2}
    while True:
        page = api.get("/changes", **query)
        seen += [c["value"] for c in page["changes"]]
        query["since"] = page["cursor"]
        if not page["more"]:
            break
    assert seen == [1, 3, 5, 7, 9, 11]


def test_schema_changes_show_only_on_request(api: Api) -> None:
    api.post("/schema", {"key": "a*", "schema": True})
    api.set("a", 1)
    actions = {
        event: [c["action"] for c in api.get("/changes", event=event)["changes"]]
        for event in ("value", "schema", "all")
    }
    assert actions == {"value": ["set"], "schema": ["schema"], "all": ["schema", "set"]}


def test_a_cursor_of_another_space_is_diverged(served: Served) -> None:
    with client(served, served.fresh_key()) as one, client(served, served.fresh_key()) as other:
        foreign = one.set("a", 1)["cursor"]
        other.set("a", 1)
        gap = other.get("/changes", 409, since=foreign)
        assert gap["error"] == "diverged"
        assert other.get("/changes", since=gap["cursor"])["changes"] == []
