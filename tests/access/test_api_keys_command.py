"""``memx api-keys create|list|revoke``, for the file and for Supabase."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from memx_server.auth import acl_file
from memx_server.auth.acl_file import AclFile
from memx_server.auth.supabase import SupabaseKeys
from memx_server.auth.supabase_table import KeyTable
from memx_server.domain.access import Principal
from typer.testing import CliRunner

from memx_sdk.cli.app import build
from memx_sdk.protocol.errors import ProtocolError
from tests.access.postgrest import SERVICE_KEY, Project, supabase_project

USER = "12345678-aaaa-bbbb-cccc-123456789abc"
Result = Any  # of click, or of the copy that Typer brings
Run = Callable[..., Result]


@pytest.fixture
def acl(tmp_path: Path) -> Path:
    return tmp_path / "acl.json"


@pytest.fixture
def memx(acl: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MEMX_ACL_FILE", str(acl))
    app = build()
    return lambda *arguments, **options: CliRunner().invoke(
        app, ["api-keys", *arguments], **options
    )


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with supabase_project() as project:
        monkeypatch.setenv("SUPABASE_URL", project.url)
        monkeypatch.setenv("SUPABASE_SERVICE_KEY", SERVICE_KEY)
        yield project


def made(result: Result) -> str:
    assert result.exit_code == 0, result.output
    (key,) = result.stdout.splitlines()
    return str(key)


def failed(result: Result, why: str, code: int = 1) -> None:
    assert (result.exit_code, why in result.stderr) == (code, True), result.output


async def opened(acl: Path, key: str) -> Principal:
    return await AclFile(acl).authenticate(key)


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def test_a_key_is_shown_once_and_opens_what_was_asked(memx: Run, acl: Path) -> None:
    options = ("--agent", "ann", "--space", "lab", "--read", "plan:*", "--read", "goal")
    result = memx("create", *options, "--write", "plan:ann", "--admin", "x", "--expires", "2h")
    key = made(result)
    principal = await opened(acl, key)
    assert (principal.name, principal.space) == ("ann", "lab")
    assert principal.scopes.read.patterns == ("plan:*", "goal")
    assert principal.scopes.write.patterns == ("plan:ann",)
    assert principal.scopes.admin.patterns == ("x",)
    left = (principal.expires_at or 0) - datetime.now(UTC).timestamp()
    assert 7100 < left <= 7200
    assert made(memx("create", "--read", "*")) != key


def test_the_file_holds_the_hash_alone_and_is_nobody_elses(memx: Run, acl: Path) -> None:
    key = made(memx("create", "--read", "*"))
    assert key not in acl.read_text()
    assert list(json.loads(acl.read_text())) == [f"sha256:{digest(key)}"]
    assert stat.S_IMODE(acl.stat().st_mode) == 0o600


async def test_write_stands_for_admin_unless_told_otherwise(memx: Run, acl: Path) -> None:
    plain, none = (made(memx("create", "--write", "a", *more)) for more in ([], ["--no-admin"]))
    assert (await opened(acl, plain)).may("admin", "a")
    assert not (await opened(acl, none)).may("admin", "a")


def test_what_else_stands_in_the_file_is_kept(memx: Run, acl: Path) -> None:
    others = {
        "plain-key": ["a:*"],
        "sha256:" + "0" * 64: {"agent": "bob", "read": ["*"], "expires_at": 4102444800.5},
    }
    acl.write_text(json.dumps(others))
    acl.chmod(0o640)
    key = made(memx("create", "--read", "b"))
    entries = json.loads(acl.read_text())
    assert list(entries) == [*others, f"sha256:{digest(key)}"]
    assert {name: entries[name] for name in others} == others
    assert stat.S_IMODE(acl.stat().st_mode) == 0o640
    # Nothing but the lock is left behind: taking it away could take it from its next holder.
    assert {each.name for each in acl.parent.iterdir()} == {"acl.json", "acl.json.lock"}


def test_a_list_shows_no_key(memx: Run, acl: Path) -> None:
    acl.write_text(json.dumps({"plain-key": ["a:*"], "old": {"read": ["*"], "expires_at": 1.0}}))
    key = made(memx("create", "--agent", "ann", "--write", "b"))
    for result in (memx("list"), memx("list", "--json")):
        assert result.exit_code == 0
        for secret in ("plain-key", key, digest(key), digest("plain-key")):
            assert secret not in result.output
    rows = [json.loads(line) for line in memx("list", "--json").stdout.splitlines()]
    assert [row["label"] for row in rows] == [
        f"key-{digest(each)[:8]}" for each in ("plain-key", "old", key)
    ]
    assert [row["state"] for row in rows] == ["active", "expired", "active"]
    assert (rows[2]["agent"], rows[2]["write"], rows[2]["admin"]) == ("ann", ["b"], ["b"])


@pytest.mark.parametrize("by", ["label", "agent", "key"])
async def test_a_revoked_key_opens_nothing_and_others_stay(memx: Run, acl: Path, by: str) -> None:
    key, other = (made(memx("create", "--agent", name, "--read", "*")) for name in ("ann", "bob"))
    names = {"label": f"key-{digest(key)[:8]}", "agent": "ann", "key": "-"}
    result = memx("revoke", names[by], input=f"{key}\n")
    assert result.exit_code == 0, result.output
    assert key not in result.output
    with pytest.raises(ProtocolError, match="forbidden"):
        await opened(acl, key)
    await opened(acl, other)
    failed(memx("revoke", names[by], input=f"{key}\n"), "there is no active API key", 3)


def test_a_name_of_several_is_not_guessed(memx: Run, acl: Path) -> None:
    for _ in range(2):
        made(memx("create", "--agent", "ann", "--read", "*"))
    before = acl.read_text()
    failed(memx("revoke", "ann"), "names 2 API keys")
    assert acl.read_text() == before


def test_no_key_is_lost_to_another_process_that_makes_some_at_the_same_time(acl: Path) -> None:
    count = 25
    makers = [_start(acl, count, agent) for agent in ("ann", "bob")]
    try:
        for maker in makers:
            assert maker.stdout is not None
            assert maker.stdout.readline() == "ready\n"
        for maker in makers:
            maker.stdin.write("go\n")  # type: ignore[union-attr]  # it is a pipe
            maker.stdin.flush()  # type: ignore[union-attr]  # it is a pipe
        written = [maker.communicate(timeout=60)[0].split() for maker in makers]
    finally:
        for maker in makers:
            maker.kill()
            maker.wait()

    made_keys = {f"sha256:{digest(key)}" for keys in written for key in keys}
    assert len(made_keys) == 2 * count
    assert set(json.loads(acl.read_text())) == made_keys


_MAKER = """
import sys
from typer.testing import CliRunner
from memx_sdk.cli.app import build
count, agent = int(sys.argv[1]), sys.argv[2]
app, runner = build(), CliRunner()
print("ready", flush=True)
sys.stdin.readline()
for _ in range(count):
    result = runner.invoke(app, ["api-keys", "create", "--agent", agent, "--read", "*"])
    assert result.exit_code == 0, result.output
    print(result.stdout.strip(), flush=True)
