"""``memx schema list|delete --store``: what an operator can do about a schema when no server answers."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memx_sdk import SchemaViolationError, memxContext
from tests.cli.conftest import Memx, dev_server
from tests.cli.test_serving import serving
from tests.support.redis_server import RedisServer, free_port, newest_redis

KEY = "local_dev_key"
Served = tuple[str, subprocess.Popen[str]]


@dataclass(frozen=True)
class Stored:
    """A store that holds two schemas, ``task:*`` and ``goal``.

    Attributes:
        name: As ``--store`` takes it.
        serve: Runs a server on it.
    """

    name: str
    serve: Callable[..., AbstractContextManager[Served]]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer(newest_redis()) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def stored(request: pytest.FixtureRequest, memx: Memx) -> Stored:
    if request.param == "sqlite":

        @contextmanager
        def serve(acl: dict[str, Any] | None = None) -> Iterator[Served]:
            (memx.folder / "acl.json").write_text(json.dumps(acl or {KEY: ["*"]}))
            with dev_server(memx, "--acl", str(memx.folder / "acl.json")) as server:
                yield server.url, server.process

        made = Stored(str(memx.folder / "data"), serve)
    else:
        redis: RedisServer = request.getfixturevalue("redis")
        made = Stored(redis.url, lambda acl=None: serving(memx, redis.url, acl=acl))
    with made.serve() as (url, _), memxContext(KEY, url) as memory:
        memory.set_schema("task:*", {"type": "object"})
        memory.set_schema("goal", {"type": "string"})
    return made


def test_they_are_listed_and_removed_without_a_server(memx: Memx, stored: Stored) -> None:
    listed = memx("schema", "list", "--store", stored.name)
    assert (listed.code, listed.err) == (0, "")
    assert listed.out.splitlines() == ['goal\t{"type":"string"}', 'task:*\t{"type":"object"}']

    removed = memx("schema", "delete", "task:*", "--store", stored.name)
    assert removed.code == 0, removed.err
    assert [
        each["key"] for each in memx("schema", "list", "--store", stored.name, "--json").documents
    ] == ["goal"]

    with stored.serve() as (url, _), memxContext(KEY, url) as memory:
        assert memory.set("task:1", "no object").updated
        with pytest.raises(SchemaViolationError):
            memory.set("goal", 1)
        (change, *_) = memory.changes(event="schema").changes[::-1]
        assert (change.key, change.writer) == ("task:*", "operator")


def test_all_spaces_are_searched_where_it_is_asked_for(memx: Memx, stored: Stored) -> None:
    acl: dict[str, Any] = {
        KEY: ["*"],
        "tenant-key": {"agent": "tenant", "space": "tenant", "read": ["*"], "write": ["*"]},
    }
    with stored.serve(acl) as (url, _), memxContext("tenant-key", url) as memory:
        memory.set_schema("task:*", {"type": "number"})
        memory.set_schema("own", {"type": "number"})
        memory.delete_schema("own")

    everywhere = ("--store", stored.name, "--all-spaces")
    assert memx("schema", "list", *everywhere).out.splitlines() == [
        'default\tgoal\t{"type":"string"}',
        'default\ttask:*\t{"type":"object"}',
        'tenant\ttask:*\t{"type":"number"}',
    ]
    assert memx("schema", "delete", "own", *everywhere).code == 3
    removed = memx("schema", "delete", "task:*", *everywhere, "--json")
    assert removed.code == 0, removed.err
    assert [each["space"] for each in removed.documents] == ["default", "tenant"]
    left = memx("schema", "list", *everywhere, "--json").documents
    assert [(each["space"], each["key"]) for each in left] == [("default", "goal")]


def test_what_is_not_there_is_told(memx: Memx, stored: Stored) -> None:
    for more in ((), ("--space", "another")):
        missing = memx("schema", "delete", "nothing:*", "--store", stored.name, *more)
        assert missing.code == 3
        assert "nothing:*" in missing.err
    another = memx("schema", "list", "--store", stored.name, "--space", "another", "--json")
    assert (another.code, another.out) == (0, "")


def test_a_database_in_use_names_its_server(memx: Memx) -> None:
    with dev_server(memx) as server:
        for command in (("list",), ("delete", "task:*")):
            refused = memx("schema", *command, "--store", str(memx.folder / "data"))
            assert refused.code == 7
            assert f"process {server.process.pid} (it answers at {server.url})" in refused.err


def test_on_redis_a_schema_goes_while_a_server_is_stuck(memx: Memx, redis: RedisServer) -> None:
    with serving(memx, redis.url) as (url, process), memxContext(KEY, url) as memory:
        memory.set_schema("task:*", {"type": "object"})
        with pytest.raises(SchemaViolationError):
            memory.set("task:1", "no object")  # the server knows the schema now
        process.send_signal(signal.SIGSTOP)
        try:
            removed = memx("schema", "delete", "task:*", "--store", redis.url)
        finally:
            process.send_signal(signal.SIGCONT)
        assert removed.code == 0, removed.err
        assert memory.set("task:1", "no object").updated


def test_no_database_is_made_where_there_is_none(memx: Memx, tmp_path: Path) -> None:
    for name in ("nowhere", "sqlite:nowhere.db", "embedded:nowhere", "."):
        refused = memx("schema", "list", "--store", name)
        assert refused.code == 1
        assert "no database of memX" in refused.err
    assert not list(tmp_path.rglob("*.db"))


def test_a_store_that_is_away_is_one_line(memx: Memx) -> None:
    away = memx("schema", "list", "--store", f"redis://127.0.0.1:{free_port()}/0")
    assert away.code == 7
    assert "cannot be reached" in away.err
    unknown = memx("schema", "list", "--store", "mysql://host")
    assert (unknown.code, "Traceback" in unknown.err) == (1, False)
