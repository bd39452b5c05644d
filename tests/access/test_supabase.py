"""API keys from Supabase, through its real client."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from memx_server.app import create_app
from memx_server.auth.supabase import SupabaseKeys
from memx_server.auth.supabase_table import KeyTable
from memx_server.settings import Settings, SupabaseSettings
from memx_server.storage.sqlite import SqliteStore
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from memx_sdk import AsyncMemxContext, ForbiddenError, MemxError
from memx_sdk.protocol.errors import ProtocolError
from tests.access.postgrest import SERVICE_KEY, Project, supabase_project
from tests.support.memx_server import running_app

USER = "12345678-aaaa-bbbb-cccc-123456789abc"


def hashed(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.fixture
def project() -> Iterator[Project]:
    with supabase_project() as project:
        yield project


@pytest.fixture
async def table(project: Project) -> AsyncIterator[KeyTable]:
    table = KeyTable(project.url, SERVICE_KEY, timeout=1.0)
    yield table
    await table.close()


async def refusal(keys: SupabaseKeys, key: str) -> str:
    with pytest.raises(ProtocolError) as refused:
        await keys.authenticate(key)
    return refused.value.code


async def test_a_row_says_who_and_what(project: Project, table: KeyTable) -> None:
    scopes = {"read": ["plan:*"], "write": ["plan:a"], "admin": []}
    project.add(hashed("good"), scopes=scopes, user_id=USER, agent="critic")
    principal = await SupabaseKeys(table).authenticate("good")
    assert (principal.name, principal.space) == ("critic", USER)
    assert principal.may("read", "plan:b")
    assert not principal.may("write", "plan:b")
    assert not principal.may("admin", "plan:a")


async def test_without_a_user_the_space_is_the_default_one(
    project: Project, table: KeyTable
) -> None:
    project.add(hashed("good"))
    principal = await SupabaseKeys(table).authenticate("good")
    assert principal.space == "default"
    assert principal.name == f"key-{hashlib.sha256(b'good').hexdigest()[:8]}"
    assert principal.may("admin", "x")  # where no admin is given, write stands for it


async def test_the_older_dashboards_prefix_is_taken_off_once(
    project: Project, table: KeyTable
) -> None:
    patterns = ["12345678:goal", "12345678:12345678:twice", "other:12345678:kept"]
    project.add(hashed("old"), scopes={"read": patterns, "write": []}, user_id=USER)
    principal = await SupabaseKeys(table).authenticate("old")
    assert principal.scopes.read.patterns == ("goal", "12345678:twice", "other:12345678:kept")


async def test_inactive_expired_malformed_and_unknown_keys_open_nothing(
    project: Project, table: KeyTable
) -> None:
    project.add(hashed("inactive"), active=False)
    project.add(hashed("expired"), expires_at="2020-01-01T00:00:00+00:00")
    project.add(hashed("malformed"), scopes={"read": "everything"})
    project.add(hashed("bad pattern"), scopes={"read": ["[a"]})
    project.add(hashed("no scopes"), scopes=None)
    keys = SupabaseKeys(table)
    for key in (
        "inactive",
        "expired",
        "malformed",
        "bad pattern",
        "unknown",
        "or=(active.eq.true)",
    ):
        assert await refusal(keys, key) == "forbidden"
    assert not (await keys.authenticate("no scopes")).may("read", "x")


async def test_plain_keys_only_where_the_setting_allows_them(
    project: Project, table: KeyTable
) -> None:
    project.add("plain-key")
    assert await refusal(SupabaseKeys(table), "plain-key") == "forbidden"
    assert all("plain-key" not in query for query in project.requests)
    project.requests.clear()
    older = SupabaseKeys(table, plain_keys=True)
    await older.authenticate("plain-key")
    assert "sha256%3A" in project.requests[0]
    assert await older.current(hashlib.sha256(b"plain-key").hexdigest()) is not None
    # The text of a hash is no key: who reads the table must not get in with what it shows.
    project.add(hashed("good"))
    assert await refusal(older, hashed("good")) == "forbidden"


async def test_each_key_is_asked_for_once_in_a_while(project: Project, table: KeyTable) -> None:
    project.add(hashed("good"))
    keys = SupabaseKeys(table, cache_seconds=60)
    first = await asyncio.gather(*(keys.authenticate("good") for _ in range(20)))
    assert len(project.requests) == 1
    assert all(principal is first[0] for principal in first)
    for _ in range(5):
        assert await refusal(keys, "unknown") == "forbidden"
    assert len(project.requests) == 2


async def test_the_same_principal_while_its_row_is_the_same(
    project: Project, table: KeyTable
) -> None:
    project.add(hashed("good"))
    keys = SupabaseKeys(table, cache_seconds=0.01)
    before = await keys.authenticate("good")
    await asyncio.sleep(0.02)
    assert await keys.authenticate("good") is before
    project.update(hashed("good"), scopes={"read": ["a"], "write": []})
    await asyncio.sleep(0.02)
    assert (await keys.authenticate("good")).scopes.read.patterns == ("a",)


@pytest.mark.parametrize("failure", [401, 500, 503, "hang", "garbage"])
async def test_an_outage_spares_known_keys_for_a_while_and_turns_others_away(
    project: Project, table: KeyTable, failure: int | str
) -> None:
    project.add(hashed("good"))
    project.add(hashed("late"))
    keys = SupabaseKeys(table, cache_seconds=0.05, grace_seconds=2.5)
    await keys.authenticate("good")
    project.failure = failure
    await asyncio.sleep(0.06)
    await keys.authenticate("good")
    assert await refusal(keys, "late") == "unavailable"
    await asyncio.sleep(2.6)
    assert await refusal(keys, "good") == "unavailable"
    project.failure = None
    await keys.authenticate("late")
    await keys.authenticate("good")


async def test_a_project_that_is_not_there_is_an_outage() -> None:
    keys = SupabaseKeys(KeyTable("http://127.0.0.1:9", SERVICE_KEY, timeout=0.5))
    assert await refusal(keys, "any") == "unavailable"


async def test_no_key_is_in_a_log(
    project: Project, table: KeyTable, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    project.add("plain-secret-key")
    keys = SupabaseKeys(table, plain_keys=True, cache_seconds=0.01)
    await keys.authenticate("plain-secret-key")
    await asyncio.sleep(0.02)
    project.failure = 500
    await keys.authenticate("plain-secret-key")
    assert "plain-secret-key" not in caplog.text
    assert SERVICE_KEY not in caplog.text


def test_a_server_with_supabase_never_falls_back_to_the_file(
    project: Project, tmp_path: Path
) -> None:
    acl = tmp_path / "acl.json"
    acl.write_text('{"local_dev_key": ["*"]}')
    project.add(hashed("good"), scopes={"read": ["*"], "write": ["*"]})
    settings = Settings(acl_file=acl, supabase=SupabaseSettings(project.url, SERVICE_KEY))
    with running_app(create_app(settings, store=SqliteStore(tmp_path / "memx.db"))) as url:

        def status(key: str) -> int:
            return httpx.get(f"{url}/whoami", headers={"x-api-key": key}, timeout=20).status_code

        assert status("good") == 200
        assert status("local_dev_key") == 403
        project.failure = 500
        assert status("good") == 200
        assert status("new") == 503
        assert status("local_dev_key") in (403, 503)


async def test_a_revoked_key_loses_its_open_sockets_within_the_cache_time(
    project: Project, tmp_path: Path
) -> None:
    project.add(hashed("good"))
    supabase = SupabaseSettings(project.url, SERVICE_KEY, cache_seconds=0.6)
    settings = Settings(supabase=supabase)
    with running_app(create_app(settings, store=SqliteStore(tmp_path / "memx.db"))) as url:
        async with AsyncMemxContext("good", url) as memx:
            subscription = memx.subscribe("*")
            await subscription.ready(10)
            project.update(hashed("good"), active=False)
            revoked = time.monotonic()
            with pytest.raises((ForbiddenError, MemxError)):
                await subscription.next(10)
            assert time.monotonic() - revoked < 2.0


async def test_keys_that_are_revoked_together_lose_their_streams_together(
    project: Project, tmp_path: Path
) -> None:
    count = 100
    for number in range(count):
        project.add(hashed(f"key-{number}"))
    settings = Settings(supabase=SupabaseSettings(project.url, SERVICE_KEY, cache_seconds=1.0))
    with running_app(create_app(settings, store=SqliteStore(tmp_path / "memx.db"))) as url:
        async with AsyncExitStack() as contexts:
            subscriptions = []
            for number in range(count):
                memx = await contexts.enter_async_context(AsyncMemxContext(f"key-{number}", url))
                subscriptions.append(memx.subscribe("*"))
            await asyncio.gather(*(each.ready(30) for each in subscriptions))
            project.delay = 0.2
            revoked = time.monotonic()
            for number in range(count):
                project.update(hashed(f"key-{number}"), active=False)

            async def end(subscription: Any) -> float:
                with pytest.raises((ForbiddenError, MemxError)):
                    await subscription.next(30)
                return time.monotonic() - revoked

            ends = await asyncio.gather(*(end(each) for each in subscriptions))
    assert max(ends) < 8, "one look-up after the other takes 20 s"


async def test_a_slow_project_delays_no_known_key(project: Project, table: KeyTable) -> None:
    project.add(hashed("good"))
    keys = SupabaseKeys(table, cache_seconds=0.1)
    principal = await keys.authenticate("good")
    project.failure = "hang"
    slowest = 0.0
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        began = time.monotonic()
        assert await keys.authenticate("good") is principal
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.05)
    assert slowest < 0.9, "a request waited for a look-up that takes as long as its timeout"


async def test_known_keys_wait_for_a_slow_project_once_and_not_each(
    project: Project, table: KeyTable
) -> None:
    count = 20
    for number in range(count):
        project.add(hashed(f"key-{number}"))
    keys = SupabaseKeys(table, cache_seconds=0.05)
    for number in range(count):
        await keys.authenticate(f"key-{number}")
    project.failure = "hang"
    await asyncio.sleep(0.06)
    began = time.monotonic()
    for number in range(count):
        await keys.authenticate(f"key-{number}")
    assert time.monotonic() - began < 0.9


async def test_a_revoked_key_that_was_idle_is_refused_at_its_next_request(
    project: Project, table: KeyTable
) -> None:
    project.add(hashed("good"))
    keys = SupabaseKeys(table, cache_seconds=0.05)
    await keys.authenticate("good")
    project.update(hashed("good"), active=False)
    await asyncio.sleep(0.06)
    assert await refusal(keys, "good") == "forbidden"


async def test_a_key_in_use_is_looked_up_before_its_last_look_up_is_too_old(
    project: Project, table: KeyTable
) -> None:
    project.add(hashed("good"))
    keys = SupabaseKeys(table, cache_seconds=1.0)
    await keys.authenticate("good")
    project.delay = 0.2
    slowest = 0.0
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        began = time.monotonic()
        await keys.authenticate("good")
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.02)
    assert slowest < 0.15, "a request waited although the key was known and in use"
    assert len(project.requests) <= 6


async def test_an_outage_beyond_the_grace_ends_open_connections(
    project: Project, tmp_path: Path
) -> None:
    project.add(hashed("good"))
    supabase = SupabaseSettings(project.url, SERVICE_KEY, cache_seconds=0.2, grace_seconds=1.0)
    app = create_app(Settings(supabase=supabase), store=SqliteStore(tmp_path / "memx.db"))
    with (
        running_app(app) as url,
        connect(
            f"{url.replace('http', 'ws', 1)}/subscribe/*", additional_headers={"x-api-key": "good"}
        ) as socket,
    ):
        project.failure = 500
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await asyncio.to_thread(socket.recv, 10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


BAD_NAMES = [
    "a/b",
    "a\nb",
    "a\rb",
    "a\x00",
    "\x1b[2Jb",
    "\u202eb",
    "\u2028",
    " a",
    "a ",
    " ",
    "x" * 129,
]


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_name_that_could_pass_for_something_else_opens_nothing(
    project: Project, table: KeyTable, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    project.add(hashed("bad agent"), agent=name)
    project.add(hashed("bad user"), user_id=name)
    keys = SupabaseKeys(table)
    assert await refusal(keys, "bad agent") == "forbidden"
    if name != "a/b":  # a space may hold one
        assert await refusal(keys, "bad user") == "forbidden"
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert lines
    assert all("cannot be used" in line and line.isprintable() for line in lines)


def test_half_a_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="SUPABASE_SERVICE_KEY"):
        Settings.from_env({"SUPABASE_URL": "http://x"})