"""


def _start(acl: Path, count: int, agent: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MEMX_ACL_FILE": str(acl)}
    return subprocess.Popen(
        [sys.executable, "-c", _MAKER, str(count), agent],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_file_that_another_process_keeps_to_itself_is_left_alone(
    memx: Run, acl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acl_file, "_LOCK_DEADLINE", 0.1)
    with FileLock(f"{acl}.lock"):
        failed(memx("create", "--read", "a"), "another process")
    assert not acl.exists()
    made(memx("create", "--read", "a"))


def test_nonsense_is_refused_and_changes_nothing(memx: Run, acl: Path) -> None:
    failed(memx("create"), "it would open nothing")
    failed(memx("create", "--read", "[a"), "unbalanced")
    failed(memx("create", "--read", "a", "--expires", "soon"), "neither a duration")
    failed(memx("create", "--read", "a", "--expires", "2001-01-01"), "lies in the past")
    failed(memx("create", "--read", "a", "--agent", "x" * 200), "printable")
    assert not acl.exists()
    acl.write_text('{"my-secret": 5}')
    result = memx("create", "--read", "a")
    assert result.exit_code == 1
    assert "my-secret" not in result.output
    assert acl.read_text() == '{"my-secret": 5}'


async def test_supabase(memx: Run, project: Project) -> None:
    expires = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    options = ("--agent", "ann", "--space", USER, "--read", "plan:*", "--expires", expires)
    key = made(await _in_thread(memx, "create", "--supabase", *options))
    table = KeyTable(project.url, SERVICE_KEY)
    principal = await SupabaseKeys(table).authenticate(key)
    assert (principal.name, principal.space) == ("ann", USER)
    assert principal.scopes.read.patterns == ("plan:*",)
    assert principal.expires_at is not None
    assert key not in json.dumps(project.rows())

    listed = await _in_thread(memx, "list", "--supabase", "--json")
    row = json.loads(listed.stdout)
    assert (row["label"], row["state"]) == (f"key-{digest(key)[:8]}", "active")
    revoked = await _in_thread(memx, "revoke", "--supabase", row["label"])
    assert revoked.exit_code == 0, revoked.output
    with pytest.raises(ProtocolError, match="forbidden"):
        await SupabaseKeys(table).authenticate(key)
    listed = await _in_thread(memx, "list", "--supabase", "--json")
    assert json.loads(listed.stdout)["state"] == "revoked"
    assert not any(key in query for query in project.requests)
    await table.close()


@pytest.mark.parametrize("has_ids", [True, False])
async def test_a_row_in_plain_text_is_revoked_without_naming_its_key(
    memx: Run, project: Project, has_ids: bool
) -> None:
    project.has_ids = has_ids
    project.add("plain-key", agent="ann")
    project.add("other-key", agent="bob")

    revoked = await _in_thread(memx, "revoke", "--supabase", "ann")

    assert revoked.exit_code == 0, revoked.output
    states = {row["key"]: row["active"] for row in project.rows()}
    assert states == {"plain-key": False, "other-key": True}
    # A table without ids leaves no other name; what is told then is void.
    assert any("plain-key" in query for query in project.requests) is not has_ids


async def test_a_project_that_gives_few_rows_at_once_has_all_listed(
    memx: Run, project: Project
) -> None:
    project.max_rows = 2
    for number in range(5):
        project.add(f"key-number-{number}", agent=f"agent-{number}")

    listed = await _in_thread(memx, "list", "--supabase", "--json")

    agents = [json.loads(line)["agent"] for line in listed.stdout.splitlines()]
    assert sorted(agents) == [f"agent-{number}" for number in range(5)]


async def _in_thread(memx: Run, *arguments: str) -> Result:
    return await asyncio.to_thread(memx, *arguments)


def test_supabase_that_is_away_or_not_set(
    memx: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.failure = 500
    failed(memx("create", "--supabase", "--read", "a"), "Supabase", 7)
    failed(memx("create", "--supabase", "--read", "a", "--space", "lab"), "no user's id")
    monkeypatch.delenv("SUPABASE_URL")
    failed(memx("list", "--supabase"), "SUPABASE_URL")
