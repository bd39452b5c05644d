"""Stores that a former version of memX wrote open with everything in them; those of a newer one are refused."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from autogen_memx import MemxConnection as AutogenConnection
from autogen_memx import MemxMemory, MemxSharedState, MemxTeamState
from langchain_memx import (
    MemxByteStore,
    MemxChatMessageHistory,
    MemxConnection,
    MemxSaver,
    MemxStore,
)
from memx_server.app import create_app
from memx_server.settings import Settings
from memx_server.storage.base import Put, Store, StoreUnavailable, Transaction
from memx_server.storage.errors import CannotOpen
from memx_server.storage.redis import RedisStore
from memx_server.storage.redis.format import FORMAT
from memx_server.storage.sqlite import SqliteStore
from memx_server.storage.sqlite.database import LAYOUT
from pydantic import BaseModel

from memx_sdk import AsyncMemxContext, SchemaViolationError
from tests.storage.helpers import SPACE
from tests.support.memx_server import Served, serve_store
from tests.support.redis_server import RedisServer, newest_redis

FORMER = sorted(
    path.parent for path in Path(__file__).parent.parent.glob("fixtures/*/expected.json")
)


@pytest.fixture(params=FORMER, ids=lambda folder: folder.name)
def former(request: pytest.FixtureRequest) -> Path:
    """The folder of a former version's stores."""
    folder: Path = request.param
    return folder


def unpack(packed: Path, target: Path) -> None:
    target.write_bytes(gzip.decompress(packed.read_bytes()))


@pytest.fixture
def old_redis(former: Path) -> Iterator[RedisServer]:
    """A Redis that has loaded the dump."""
    server = RedisServer(newest_redis())
    unpack(former / "dump.rdb.gz", server.directory / "dump.rdb")
    with server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def old(
    request: pytest.FixtureRequest, former: Path, tmp_path: Path
) -> Iterator[tuple[Served, dict[str, Any]]]:
    """A server of this version on a former one's store, and what must be found there."""
    expected = json.loads((former / "expected.json").read_text())[request.param]
    store: Store
    if request.param == "redis":
        store = RedisStore(request.getfixturevalue("old_redis").url)
    else:
        unpack(former / "memx.db.gz", tmp_path / "memx.db")
        store = SqliteStore(tmp_path / "memx.db")
    with serve_store(store) as served:
        yield served, expected


async def test_entries_history_changes_and_schemas_are_all_there(
    old: tuple[Served, dict[str, Any]],
) -> None:
    served, expected = old
    async with AsyncMemxContext(served.api_key, served.url) as memx:
        entries = {
            entry.key: [entry.value, entry.revision, entry.version, entry.writer]
            for entry in await memx.entries("core:*")
        }
        assert entries == expected["entries"]
        lives_on = await memx.get("core:lives on")
        assert lives_on is not None
        assert lives_on.expires_at is not None
        page = await memx.changes("core:*", since=expected["half_way"])
        assert [[each.key, each.action, each.revision] for each in page.changes] == expected[
            "changes"
        ]
        history = await memx.history("core:count")
        assert [[each.value, each.revision] for each in history] == expected["history"]
        with pytest.raises(SchemaViolationError):
            await memx.set("core:typed:2", {})


async def test_it_goes_on_from_there(old: tuple[Served, dict[str, Any]]) -> None:
    served, expected = old
    async with AsyncMemxContext(served.api_key, served.url) as memx:
        count = await memx.increment("core:count")

        assert (count.value, count.version) == (6, 6)
        assert count.revision > max(revision for _, revision, _, _ in expected["entries"].values())
        page = await memx.changes("core:*", since=expected["half_way"])
        assert [each.revision for each in page.changes][-1] == count.revision
        assert len(page.changes) == len(expected["changes"]) + 1
        await memx.set_schema("core:typed:*", {"type": "object"})
        await memx.set("core:typed:2", {})


