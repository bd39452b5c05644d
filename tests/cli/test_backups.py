"""``memx backup``, ``restore`` and ``migrate``."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import redis
from memx_server.cli import backups
from typer.testing import CliRunner

from memx_sdk.cli.app import build
from tests.cli.conftest import DevServer, Memx, Result, Run, dev_server
from tests.support.redis_server import RedisServer

ANN = "0a1b2c3d-aaaa-bbbb-cccc-123456789abc"
BEN = "deadbeef-aaaa-bbbb-cccc-123456789abc"
BEA = "deadbeef-aaaa-bbbb-cccc-123456789abd"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process, without a server."""
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_KEY", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, stdin: str = "") -> Result:
        ended = CliRunner().invoke(build(), arguments, input=stdin)
        return Result(ended.exit_code, ended.stdout, ended.stderr)

    return run


def test_a_backup_of_a_running_server_is_put_back(memx: Memx, bare: Run, tmp_path: Path) -> None:
    backup, data = tmp_path / "copy.db", str(tmp_path / "data")
    with dev_server(memx) as server:
        online = Memx(
            {**memx.environ, "MEMX_BASE_URL": server.url, "MEMX_API_KEY": "local_dev_key"},
            memx.folder,
        )
        online("set", "k", '"before"')
        assert bare("backup", str(backup), "--data", data).code == 0
        assert backup.stat().st_mode & 0o777 == 0o600
        online("set", "k", '"after"')
        in_use = bare("restore", str(backup), "--data", data)
        assert in_use.code == 1
        assert "in use by" in in_use.err
        assert bare("backup", str(backup), "--data", data).code == 1  # it is there already

    restored = bare("restore", str(backup), "--data", data)
    assert restored.code == 0, restored.err
    (aside,) = Path(data).glob("memx.db.before-*Z")
    url = f"embedded:{data}"
    assert memx("get", "k", "--url", url).out == '"before"\n'
    aside.rename(Path(data) / "memx.db")
    assert memx("get", "k", "--url", url).out == '"after"\n'


@pytest.mark.parametrize("kind", ["missing", "foreign", "text", "newer", "cut"])
def test_what_is_no_backup_is_refused_and_nothing_is_moved(
    bare: Run, tmp_path: Path, kind: str
) -> None:
    database, file = tmp_path / "data/memx.db", tmp_path / "backup.db"
    database.parent.mkdir()
    database.write_bytes(b"what was there")
    connection = sqlite3.connect(file)
    identity = 1 if kind == "foreign" else 0x6D656D58
    connection.executescript(
        f"CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(50000)); PRAGMA application_id={identity};"
        f"PRAGMA user_version={99 if kind == 'newer' else 1};"
    )
    connection.close()
    if kind == "missing":
        file.unlink()
    elif kind == "text":
        file.write_text("not a database " * 100)
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:20_000])

    refused = bare("restore", str(file), "--data", str(database.parent))
    assert refused.code == 1, refused.err
    assert "error:" in refused.err
    assert database.read_bytes() == b"what was there"


def test_a_redis_is_named_its_own_means(bare: Run, tmp_path: Path) -> None:
    refused = bare("backup", str(tmp_path / "b"), "--data", "redis://localhost")
    assert refused.code == 1
    assert "BGSAVE" in refused.err


def test_what_the_original_left_goes_to_its_spaces(
    here: Run,
    bare: Run,
    shared_server: DevServer,
    redis_any: RedisServer,
    prefix: str,
    tmp_path: Path,
) -> None:
    client = redis.Redis.from_url(redis_any.url)
    prefix = f"team:{prefix}"  # alone it would look like a user's
    own = {
        f"memx:value:{prefix}goal": '{"value": {"n": 1.50}, "ts": 1700000000.5}',
        f"memx:schema:{prefix}goal": '{"type": "object"}',
        f"memx:value:0a1b2c3d:{prefix}mine": '{"value": "ann\'s", "ts": 1}',
        f"memx:value:deadbeef:{prefix}whose": '{"value": 1, "ts": 1}',
        f"memx:value:cafecafe:{prefix}unknown": '{"value": 1, "ts": 1}',
        f"memx:value:{prefix}nan": '{"value": NaN, "ts": 1}',
        f"memx:value:{prefix}a*": '{"value": 1, "ts": 1}',
    }
    client.mset(own)
    client.set(f"memx:value:{prefix}soon", '{"value": true, "ts": 1}', ex=600)
    try:
        folder = tmp_path / "dumps"
        users = ("--user", ANN, "--user", BEN, "--user", BEA)
        migrated = bare("migrate", redis_any.url, "-o", str(folder), *users)
        (finding,) = remedies(redis_any.url)
    finally:
        client.delete(*own, f"memx:value:{prefix}soon")
        client.close()
    assert migrated.code == 0, migrated.err
    assert "memx migrate" in finding
    left = (folder / "left.txt").read_text()
    for key, why in (("whose", "2 users"), ("unknown", "--user"), ("nan", "no JSON"), ("a*", "a*")):
        assert f"{prefix}{key}\t" in left
        assert why in left
    (mine,) = [
        line["entry"]["key"]
        for line in map(json.loads, (folder / f"{ANN}.jsonl").read_text().splitlines())
        if "entry" in line
    ]
    assert mine == f"{prefix}mine"

    assert here("import", str(folder / "default.jsonl")).code == 0
    assert here("get", f"{prefix}goal").out == '{"n": 1.50}\n'
    assert here("schema", "get", f"{prefix}goal").out == '{"type":"object"}\n'
    assert here("get", f"{prefix}soon", "--json").document["expires_at"] is not None


def remedies(url: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDIS_URL", url)
        return [finding.remedy for finding in backups.check_original()]


def test_a_redis_that_is_away_is_told(bare: Run, tmp_path: Path) -> None:
    refused = bare("migrate", "redis://127.0.0.1:9", "-o", str(tmp_path / "d"))
    assert refused.code == 7
    assert bare("migrate", "nonsense", "-o", str(tmp_path / "e")).code == 1
