"""What an API key opens, by verb and pattern, on each path."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.server.conftest import client
from tests.support.memx_server import Served


@pytest.fixture
def space(served: Served) -> Space:
    """A space that several keys open, with something in it."""
    return Space(served)


class Space:
    def __init__(self, served: Served) -> None:
        self.served = served
        self.owner_key = served.fresh_key(agent="owner")
        self.name = served.keys.space_of(self.owner_key)
        with self.owner() as api:
            api.set("mine:a", "visible")
            api.set("secret:b", "hidden")
            api.post("/schema", {"key": "secret:*", "schema": {"type": "string"}})
            api.post("/schema", {"key": "mine:*", "schema": True})

    def owner(self) -> client:
        return client(self.served, self.owner_key)

    def key(self, **grant: Any) -> str:
        return self.served.keys.add(space=self.name, **grant)

    def with_scopes(self, **grant: Any) -> client:
        defaults: dict[str, Any] = {"read": (), "write": (), "admin": ()}
        return client(self.served, self.key(**{**defaults, **grant}))


def test_no_key_is_401_and_an_unknown_one_403(served: Served) -> None:
    for path in ("/get?key=a", "/whoami", "/keys"):
        answer = httpx.get(served.url + path)
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
        answer = httpx.get(served.url + path, headers={"x-api-key": "nonsense"})
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")


def test_a_bearer_token_is_an_api_key(served: Served) -> None:
    for value in (f"Bearer {served.api_key}", f"bearer  {served.api_key}"):
        answer = httpx.get(f"{served.url}/whoami", headers={"authorization": value})
        assert answer.json()["principal"] == "tester"
    answer = httpx.get(f"{served.url}/whoami", headers={"authorization": "Basic abc"})
    assert answer.status_code == 401


def test_an_expired_key_opens_nothing(served: Served) -> None:
    key = served.keys.add(expires_at=time.time() - 1)
    answer = httpx.get(f"{served.url}/whoami", headers={"x-api-key": key})
    assert answer.status_code == 403


def test_forbidden_is_the_same_whether_or_not_the_key_exists(space: Space) -> None:
    with space.with_scopes(read=("mine:*",), write=("mine:*",)) as api:
        calls: list[Callable[[str], Any]] = [
            lambda key: api.get("/get", 403, key=key),
            lambda key: api.get("/history", 403, key=key),
            lambda key: api.get("/schema", 403, key=key),
            lambda key: api.get("/changes", 403, pattern=key),
            lambda key: api.get("/keys", 403, pattern=key),
            lambda key: api.post("/set", {"key": key, "value": 1}, 403),
            lambda key: api.post("/validate", {"key": key, "value": 1}, 403),
            lambda key: api.delete("/delete", 403, key=key),
            lambda key: api.post("/update", {"key": key, "increment": 1}, 403),
            lambda key: api.post("/mget", {"keys": ["mine:a", key]}, 403),
            lambda key: api.post("/schema", {"key": key, "schema": True}, 403),
        ]
        for make in calls:
            there, not_there = make("secret:b"), make("secret:c")
            assert there["error"] == "forbidden"
            assert str(there).replace("secret:b", "?") == str(not_there).replace("secret:c", "?")


def test_lists_are_filtered_to_what_may_be_read(space: Space) -> None:
    with space.with_scopes(read=("mine:*",)) as api:
        assert api.get("/keys")["keys"] == ["mine:a"]
        assert [c["key"] for c in api.get("/changes")["changes"]] == ["mine:a"]
        assert [c["key"] for c in api.get("/changes", event="all")["changes"]] == [
            "mine:a",
            "mine:*",
        ]
        assert [each["key"] for each in api.get("/schemas")["schemas"]] == ["mine:*"]
        assert "secret" not in api.text("/keys", values=True)
    with space.with_scopes(read=("mine:*", "zzz")) as api:  # no prefix that all of these share
        assert api.get("/keys")["keys"] == ["mine:a"]
    with space.with_scopes(write=("*",), admin=("*",)) as api:
        assert api.get("/keys", 403)["error"] == "forbidden"
        assert api.get("/changes", 403)["error"] == "forbidden"
        assert api.get("/schemas")["schemas"] == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_list_passes_over_what_lies_between_several_scopes(space: Space, limit: int) -> None:
    keys = [f"{part}:{n}" for part in ("a", "b", "c", "d") for n in range(4)]
    with space.owner() as api:
        api.post("/txn", {"then": [{"op": "set", "key": key, "value": 1} for key in keys]})
    with space.with_scopes(read=("d:*", "b:*", "a:1", "none:*", "b:2*", "?:3")) as api:
        for values in (False, True):
            found: list[str] = []
            cursor: dict[str, str] = {}
            while True:
                page = api.get("/keys", limit=limit, values=values, **cursor)
                found += [e["key"] for e in page["entries"]] if values else page["keys"]
                if page["next"] is None:
                    break
                cursor = {"cursor": page["next"]}
            assert found == ["a:1", "a:3", *keys[4:8], "c:3", *keys[12:]]
    with space.with_scopes(read=("d:*", "b:*", "a:1")) as api:
        assert api.get("/keys")["keys"] == ["a:1", *keys[4:8], *keys[12:]]
        assert api.get("/keys", pattern="b:*")["keys"] == keys[4:8]
        assert api.get("/keys", pattern="c*")["keys"] == []
        first = api.get("/keys", limit=2)
        rest = api.get("/keys", cursor=first["next"])
        assert first["keys"] + rest["keys"] == ["a:1", *keys[4:8], *keys[12:]]


def test_a_reader_does_not_write_and_a_writer_not_read(space: Space) -> None:
    with space.with_scopes(read=("*",)) as api:
        api.get("/get", key="mine:a")
        api.post("/set", {"key": "mine:a", "value": 1}, 403)
        api.post("/txn", {"then": [{"op": "delete", "key": "mine:a"}]}, 403)
        api.post("/schema", {"key": "mine:a", "schema": True}, 403)
    with space.with_scopes(write=("*",)) as api:
        api.set("mine:a", 1)
        api.get("/get", 403, key="mine:a")


def test_a_drop_box_takes_sets_and_deletes_and_shows_nothing(space: Space) -> None:
    with space.owner() as api:
        api.set("mine:o", {"x": "classified"})
        api.set("mine:o", {"x": "classified"})
    with space.with_scopes(write=("*",)) as api:
        conflict = api.post("/set", {"key": "mine:o", "value": 1, "if_revision": 0}, 409)
        assert conflict.keys() == {"error", "detail", "key"}
        dropped = api.post("/set", {"key": "mine:note:1", "value": "found it", "if_revision": 0})
        assert "version" not in dropped  # it counts the writes of others
        assert "version" not in api.set("mine:o", 2)
        done = api.post("/txn", {"then": [{"op": "set", "key": "mine:o", "value": 3}]})
        assert "version" not in done["results"][0]
        assert api.delete("/delete", key="mine:note:1")["deleted"]
    with space.with_scopes(read=("*",), write=("*",)) as api:
        assert api.set("mine:o", 4)["version"] == 5


def test_what_depends_on_the_present_value_needs_read_and_write(space: Space) -> None:
    kinds: list[dict[str, Any]] = [
        {"merge": {"more": 1}},
        {"patch": []},
        {"increment": 1},
        {"append": [1]},
        {"touch": 60},
    ]
    compares: list[dict[str, Any]] = [
        {"exists": True},
        {"revision": 0},
        {"version": 1},
        {"value": 1},
    ]
    with space.owner() as api:
        api.set("mine:o", {"x": "classified"})
    for held, missing in (("write", "read"), ("read", "write")):
        with space.with_scopes(**{held: ("*",)}) as api:
            for kind in kinds:
                [(name, operand)] = kind.items()
                refused = api.post("/update", {"key": "mine:o", **kind}, 403)
                assert (refused["verb"], refused["key"]) == (missing, "mine:o")
                assert f"may not {missing}" in refused["detail"]
                operation = {"op": name, "key": "mine:o", name: operand}
                for branch in ("then", "else"):
                    refused = api.post("/txn", {branch: [operation]}, 403)
                    assert refused["verb"] == missing
            for compare in compares:
                assert (
                    api.post("/txn", {"if": [{"key": "mine:o", **compare}]}, 403)["verb"] == missing
                )
    with space.with_scopes(write=("*",)) as api:
        for branch in ("then", "else"):
            assert (
                api.post("/txn", {branch: [{"op": "get", "key": "mine:o"}]}, 403)["verb"] == "read"
            )


def test_a_pattern_schema_needs_a_scope_that_covers_the_pattern(space: Space) -> None:
    with space.with_scopes(admin=("mine:*", "a?c")) as api:
        for allowed in ("mine:*", "mine:x*", "mine:a", "a?c", "abc"):
            api.post("/schema", {"key": allowed, "schema": True})
        for beyond in ("*", "min*", "m?ne:*", "a*c", "secret:*"):
            api.post("/schema", {"key": beyond, "schema": True}, 403)
        api.delete("/schema", 403, key="secret:*")


def test_without_admin_write_stands_for_it(space: Space) -> None:
    with client(space.served, space.key(read=(), write=("mine:*",), admin=None)) as api:
        api.post("/schema", {"key": "mine:*", "schema": True})
        assert api.get("/whoami")["scopes"]["admin"] == ["mine:*"]


def test_spaces_do_not_see_each_other(served: Served) -> None:
    with client(served, served.fresh_key()) as one, client(served, served.fresh_key()) as other:
        one.set("a", "one's")
        one.post("/schema", {"key": "a", "schema": {"type": "string"}})
        other.set("a", 1)
        assert one.get("/get", key="a")["value"] == "one's"
        assert other.get("/schemas")["schemas"] == []
        assert len(other.get("/changes", event="all")["changes"]) == 1


def test_an_error_or_answer_never_shows_the_api_key(served: Served) -> None:
    with client(served, served.api_key) as api:
        for path in ("/get", "/whoami", "/nonsense", "/keys?limit=0"):
            answer = api.http.get(path)
            assert served.api_key not in answer.text + str(answer.headers)
    answer = httpx.get(f"{served.url}/whoami", headers={"x-api-key": "a-leaked-key"})
    assert "a-leaked-key" not in answer.text