def test_records_of_langchain_and_langgraph_are_all_there(
    old: tuple[Served, dict[str, Any]],
) -> None:
    served, _ = old
    connection = MemxConnection(served.api_key, served.url)
    thread: Any = {"configurable": {"thread_id": "a thread/*"}}
    # The prefixes of that time; programs' records have moved under memx: since.
    saved = MemxSaver(connection, prefix="graph").get_tuple(thread)
    assert saved is not None
    assert saved.checkpoint["channel_values"]["steps"] == ["begun", "first"]
    item = MemxStore(connection, prefix="store").get(("users", "ann"), "prefs")
    assert item is not None
    assert item.value == {"theme": "dark", "deep": {"l": [1]}}
    messages = MemxChatMessageHistory("a session", connection, prefix="chat").messages
    assert [message.content for message in messages] == ["What?", "That."]
    assert MemxByteStore(connection, prefix="bytes").mget(["a name"]) == [b"\x00\xff"]
    connection.close()


class Board(BaseModel):
    """A team's state, as it was written."""

    todo: list[str] = []
    count: int = 0


class Team:
    """Takes up a state."""

    state: Any = None

    async def save_state(self) -> dict[str, Any]:
        raise NotImplementedError

    async def load_state(self, state: Any) -> None:
        self.state = state


async def move_team_state(memx: AsyncMemxContext, name: str) -> None:
    """Move a team's state to where it is looked for now, as the changelog says: it has no prefix to choose."""
    head = await memx.get(name)
    assert head is not None
    for part in head.value["parts"]:
        text = await memx.get(part)
        assert text is not None
        await memx.set(f"memx:team:{part}", text.value)
    await memx.set(f"memx:team:{name}", {"parts": [f"memx:team:{p}" for p in head.value["parts"]]})


async def test_records_of_autogen_are_all_there(old: tuple[Served, dict[str, Any]]) -> None:
    served, _ = old
    async with AsyncMemxContext(served.api_key, served.url) as memx:
        connection, team = AutogenConnection(context=memx), Team()
        found = (await MemxMemory(["core:plain"], connection).query("when is tea")).results
        assert [item.content for item in found] == ["Tea is at four."]
        assert await MemxSharedState(Board, "board", connection).read() == Board(
            todo=["bake"], count=1
        )
        await move_team_state(memx, "team")
        await MemxTeamState("team", connection).load(team)
        assert team.state["agents"] == {"a": {"turns": 3}}


async def test_sqlite_refuses_a_newer_file_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "memx.db"
    store = SqliteStore(path)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (LAYOUT,)
        file.execute(f"PRAGMA user_version={LAYOUT + 1}")

    with pytest.raises(CannotOpen, match=f"format {LAYOUT + 1}.*pip install --upgrade"):
        await SqliteStore(path).open()


async def test_redis_refuses_a_newer_format_with_what_to_do(redis_any: RedisServer) -> None:
    store = RedisStore(redis_any.url, prefix="newer")
    await store.open()
    await store.close()
    with redis.Redis.from_url(redis_any.url) as client:
        assert client.get("newer:format") == b"%d" % FORMAT
        client.set("newer:format", FORMAT + 1)

    store = RedisStore(redis_any.url, prefix="newer")
    with pytest.raises(CannotOpen, match=f"format {FORMAT + 1}.*pip install --upgrade"):
        await store.open()
    await store.close()
    app = create_app(Settings(), store=RedisStore(redis_any.url, prefix="newer"))
    with pytest.raises(CannotOpen):
        async with app.running():
            raise AssertionError("the server has started")


async def test_a_running_server_stops_writing_to_a_space_that_a_newer_one_writes_to(
    redis_any: RedisServer,
) -> None:
    store = RedisStore(redis_any.url, prefix="overtaken")
    await store.open()
    write = Transaction("w", [Put("k", b"1")])
    await store.commit(SPACE, [write])
    with redis.Redis.from_url(redis_any.url) as client:
        (meta,) = client.keys("overtaken:*:meta")
        assert client.hget(meta, "format") == b"%d" % FORMAT
        client.hset(meta, "format", FORMAT + 1)

        (outcome,) = await store.commit(SPACE, [write])

        assert isinstance(outcome, StoreUnavailable)
        assert "newer memX" in str(outcome.args)
    await store.close()
