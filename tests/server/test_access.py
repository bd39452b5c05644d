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


def test_a_reader_does_not_write_and_a_writer_not_read(space: Space) -> None:
    with space.with_scopes(read=("*",)) as api:
        api.get("/get", key="mine:a")
        api.post("/set", {"key": "mine:a", "value": 1}, 403)
        api.post("/txn", {"then": [{"op": "delete", "key": "mine:a"}]}, 403)
        api.post("/schema", {"key": "mine:a", "schema": True}, 403)
    with space.with_scopes(write=("*",)) as api:
        api.set("mine:a", 1)
        api.get("/get", 403, key="mine:a")


def test_a_writer_without_read_never_sees_a_value(space: Space) -> None:
    with space.owner() as api:
        api.set("mine:n", 41)
        api.set("mine:o", {"x": "classified"})
    with space.with_scopes(write=("*",)) as api:
        conflict = api.post("/set", {"key": "mine:o", "value": 1, "if_revision": 0}, 409)
        assert "entry" not in conflict
        counted = api.post("/update", {"key": "mine:n", "increment": 1})
        assert "value" not in counted
        assert counted["version"] == 2
        merged = api.post("/update", {"key": "mine:o", "merge": {"y": 1}})
        touched = api.post("/update", {"key": "mine:o", "touch": 60})
        done = api.post("/txn", {"then": [{"op": "increment", "key": "mine:n", "increment": 1}]})
        assert "classified" not in str([merged, touched, done, conflict])
        assert "value" not in touched
        assert "value" not in done["results"][0]
        looking: list[dict[str, Any]] = [{"increment": 0, "maximum": 50}, {"patch": []}]
        for update in looking:
            assert api.post("/update", {"key": "mine:n", **update}, 403)["verb"] == "read"
            [(name, operation), *options] = update.items()
            then = [{"op": name, "key": "mine:n", name: operation, **dict(options)}]
            assert api.post("/txn", {"then": then}, 403)["verb"] == "read"
        refused = api.post("/update", {"key": "mine:o", "increment": 1}, 400)
        assert "classified" not in str(refused)
        for part in (
            {"if": [{"key": "mine:n", "exists": True}]},
            {"then": [{"op": "get", "key": "mine:n"}]},
            {"else": [{"op": "get", "key": "mine:n"}]},
        ):
            assert api.post("/txn", part, 403)["verb"] == "read"


def test_what_a_schema_says_of_a_computed_value_is_kept_from_a_blind_writer(space: Space) -> None:
    with space.owner() as api:
        api.set("mine:s", {"secret": "classified", "n": 1})
        api.post("/schema", {"key": "mine:s", "schema": {"maxProperties": 2}})
    with space.with_scopes(write=("*",)) as api:
        merge = {"key": "mine:s", "merge": {"more": 1}}
        for path, body in (("/update", merge), ("/txn", {"then": [{"op": "merge", **merge}]})):
            refused = api.post(path, body, 400)
            assert refused["error"] == "schema_violation"
            assert "classified" not in str(refused)


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
