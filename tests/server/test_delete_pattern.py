"""Deleting by pattern: in bounded steps, once, in the log, and only what the caller may read and write."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from memx_server.domain.access import Caller, Principal, Scopes
from memx_server.domain.evaluator import Evaluator
from memx_server.domain.memory.memory import Memory
from memx_server.domain.requests import DeleteRequest
from memx_server.domain.schema.cache import SchemaCache
from memx_server.evaluation.pool import EvaluationPool
from memx_server.settings import Settings
from memx_server.storage.base import Delete, Outcome, Put, StoreUnavailable, Transaction, Write
from memx_server.storage.sqlite import SqliteStore
from websockets.sync.client import connect

from tests.server.conftest import Api, client
from tests.support.memx_server import Served


def fill(api: Api, *keys: str) -> None:
    for start in range(0, len(keys), 128):
        operations = [{"op": "set", "key": key, "value": 1} for key in keys[start : start + 128]]
        api.post("/txn", {"then": operations})


def test_all_that_match_are_gone_and_nothing_else(api: Api) -> None:
    fill(api, "chat:1", "chat:2", "chat:2:3", "chats", "cat")

    answer = api.delete("/delete", pattern="chat:*", reason="over")

    assert (answer["deleted"], answer["next"], answer["pattern"]) == (3, None, "chat:*")
    assert api.get("/keys")["keys"] == ["cat", "chats"]
    # One change for each key, all of one transaction.
    changes = api.get("/changes", pattern="chat:*")["changes"][3:]
    assert [(each["action"], each["key"]) for each in changes] == [
        ("delete", "chat:1"),
        ("delete", "chat:2"),
        ("delete", "chat:2:3"),
    ]
    assert {(each["revision"], each["reason"]) for each in changes} == {
        (answer["revision"], "over")
    }
    # The answer's cursor stands behind them.
    assert api.get("/changes", since=answer["cursor"])["changes"] == []
    again = api.delete("/delete", pattern="chat:*")
    assert (again["deleted"], again["next"], again["cursor"]) == (0, None, answer["cursor"])


def test_a_step_is_bounded_and_its_cursor_goes_on(api: Api) -> None:
    names = [f"k:{number:04}" for number in range(501)]
    fill(api, *names, "other")

    steps = [api.delete("/delete", pattern="k:*")]
    while steps[-1]["next"] is not None:
        steps.append(api.delete("/delete", pattern="k:*", cursor=steps[-1]["next"]))
    assert [each["deleted"] for each in steps] == [250, 250, 1]
    assert api.get("/keys")["keys"] == ["other"]

    fill(api, *names[:5])
    short = api.delete("/delete", pattern="k:*", limit=2)
    assert short["deleted"] == 2
    assert api.get("/keys", pattern="k:*")["keys"] == names[2:5]
    # What comes behind the cursor later, but before the next step, is deleted too.
    fill(api, "k:zzz", names[0])
    last = api.delete("/delete", pattern="k:*", cursor=short["next"])
    assert (last["deleted"], api.get("/keys", pattern="k:*")["keys"]) == (4, names[:1])


def test_only_what_may_be_read_and_written_is_touched(served: Served) -> None:
    space: dict[str, Any] = {"space": "delete-scopes-" + served.fresh_key()}
    with client(served, served.keys.add(**space)) as owner:
        fill(owner, "a:read", "b:both", "c:write", "d:none", "e:both")
        limited = served.keys.add(**space, read=("a:*", "b:*", "e:*"), write=("b:*", "c:*", "e:*"))
        with client(served, limited) as api:
            step = api.delete("/delete", pattern="*", limit=1)
            assert step["deleted"] == 1
            assert api.delete("/delete", pattern="*", cursor=step["next"])["deleted"] == 1
            refused = api.delete("/delete", 403, pattern="c:write")
            assert (refused["error"], refused["verb"]) == ("forbidden", "read")
            assert api.delete("/delete", 403, pattern="a:read")["verb"] == "write"
        assert owner.get("/keys")["keys"] == ["a:read", "c:write", "d:none"]
        for grant, verb in (({"write": ()}, "write"), ({"read": (), "write": ("*",)}, "read")):
            with client(served, served.keys.add(**space, **grant)) as api:
                assert api.delete("/delete", 403, pattern="*")["verb"] == verb
        assert owner.get("/keys")["keys"] == ["a:read", "c:write", "d:none"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "key"),
        ({"key": "a", "pattern": "a*"}, "pattern"),
        ({"pattern": "a*", "if_revision": 3}, "if_revision"),
        ({"key": "a", "limit": 3}, "limit"),
        ({"key": "a", "cursor": "YQ"}, "cursor"),
        ({"pattern": "a*", "limit": 0}, "limit"),
        ({"pattern": "a*", "limit": 251}, "limit"),
        ({"pattern": "a*", "cursor": "!"}, "cursor"),
        ({"pattern": ""}, "pattern"),
        ({"pattern": "[a"}, "pattern"),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(
    api: Api, query: dict[str, Any], field: str
) -> None:
    fill(api, "a")
    assert api.delete("/delete", 400, **query)["field"] == field
    assert api.get("/keys")["keys"] == ["a"]


def test_a_step_that_is_sent_again_answers_as_the_first_time(api: Api) -> None:
    fill(api, "k:1", "k:2", "k:3")
    named: dict[str, Any] = {
        "headers": {"Idempotency-Key": "step-1"},
        "params": {"pattern": "k:*", "limit": "2"},
    }

    first = api.call("DELETE", "/delete", **named)
    assert api.call("DELETE", "/delete", **named) == first
    assert first["deleted"] == 2
    assert api.get("/keys")["keys"] == ["k:3"]
    # Also where the next one has removed the rest, so that nothing is left to find.
    api.delete("/delete", pattern="k:*", cursor=first["next"])
    assert api.call("DELETE", "/delete", **named) == first


def test_it_works_on_a_socket_between_other_writes(served: Served) -> None:
    key = served.fresh_key()
    url = served.url.replace("http", "ws", 1) + "/ws"
    frames: list[dict[str, Any]] = [
        *({"op": "set", "key": f"k:{number}", "value": number} for number in range(3)),
        {"op": "delete", "pattern": "k:*", "limit": 2},
        {"op": "set", "key": "k:0", "value": "anew"},
    ]
    with connect(url, additional_headers={"x-api-key": key}) as socket, client(served, key) as api:
        socket.recv(10)  # hello
        for number, frame in enumerate(frames):
            socket.send(json.dumps({"id": number, **frame}))
        answers = [json.loads(socket.recv(10)) for _ in frames]
        assert [each["ok"] for each in answers] == [True] * 5
        assert answers[3]["deleted"] == 2
        # The writes of a socket take effect in the order in which they were sent.
        assert api.get("/keys")["keys"] == ["k:0", "k:2"]
        assert api.get("/get", key="k:0")["value"] == "anew"


class Interfered(SqliteStore):
    """A store that somebody else writes to just before each of the next commits."""

    before: list[Write]

    async def commit(
        self, space: str, transactions: Sequence[Transaction]
    ) -> Sequence[Outcome | StoreUnavailable]:
        if self.before:
            await super().commit(space, [Transaction("other", [self.before.pop(0)])])
        return await super().commit(space, transactions)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Interfered]:
    store = Interfered(tmp_path / "memx.db")
    store.before = []
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def delete(store: Interfered) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Deletes all keys, in one step."""
    settings = Settings()
    pool = EvaluationPool(1.0)
    memory = Memory(store, SchemaCache(store), Evaluator(pool, settings.limits), settings)
    caller = Caller(Principal("tester", Scopes.of(["*"], ["*"])))

    async def delete_all() -> Any:
        return msgspec.json.decode(await memory.delete(caller, DeleteRequest(pattern="*")))

    yield delete_all
    await pool.close()


async def test_a_key_that_is_written_meanwhile_is_deleted_as_it_is_then(
    store: Interfered, delete: Callable[[], Awaitable[Any]]
) -> None:
    await store.commit("default", [Transaction("w", [Put("a", b"1"), Put("b", b"1")])])
    store.before = [Put("a", b"2"), Delete("b"), Put("a", b"3")]

    answer = await delete()

    assert answer["deleted"] == 1, "somebody else has deleted b"
    assert (await store.revisions("default")).revisions == []


async def test_a_key_that_is_written_all_the_time_holds_nobody_up(
    store: Interfered, delete: Callable[[], Awaitable[Any]]
) -> None:
    await store.commit("default", [Transaction("w", [Put("a", b"1"), Put("b", b"1")])])
    store.before = [Put("a", b"2") for _ in range(50)]

    assert (await delete())["deleted"] == 2
    assert len(store.before) > 40
